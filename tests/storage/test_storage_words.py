"""What the command line says of storages, and of a database that does not answer."""

import logging
from pathlib import Path

import pytest
from sqlalchemy import exc

from hpo.cli import main
from hpo.errors import UsageError
from hpo.storage import transactions
from hpo.storage.url import read, redacted


def test_a_files_name_is_shown_as_it_was_given() -> None:
    with pytest.raises(UsageError, match=r"the storage 'study\.db' is not a URL; write sqlite:///file\.db"):
        read("study.db")
    assert "hunter2" not in redacted("user:hunter2@host")


@pytest.mark.parametrize("url", ["postgres://h/d", "postgresql://h/d", "postgresql+psycopg2://h/d"])
def test_postgresql_is_reached_by_the_one_driver_there_is(url: str) -> None:
    assert read(url).drivername == "postgresql+psycopg"


def test_a_look_makes_no_database(
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
    from hpo import __version__

    monkeypatch.setattr("sys.argv", ["hpo", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None) and capsys.readouterr().out.strip() == __version__


def test_a_database_that_does_not_answer_for_seconds_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(Exception):
        """As sqlite3 says it."""

    Locked.__module__ = "sqlite3"
    failures = []

    def work() -> str:
        if len(failures) < 12:
            failures.append(True)
            raise exc.OperationalError("select", {}, Locked("database is locked"))
        return "there"

    monkeypatch.setattr(transactions.time, "sleep", lambda _: None)
    with caplog.at_level(logging.WARNING, "hpo"):
        assert transactions.retry(work, 60.0) == "there"
    [record] = caplog.records
    assert record.getMessage() == "the database does not answer (database is locked); waiting up to 60 s for it"
