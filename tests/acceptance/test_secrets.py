"""A database's password is in no output, log, file, table or process list, however it is given and whatever fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from command_line import CommandLine
from fork_server import ROOT, ForkServer, LoggedChild
from postgres_server import PostgresServer, program

from hpo.storage.database import connect

PIECES = ("Zq7xK", "Vw9yT")  # what is looked for: nothing else has these, and no way of quoting changes them
PASSWORD = r"{}{{x}}%41@:/ \{}".format(*PIECES)
STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study, log_range
RATE = {"learning_rate": log_range(1e-3, 1e-2), "weight_decay": 1e-3}
STUDY = Study(data=Mnist1d(samples=200), model=MLP((40, 8, 10)), batch_size=32, epochs=1, trials=2, seeds=2,
    tuning_runs=1, baseline="A",
    configurations=(Configuration("A", space=RATE), Configuration("B", regularizer="sam", space=RATE)))
"""


class SecretDatabase(CommandLine):
    """A folder with a study, a database of the user "ann", and all that could be seen of hpo there.

    Attributes:
        url: with the password. bare_url: without it. password_file: for libpq.
        outputs: what commands have printed. command_lines: those of their processes.
    """

    def __init__(self, fork_server: ForkServer, server: PostgresServer, folder: Path) -> None:
        super().__init__(fork_server, folder, HPO_CACHE=str(folder / "cache"))
        self.write_study("small", STUDY)
        self.postgresql = server
        server.execute(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE secret OWNER ann")
        self.bare_url = server.url("secret", "ann", "")
        self.url = server.url("secret", "ann", PASSWORD)
        self.password_file = folder.parent / "passwords"
        fields = ["127.0.0.1", str(server.port), "secret", "ann", PASSWORD]
        self.password_file.write_text(":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields))
        self.password_file.chmod(0o600)
        self.outputs: list[str] = []
        self.command_lines: set[bytes] = set()

    def finish(self, child: LoggedChild, code: int = 0) -> str:
        output = super().finish(child, code)
        self.outputs.append(child.text())
        return output

    def start_program(self, *words: str) -> "subprocess.Popen[str]":
        """`python -m hpo WORDS`, whose processes have the command lines that a user sees."""
        variables = {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", "HPO_STORAGE": self.url}
        return subprocess.Popen(
            [sys.executable, "-m", "hpo", *words],
            cwd=self.folder, env=os.environ | self.environment | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


@pytest.fixture(scope="module")
def database(
    fork_server: ForkServer, postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> SecretDatabase:
    return SecretDatabase(fork_server, postgresql, tmp_path_factory.mktemp("secrets") / "work")


def contains_password(text: str | bytes) -> bool:
    searched = text if isinstance(text, bytes) else text.encode()
    return any(piece.encode() in searched for piece in PIECES)


def look_everywhere(database: SecretDatabase) -> None:
    """Raises AssertionError where a piece of the password is found."""
    assert database.outputs and not any(map(contains_password, database.outputs))
    assert not any(map(contains_password, database.command_lines))
    files = [path for path in database.folder.rglob("*") if path.is_file()]
    assert any(path.name == "README.md" for path in files)
    assert not [path for path in files if contains_password(path.read_bytes())]
    dump = subprocess.run(
        [program("pg_dump"), "--dbname", database.postgresql.url("secret")], capture_output=True, text=True, check=True
    ).stdout
    assert "hpo_slots" in dump and "trial_params" in dump and not contains_password(dump)


def test_a_password_would_be_found(database: SecretDatabase) -> None:
    assert contains_password(database.url) and contains_password(quote(PASSWORD)) and contains_password(repr(PASSWORD))
    assert not contains_password(database.bare_url)


def test_a_study_from_run_to_report(database: SecretDatabase) -> None:
    in_variable = {"HPO_STORAGE": database.bare_url, "PGPASSWORD": PASSWORD}
    in_file = {"HPO_STORAGE": database.bare_url, "PGPASSFILE": str(database.password_file)}
    assert "report: reports/" in database.run("run", "small", "--workers", "1", HPO_STORAGE=database.url)
    database.run("worker", "small", "--name", "another", **in_variable)
    database.run("report", "another", **in_file)
    assert "another" in database.run("status", **in_variable)
    assert "ann" in database.run("doctor", **in_file)
    look_everywhere(database)


def test_commands_that_fail(database: SecretDatabase) -> None:
    whole, port = database.url, f":{database.postgresql.port}"
    for url in [
        whole.replace("ann:", "bob:"),
        whole.replace("ann:", "ann:@"),
        whole.replace("/secret", "/absent"),
        whole.replace("postgresql", "mysql"),
        whole.replace("@127.0.0.1", "@no.host.invalid"),
        whole.replace(port, ":port"),
        whole.replace(port, ":1"),
        database.bare_url.replace("ann@", f"ann:{PASSWORD}@"),
        f"{database.bare_url}?password={quote(PASSWORD, safe='')}x",
        f"nonsense {PASSWORD}",
    ]:
        child = database.start("status", HPO_STORAGE=url)
        assert child.wait() in (1, 2)
        message = child.text()
        assert message.startswith("hpo: ") and message.count("\n") == 1 and not contains_password(message)


def test_crashes(database: SecretDatabase) -> None:
    """A worker and the process that started it abort with a dump; a defect of hpo prints a traceback."""
    process = database.start_program("run", "small", "--name", "crash", "--epochs", "3000", "--workers", "2")
    engine = connect(database.postgresql.url("secret"))
    leased = sa.text("SELECT count(*) FROM hpo_slots WHERE state = 'leased'")
    while True:
        with engine.begin() as connection:
            if connection.execute(leased).scalar_one():
                break
        assert process.poll() is None
        time.sleep(0.05)
    workers = {pid: command_line(pid) for pid in descendants(process.pid)}
    assert len(workers) == 2 and all(b"worker" in command for command in workers.values())
    database.command_lines = {command_line(process.pid), *workers.values()}
    os.kill(min(workers), signal.SIGABRT)
    time.sleep(0.5)
    process.send_signal(signal.SIGABRT)
    output, _ = process.communicate(timeout=60)
    database.outputs.append(output)
    assert output.count("Fatal Python error: Aborted") == 2

    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE hpo_failures RENAME COLUMN cause TO reason"))
    engine.dispose()
    assert "Traceback" in database.run("status", code=1, HPO_STORAGE=database.url)
    look_everywhere(database)
