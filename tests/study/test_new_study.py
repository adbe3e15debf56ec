"""`hpo new`: the file it writes, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.report.warnings import few_trials
from hpo.study.definition import describe
from hpo.study.fingerprint import fingerprint
from hpo.study.loading import BUILT_IN, load
from hpo.study.scaffold import write_study

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder as the working directory; what loading adds to the interpreter is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def hpo(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs a command in the folder; returns what it printed on the stream that matters."""
    environment = os.environ | {"HPO_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hpo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def test_the_written_study_is_whole() -> None:
    path = write_study("my_idea")
    assert path == Path("studies/my_idea.py")
    assert "NAME" not in path.read_text()
    study = load("my_idea")
    assert study.name == study.title == "my_idea"
    assert (study.tuning_runs, study.seeds % 3) == (3, 0)
    assert not few_trials(describe(study), study.trials)
    assert describe(study)["configurations"][1]["regularizer"] == "my_idea"
    assert "study file: grads" in fingerprint(study)
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_it_is_written_and_tried_from_the_command_line(folder: Path) -> None:
    assert hpo(folder, "new", "my_idea").splitlines() == [
        "wrote studies/my_idea.py; next:",
        "  hpo try my_idea -c Mine",
        "  hpo run my_idea",
    ]
    result = json.loads(hpo(folder, "try", "my_idea", "-c", "Mine", "strength=0.5", "--epochs", "2", "--json"))
    assert len(result["curves"]["aux/penalty"]) == 2
    assert result["diverged_epoch"] is None
    message = hpo(folder, "new", "my_idea", code=2)
    assert message == "hpo: studies/my_idea.py exists already; choose another name, or delete it first\n"


def test_a_study_is_copied(folder: Path) -> None:
    assert hpo(folder, "new", "--from", "rogc:noisy").splitlines() == [
        "wrote studies/rogc.py; next:",
        "  hpo run rogc:noisy",
    ]
    original = BUILT_IN / "rogc.py"
    assert (folder / "studies" / "rogc.py").read_text() == original.read_text()
    assert write_study("second", "rogc").read_text() == original.read_text()
    assert load("second:clean").name == "second-clean"
    assert "gnvr" in hpo(folder, "new", "--from", "gnvrr", code=2)
    assert hpo(folder, "new", code=2).startswith("hpo: give the new study a name")


def test_what_is_there_is_left_alone(folder: Path) -> None:
    (folder / "studies").mkdir()
    (folder / "studies" / "mine.py").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.py exists already"):
        write_study("mine")
    assert (folder / "studies" / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a/b", "../a", "mine.py", "1st", "_hidden", "a-b", "my idea", "a:b", "größe"])
def test_a_name_that_cannot_be_a_studys_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(UsageError, match="begin with a letter and use letters, digits and '_'") as caught:
        write_study(name)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_told(folder: Path) -> None:
    (folder / "studies").write_text("a file in the folder's place")
    with pytest.raises(UsageError, match="studies exists already"):
        write_study("mine")
