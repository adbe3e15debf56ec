"""An edit between two runs of one study, from the command line: refused, or accepted and told in the report."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hpo

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


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs hpo in a folder with a study whose network has a width from another file; returns exit code and output."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "s.py").write_text(STUDY)
    package = str(Path(hpo.__file__).parent.parent)
    paths = {"PYTHONPATH": os.pathsep.join([package, str(tmp_path)]), "HPO_CACHE": str(tmp_path / "cache")}

    def run(width: int, *arguments: str) -> tuple[int, str]:
        (tmp_path / "shared.py").write_text(f"WIDTH = {width}\n")
        whole = [sys.executable, "-m", "hpo", *arguments, "--device", "cpu"]
        environment = {**os.environ, **paths, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    return run


def test_an_edit_in_another_file_is_refused_by_run_and_worker_until_it_is_accepted(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    one = ("--workers", "1")
    assert command(8, "run", "s", *one)[0] == 0
    for subcommand in (("run", "s", "--trials", "2", *one), ("worker", "s")):
        code, output = command(16, *subcommand)
        assert code == 2 and "shared.py: WIDTH" in output and "--accept-changed-code" in output
        assert len(output.strip().splitlines()) == 1
    code, output = command(16, "run", "s", "--trials", "2", "--accept-changed-code", *one)
    assert code == 0 and "shared.py: WIDTH" in output
    assert "shared.py: WIDTH" in (tmp_path / "reports" / "s" / "README.md").read_text()
