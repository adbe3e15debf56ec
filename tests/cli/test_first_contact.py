"""What the command line does before there is any study."""

from pathlib import Path

import pytest

from hpo import __version__
from hpo.cli import main


def test_status_creates_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_STORAGE", raising=False)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    monkeypatch.setattr("sys.argv", ["hpo", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None) and "no studies yet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["hpo", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None) and capsys.readouterr().out.strip() == __version__
