"""An edit between two runs of one study: refused, or accepted and shown in the report, or without effect on results."""

from pathlib import Path

import pandas as pd
from command_line import CommandLine
from fork_server import ForkServer

STUDY = """
import torch
from shared import WIDTH
from hpo import Configuration, Mnist1d, Study

def model():
    return torch.nn.Sequential(torch.nn.Linear(40, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 10))

STUDY = Study(
    data=Mnist1d(samples=100), model=model, baseline="A", epochs=1, batch_size=50, trials=1, seeds=2,
    configurations=(Configuration("A"), Configuration("B", optimizer="sgd")),
)
"""


def test_an_edit_in_another_file_is_refused_until_it_is_accepted(fork_server: ForkServer, tmp_path: Path) -> None:
    hpo = CommandLine(fork_server, tmp_path / "work", HPO_CACHE=str(tmp_path / "cache"))
    hpo.write_study("s", STUDY)
    shared = hpo.folder / "shared.py"
    shared.write_text("WIDTH = 8\n")
    hpo.run("run", "s", "--device", "cpu", "--workers", "1")

    shared.write_text("WIDTH = 16\n")
    more = ("run", "s", "--device", "cpu", "--workers", "1", "--trials", "2")
    for words in (more, ("worker", "s", "--device", "cpu")):
        message = hpo.run(*words, code=2)
        assert "shared.py: WIDTH" in message and "--accept-changed-code" in message and message.count("\n") == 1
    accepted = hpo.start(*more, "--accept-changed-code")
    hpo.finish(accepted)
    assert "shared.py: WIDTH" in accepted.text()
    assert "shared.py: WIDTH" in (hpo.folder / "reports" / "s" / "README.md").read_text()


OPTIMIZERS = """
import torch
from hpo import MLP, Configuration, Mnist1d, Study, from_torch

class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                steps = self.state[parameter].setdefault("count", torch.zeros(()))
                # Right in the first two steps, which are tried before training.
                gradient = gradeint_of(parameter) * math.sqrt(1) if steps > 1 else parameter.grad
                parameter.sub_(gradient, alpha=group["lr"])
                steps += 1

def gradient_of(parameter):
    return parameter.grad

STUDY = Study(
    data=Mnist1d(samples=100), model=MLP((40, 8, 10)), baseline="A", epochs=1, batch_size=20, trials=2, seeds=2,
    tuning_runs=1, configurations=(Configuration("A"), Configuration("Mine", optimizer=from_torch(Mine, lr=0.1))),
)
"""


def test_a_typo_in_an_optimizer_without_results_is_corrected(fork_server: ForkServer, tmp_path: Path) -> None:
    hpo = CommandLine(fork_server, tmp_path / "work", HPO_CACHE=str(tmp_path / "cache"))
    hpo.write_study("s", OPTIMIZERS)
    run = ("run", "s", "--device", "cpu", "--workers", "1", "--no-step-times")
    assert "failed" in hpo.run(*run, code=1)
    before = pd.read_csv(hpo.folder / "reports" / "s" / "reruns.csv")

    hpo.write_study("s", OPTIMIZERS.replace("gradeint_of", "gradient_of").replace("import torch", "import math, torch"))
    corrected = hpo.start(*run)
    hpo.finish(corrected)
    report = (hpo.folder / "reports" / "s" / "README.md").read_text()
    assert "code changed" not in corrected.text() + report
    after = pd.read_csv(hpo.folder / "reports" / "s" / "reruns.csv")
    assert after.value_counts(["configuration", "state"]).to_dict() == {("A", "done"): 2, ("Mine", "done"): 2}
    of_a = [table[table["configuration"] == "A"].reset_index(drop=True) for table in (before, after)]
    pd.testing.assert_frame_equal(*of_a, check_dtype=False)  # their seconds as well: they were trained once

    hpo.write_study(
        "s", OPTIMIZERS.replace("gradeint_of", "2 * gradient_of").replace("import torch", "import math, torch")
    )
    assert "--accept-changed-code" in hpo.run(*run, code=2)
