"""Engines: pragmas, errors in one sentence, retries, passwords, and eight processes on one fresh file."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

import hpo
from hpo import schema
from hpo.database import connect, now, redacted, retrying
from hpo.errors import HpoError, UsageError

ROOT = Path(hpo.__file__).parents[1]
CREATE = """
import sys
from hpo.database import connect
from hpo.mirror import open_storage
engine = connect(sys.argv[1])
open_storage(engine).get_all_studies()
"""


def test_sqlite_is_opened_with_a_write_ahead_log(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
        assert abs(now(connection) - time.time()) < 1


def test_a_transaction_locks_before_it_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    first, second = connect(url), sa.create_engine(url, connect_args={"timeout": 0.05})
    with first.begin() as connection:
        connection.execute(sa.select(schema.studies.c.id))
        with pytest.raises(OperationalError, match="locked"), second.begin() as other:
            other.exec_driver_sql("DELETE FROM hpo_studies")
    second.dispose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@db/hpo", "postgresql://ann:***@db/hpo"),
        ("postgresql://ann@db/hpo?password=s3cret", "postgresql://ann@db/hpo"),
        ("sqlite:///hpo.db", "sqlite:///hpo.db"),
        ("postgresql://ann:s3cret@db:port/hpo", "postgresql://…"),
        ("ann:s3cret@db/hpo", "…"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("nonsense", UsageError, "no URL"),
        ("mysql://u:s3cret@h/d", UsageError, "sqlite:///"),
        ("sqlite://", UsageError, "needs a file"),
        ("sqlite:////no/such/folder/t.db", HpoError, "does not exist"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", HpoError, "psycopg|cannot be used"),
    ],
)
def test_bad_storages_are_one_sentence(url: str, kind: type[HpoError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        connect(url)
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("once upon a time " * 100)
    with pytest.raises(HpoError, match="not a database"):
        connect(f"sqlite:///{tmp_path}/t.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(HpoError, match="cannot be written"):
        connect(f"sqlite:///{tmp_path}/t.db")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with connect(url).begin() as connection:
        connection.execute(sa.update(schema.version).values(version=99))
    with pytest.raises(HpoError, match=r"schema 99 .* reads 1"):
        connect(url)


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    failures = [3]

    def work(connection: sa.Connection) -> int:
        failures[0] -= 1
        if failures[0] >= 0:
            import sqlite3

            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        return connection.scalar(sa.select(schema.version.c.version)) or 0

    assert retrying(engine, work) == schema.VERSION
    failures[0] = 1000
    with pytest.raises(HpoError, match="database is locked"):
        retrying(engine, work, patience=0.2)


def test_eight_processes_create_one_fresh_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CREATE, f"sqlite:///{tmp_path}/t.db"]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 8, errors
    with connect(command[-1]).begin() as connection:
        assert connection.scalars(sa.select(schema.version.c.version)).all() == [schema.VERSION]
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1
