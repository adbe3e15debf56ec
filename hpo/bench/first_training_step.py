"""A process that imports hpo, builds 20 models of a study and ends after their first training step.

`python -m hpo.bench.first_training_step DEVICE`
"""

import os
import sys
from typing import Any

from hpo import MLP, Configuration, Mnist1d, Study

MODELS = 20


def main(device_option: str) -> None:
    from hpo.training.devices import choose_device, cpu_cores, prepare_process
    from hpo.training.population import Population
    from hpo.trials import Slot, Work
    from hpo.worker.trainer import Trainer

    device = choose_device(device_option)
    prepare_process(cpu_cores(), device)
    study = Study(
        data=Mnist1d(label_noise=0.2),
        model=MLP((40, 256, 256, 10)),
        baseline="AdamW",
        configurations=(Configuration("AdamW"), Configuration("GNVR", regularizer="gnvr")),
        name="first-step",
    )
    step = Population.step

    def step_and_exit(*arguments: Any, **options: Any) -> None:
        scalars = step(*arguments, **options)
        assert all(value.isfinite().all() for value in scalars.values())  # on CUDA, this waits for the step's end
        os._exit(0)

    Population.step = step_and_exit  # type: ignore[assignment,method-assign]
    trainer = Trainer(study, device)
    setting = trainer.setting_to_try("GNVR", {})
    trainer(Work("GNVR", "tune", [Slot(number + 1, number, 0, 1, setting) for number in range(MODELS)]))
    raise SystemExit("no training step was made")


if __name__ == "__main__":
    main(sys.argv[1])
