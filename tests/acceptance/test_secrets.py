"""A database's password is in no output, log, file, table or process list, however it is given and whatever fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from nursery import ROOT, Nursery
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


class Place:
    """A folder with a study, a database of the user "ann", and all that was seen of hpo there."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        (folder / "studies").mkdir()
        (folder / "studies" / "small.py").write_text(STUDY)
        server.execute(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE secret OWNER ann")
        self.bare = server.url("secret", "ann", "")
        self.whole = server.url("secret", "ann", PASSWORD)
        self.key = folder.parent / "passwords"
        fields = ["127.0.0.1", str(server.port), "secret", "ann", PASSWORD]
        self.key.write_text(":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields))
        self.key.chmod(0o600)
        self.outputs: list[str] = []
        self.commands: set[bytes] = set()

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        names = ("HPO_STORAGE", "OPTUNA_STORAGE", "PGPASSWORD", "PGPASSFILE")
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        own = {"PYTHONPATH": str(ROOT), "HPO_CACHE": str(self.folder / "cache"), "PYTHONFAULTHANDLER": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "hpo", *words],
            cwd=self.folder, env=inherited | own | environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def hpo(self, *words: str, code: int = 0, **environment: str) -> str:
        """Runs a command to its end while its process and its workers are watched; returns what it said."""
        process = self.start(*words, **environment)
        over = threading.Event()
        watching = threading.Thread(target=self.watch, args=(process.pid, over))
        watching.start()
        said, _ = process.communicate(timeout=120)
        over.set()
        watching.join()
        self.outputs.append(said)
        assert process.returncode == code, said
        return said

    def watch(self, pid: int, over: threading.Event) -> None:
        while not over.wait(0.02):
            self.commands |= {command for command in map(command_line, [pid, *descendants(pid)]) if command}


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
def place(postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("secrets") / "work"
    folder.mkdir()
    return Place(postgresql, folder)


def ways(place: Place) -> Mapping[str, Mapping[str, str]]:
    """The environment by the way in which the password is given."""
    return {
        "URL": {"HPO_STORAGE": place.whole},
        "PGPASSWORD": {"HPO_STORAGE": place.bare, "PGPASSWORD": PASSWORD},
        "PGPASSFILE": {"HPO_STORAGE": place.bare, "PGPASSFILE": str(place.key)},
    }


def tells(text: str | bytes) -> bool:
    found = text if isinstance(text, bytes) else text.encode()
    return any(piece.encode() in found for piece in PIECES)


def look_everywhere(place: Place) -> None:
    """Raises AssertionError where a piece of the password is found."""
    assert place.outputs and not [said for said in place.outputs if tells(said)]
    assert any(b"worker" in command for command in place.commands)
    assert not [command for command in place.commands if tells(command)]
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert any(path.name == "README.md" for path in files)
    assert not [path for path in files if tells(path.read_bytes())]
    dump = subprocess.run(
        [program("pg_dump"), "--dbname", place.server.url("secret")], capture_output=True, text=True, check=True
    ).stdout
    assert "hpo_slots" in dump and "trial_params" in dump and not tells(dump)


def test_what_is_looked_for_would_be_found(place: Place) -> None:
    assert tells(place.whole) and tells(quote(PASSWORD)) and tells(repr(PASSWORD)) and not tells(place.bare)


def test_a_study_from_run_to_report(place: Place) -> None:
    found = ways(place)
    assert "report: reports/" in place.hpo("run", "small", "--workers", "2", **found["URL"])
    place.hpo("worker", "small", "--name", "another", **found["PGPASSWORD"])
    place.hpo("report", "another", **found["PGPASSFILE"])
    assert "another" in place.hpo("status", **found["PGPASSWORD"])
    assert "ann" in place.hpo("doctor", **found["PGPASSFILE"])
    look_everywhere(place)


def test_commands_that_fail(place: Place, nursery: Nursery, tmp_path: Path) -> None:
    whole, output = place.whole, tmp_path / "said.txt"
    urls = [
        whole.replace("ann:", "bob:"),
        whole.replace("ann:", "ann:@"),
        whole.replace("/secret", "/absent"),
        whole.replace("postgresql", "mysql"),
        whole.replace("@127.0.0.1", "@no.host.invalid"),
        whole.replace(f":{place.server.port}", ":port"),
        whole.replace(f":{place.server.port}", ":1"),
        place.bare.replace("ann@", f"ann:{PASSWORD}@"),
        f"{place.bare}?password={quote(PASSWORD, safe='')}x",
        f"nonsense {PASSWORD}",
    ]
    for url in urls:
        output.unlink(missing_ok=True)
        child = nursery.start("storage_worker:command", "status", output=output, environment={"HPO_STORAGE": url})
        assert child.wait() in (1, 2)
        said = child.text()
        assert said.startswith("hpo: ") and said.count("\n") == 1 and not tells(said)


def test_crashes(place: Place) -> None:
    """A worker and the process that started it are made to dump where they are; so does a defect of ours."""
    process = place.start("run", "small", "--name", "crash", "--epochs", "3000", HPO_STORAGE=place.whole)
    engine = connect(place.server.url("secret"))
    leased = sa.text("SELECT count(*) FROM hpo_slots WHERE state = 'leased'")
    while True:
        with engine.begin() as connection:
            if connection.execute(leased).scalar_one():
                break
        assert process.poll() is None
        time.sleep(0.05)
    worker = next(pid for pid in descendants(process.pid) if b"worker" in command_line(pid))
    place.watch(process.pid, over=_soon())
    os.kill(worker, signal.SIGABRT)
    time.sleep(0.5)
    process.send_signal(signal.SIGABRT)
    said, _ = process.communicate(timeout=60)
    place.outputs.append(said)
    assert said.count("Fatal Python error: Aborted") == 2

    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE hpo_failures RENAME COLUMN cause TO reason"))
    assert "Traceback" in place.hpo("status", code=1, HPO_STORAGE=place.whole)
    look_everywhere(place)


def _soon() -> threading.Event:
    over = threading.Event()
    threading.Timer(0.1, over.set).start()
    return over
