"""Launches: which workers were started together, on which engine, and where their logs are."""

import json
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from hpo.errors import UsageError, did_you_mean
from hpo.storage.url import is_file, redacted
from hpo.study.study_files import study_name

FOLDER = Path(".hpo") / "launches"

EngineName = Literal["local", "slurm", "ray"]


class WorkerState(NamedTuple):
    """One worker of a launch: its number from 1; its state; its host, and its job or process.

    The state is "running", "pending", "ended" or, for a process of another machine, "unknown".
    """

    number: int
    state: str
    where: str


@dataclass(frozen=True)
class Launch:
    """Workers that were started by one command.

    Attributes:
        name: identifies it in `hpo launch --stop` and `--logs`. engine: what started its workers.
        command: a worker's command line. workers: how many were started.
        data: what the engine needs to find its workers again. created: seconds since 1970.
    """

    name: str
    study: str
    engine: EngineName
    command: list[str]
    workers: int
    data: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0

    @property
    def folder(self) -> Path:
        """The folder of its record and its logs."""
        return (FOLDER / self.name).resolve()


class Engine(Protocol):
    """What starts workers and finds them again."""

    def hosts(self) -> set[str]:
        """The names of the hosts that workers may run on."""

    def start(self, launch: Launch) -> dict[str, Any]:
        """Starts the workers; returns the launch's `data`."""

    def states(self, launch: Launch) -> list[WorkerState]:
        """The state of every worker, by number."""

    def logs(self, launch: Launch) -> list[str]:
        """What each worker has printed so far, by number; '' before it starts."""

    def stop(self, launch: Launch) -> None:
        """Asks all workers to release their leases and end."""


def check_reachable(url: str, engine: Engine) -> None:
    """Refuses a database that workers on other hosts cannot reach.

    Raises:
        UsageError: the database is a SQLite file and workers may run on other hosts.
    """
    if not is_file(url):
        return
    others = engine.hosts() - {socket.gethostname(), socket.gethostname().partition(".")[0]}
    if others:
        raise UsageError(
            f"the storage {redacted(url)} is a file on this host and workers may run on others, such as {min(others)}; "
            "give --storage postgresql://user@host/name"
        )


def new_launch(study: str, engine: EngineName, command: Sequence[str], workers: int) -> Launch:
    """A launch with a new name, not yet started."""
    stem = study.replace("/", "-").replace(":", "-").removesuffix(".py")
    name = f"{stem}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return Launch(name, study, engine, list(command), workers, created=time.time())


def save(launch: Launch, data: Mapping[str, Any]) -> Launch:
    """Stores the record of a started launch; returns it with `data`."""
    started = Launch(**{**asdict(launch), "data": dict(data)})
    launch.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(started), indent=1)
    temporary = launch.folder / "launch.json.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(launch.folder / "launch.json")
    return started


def text_of(log: Path) -> str:
    """What a log contains; '' if there is none yet."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def launches() -> list[Launch]:
    """The launches recorded in this folder, the oldest first."""
    records = [Launch(**json.loads(path.read_text(encoding="utf-8"))) for path in FOLDER.glob("*/launch.json")]
    return sorted(records, key=lambda launch: launch.created)


def find(name: str) -> Launch:
    """The launch called `name`, or the newest one of the study called `name`, or of that which a reference names.

    Raises:
        UsageError: there is none.
    """
    known = launches()
    matches = [launch for launch in known if launch.name == name or launch.study in (name, study_name(name))]
    if not matches:
        names = [launch.name for launch in known]
        raise UsageError(
            f"no launch {name!r} was started from this folder; there are: {', '.join(names) or 'none'}"
            f"{did_you_mean(name, names)}"
        )
    return matches[-1]
