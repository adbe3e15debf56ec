"""Benchmark: start-up, from the command to `hpo --help`, to a training step, and to the first one of `hpo run`.

`python -m hpo.bench.startup DEVICE` is the process that is timed: it ends after the first step of 20 models.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo import MLP, Configuration, Mnist1d, Study, __version__
from hpo.bench.table import OnRow, Row
from hpo.errors import HpoError

MODELS = 20
PARTS = {  # part → arguments of Python, and the seconds that it must stay below
    "hpo --help": (("-m", "hpo", "--help"), 0.5),
    "import to the first training step": (("-m", "hpo.bench.startup", "{device}"), 4.0),
}
RUN, RUN_LIMIT = "hpo run to a worker's first training step", 6.0
COLUMNS = {
    "part": (64, "{part:64}"),
    "seconds": (8, "{seconds:.3f}"),
    "minimum": (8, "{minimum:.3f}"),
    "of a core": (9, "{processor_seconds:.3f}"),
    "limit": (6, "{limit_seconds:g}"),
    "peak MiB": (8, "{mib:.0f}"),
}
# The first step of each worker leaves a file and ends its process.
STUDY = """
import os
from pathlib import Path
from hpo import MLP, Configuration, Mnist1d, Study
from hpo.training.population import Population

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("GNVR", regularizer="gnvr")),
)
step = Population.step

def step_and_exit(*arguments, **options):
    step(*arguments, **options)
    Path({file!r}).touch()
    os._exit(0)

Population.step = step_and_exit
"""
# A small process stands between this one and the command, because Linux hands the parent's peak down to its children.
_TIMER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
process = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, process.returncode, process.stderr]))
"""


def measure(device: str, repetitions: int, on_row: OnRow) -> Row:
    """Times every part in new processes.

    Returns:
        JSON values: "cores", "load" (runnable processes over the last minute), and "rows": `time_command`'s values,
        with "part" and "limit_seconds".
    """
    rows = []
    load = os.getloadavg()[0]
    for part, (command, limit) in PARTS.items():
        cost = time_command([argument.format(device=device) for argument in command], repetitions)
        rows.append({"part": part, **cost, "limit_seconds": limit})
        on_row(rows[-1])
    times = [time_run(device) for _ in range(repetitions)]
    rows.append({"part": RUN, "seconds": statistics.median(times), "minimum": min(times), "limit_seconds": RUN_LIMIT})
    on_row(rows[-1])
    setting = {"hpo": __version__, "cores": os.cpu_count(), "load": load, "repetitions": repetitions}
    return {**setting, "rows": rows}


def summary(result: Row) -> str:
    return f"{result['cores']} cores, load {result['load']:.1f}; medians of {result['repetitions']}"


def time_command(
    command: Sequence[str],
    repetitions: int,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> dict[str, float]:
    """Costs of a command's process, from its start to its end.

    Args:
        command: arguments of this Python. environment: variables to add for it. folder: where it runs.

    Returns:
        "seconds" (median), "minimum", "processor_seconds" (minimum; they depend little on what else the machine does)
        and "mib", the largest peak.

    Raises:
        HpoError: the command failed.
    """
    runs = [_run(command, {**os.environ, **(environment or {})}, folder) for _ in range(repetitions)]
    seconds, processor, mib = zip(*runs, strict=True)
    least = {"minimum": min(seconds), "processor_seconds": min(processor)}
    return {"seconds": statistics.median(seconds), **least, "mib": max(mib)}


def time_run(device: str) -> float:
    """Seconds from the start of `hpo run` to the end of the first training step of one of its workers.

    Raises:
        HpoError: the command ended without one.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "first-step"
        (folder / "studies").mkdir()
        (folder / "studies/first.py").write_text(STUDY.format(file=str(file)))
        command = [sys.executable, "-m", "hpo", "run", "first", "--device", device, "--storage", "sqlite:///first.db"]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not file.exists() and process.poll() is None:
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        process.terminate()  # its workers end with it
        process.wait()
        if not file.exists():
            raise HpoError(f"hpo run ended with exit code {process.returncode} before its first training step")
        return seconds


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> tuple[float, float, float]:
    timer = [sys.executable, "-I", "-S", "-c", _TIMER, sys.executable, *command]
    result = subprocess.run(timer, capture_output=True, text=True, check=True, env=dict(environment), cwd=folder)
    seconds, processor_seconds, peak, code, errors = json.loads(result.stdout)
    if code:
        last = errors.strip().splitlines()[-1:] or ["it printed no error"]
        raise HpoError(f"python {' '.join(command)} ended with exit code {code}: {last[0]}")
    return seconds, processor_seconds, peak / (2**20 if sys.platform == "darwin" else 2**10)


def train_one_step(device_option: str) -> None:
    """Imports hpo, builds the models of a study and exits after their first training step."""
    from hpo.processor import cpu_cores
    from hpo.training.devices import choose_device, prepare_process
    from hpo.training.population import Population
    from hpo.trials import Slot, Work
    from hpo.worker.trainer import Trainer

    device = choose_device(device_option)
    prepare_process(cpu_cores(), device)
    configurations = (Configuration("AdamW"), Configuration("GNVR", regularizer="gnvr"))
    data, model = Mnist1d(label_noise=0.2), MLP((40, 256, 256, 10))
    study = Study(data=data, model=model, baseline="AdamW", configurations=configurations, name="first-step")
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
    train_one_step(sys.argv[1])
