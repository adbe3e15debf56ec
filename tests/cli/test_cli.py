"""The command line's sentences, read in this process: what is misspelt is named, with the name that was meant."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from storage_study import finish_all, make

from hpo import cli
from hpo.storage.database import connect

STUDY = '''
"""A small study."""
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(samples=100), model=MLP((40, 8, 10)), epochs=1, baseline="AdamW",
    configurations=(Configuration("AdamW"), Configuration("Mine", regularizer="gnvr")),
)
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[Path]:  # noqa: ARG001
    """A folder with one study as the working directory; what loading adds to the interpreter is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("HPO_STORAGE", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.py").write_text(STUDY)
    yield tmp_path
    sys.modules.pop("hpo_study_small", None)


def hpo(*arguments: str) -> int:
    """Runs a command; returns its exit code."""
    before = sys.argv
    sys.argv = ["hpo", *arguments]
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    finally:
        sys.argv = before
    return 0


NO_STUDY = "there is no study 'smal' in this database; it holds: small; did you mean 'small'?"
GIVE = "give NAME=NUMBER with one of learning_rate, weight_decay, beta1, beta2, epsilon"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("try small -c mien", "small has no configuration 'mien'; choose one of AdamW, Mine; did you mean 'Mine'?"),
        ("try small -c Mine lamda=1", f"'lamda=1' is no setting of 'Mine'; {GIVE}, lambda; did you mean 'lambda'?"),
        ("try small -c AdamW beta1", "'beta1' has no value; write for example beta1=0.1, without blanks"),
        ("report smal", NO_STUDY),
        ("status smal", NO_STUDY),
        ("status smal --watch", NO_STUDY),
        (
            "bench --regularizer gnrv",
            "there is no regularizer 'gnrv'; choose from none, sam, asam, vasso, gam, gam_paper, gam_adaptive, "
            "gvr, gvr_independent, gnvr, sgsc, clip_global, clip_sample, rogc; did you mean 'gnvr'?",
        ),
    ],
)
def test_a_misspelt_name(arguments: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(connect(f"sqlite:///{folder}/hpo.db"), "small")
    assert hpo(*arguments.split()) == 2
    assert capsys.readouterr().err == f"hpo: {sentence}\n"


@pytest.mark.parametrize(
    "arguments", [["--watch", "small"], ["small", "--watch"], ["--watch", "3", "small"], ["small", "--watch=0.5"]]
)
def test_the_watch_with_and_without_seconds(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(make(connect(f"sqlite:///{folder}/hpo.db"), "small"))
    assert hpo("status", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["small"]["state"] == "done"


def test_a_watch_that_would_never_rest_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert hpo("status", "--watch", "0") == 2
    assert "--watch" in capsys.readouterr().err
