"""An edit between two runs of one study: refused, or accepted and shown in the report."""

from pathlib import Path

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
