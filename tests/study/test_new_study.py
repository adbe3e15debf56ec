"""`hpo new`: the file it writes, and what it refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.errors import UsageError
from hpo.report.warnings import few_trials
from hpo.study.definition import describe
from hpo.study.fingerprint import fingerprint
from hpo.study.loading import load
from hpo.study.scaffold import write_study
from hpo.study.study_files import BUILT_IN

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def hpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command; returns what it printed on the stream that matters."""

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == code, out + err
        return err if code else out

    return run


def test_the_written_study_is_complete() -> None:
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


def test_it_is_written_and_tried_from_the_command_line(hpo: Callable[..., str]) -> None:
    assert [line for line in hpo("new", "my_idea").splitlines() if line.startswith("  hpo ")] == [
        "  hpo try my_idea -c Mine",
        "  hpo run my_idea",
    ]
    result = json.loads(hpo("try", "my_idea", "-c", "Mine", "strength=0.5", "--epochs", "1", "--json"))
    assert len(result["curves"]["aux/penalty"]) == 1
    assert result["diverged_epoch"] is None
    assert hpo("new", "my_idea", code=2).startswith("hpo: studies/my_idea.py exists already;")


def test_a_study_is_copied(folder: Path, hpo: Callable[..., str]) -> None:
    assert hpo("new", "--from", "rogc:noisy").splitlines()[1:] == ["  hpo run rogc:noisy"]
    original = BUILT_IN / "rogc.py"
    assert (folder / "studies" / "rogc.py").read_text() == original.read_text()
    assert write_study("second", "rogc").read_text() == original.read_text()
    assert load("second:clean").name == "second-clean"
    assert "gnvr" in hpo("new", "--from", "gnvrr", code=2)
    assert "give the new study a name" in hpo("new", code=2)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "mine.py", "1st", "_hidden", "a-b", "my idea", "a:b", "größe"])
def test_a_wrong_name_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        write_study(name)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("existing", ["studies/mine.py", "studies"])
def test_an_existing_file_is_not_changed(existing: str) -> None:
    Path(existing).parent.mkdir(exist_ok=True)
    Path(existing).write_text("mine")
    with pytest.raises(UsageError, match=f"{existing} exists already"):
        write_study("mine")
    assert Path(existing).read_text() == "mine"
