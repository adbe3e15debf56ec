"""Schedules of faults, drawn from seeds and carried out on a small study with real worker processes."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fork_server import Child, ForkServer
from storage_checks import check, read
from storage_study import make
from storage_worker import read_logs
from storages import Storage
from worker_processes import STUDY, start_worker

from hpo.storage import schema
from hpo.storage.database import connect


@dataclass(frozen=True)
class Fault:
    """`after` seconds after the previous fault, a worker is killed, or paused for some `seconds`, or started, or the
    database becomes unavailable."""

    kind: Literal["kill", "pause", "start", "outage"]
    after: float
    worker: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A study, its workers and their faults, all drawn from one seed."""

    seed: int
    planned: dict[str, int]
    workers: int
    population: int
    lease: float
    training: tuple[float, float]
    faults: Sequence[Fault]


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    lease = rng.choice([0.5, 1.0])
    faults = []
    for _ in range(rng.randint(2, 7)):
        kind = rng.choices(["kill", "pause", "start", "outage"], [5, 3, 2, 1])[0]
        pause = rng.uniform(0.5, 2.0) * lease  # some leases run out, some do not
        seconds = {"pause": pause, "outage": rng.uniform(0.1, 0.4)}.get(kind, 0.0)
        faults.append(Fault(kind, rng.expovariate(4.0), rng.randrange(8), seconds))  # type: ignore[arg-type]
    planned = {"trials": rng.choice([4, 12, 16]), "seeds": rng.choice([2, 3, 5]), "tuning_runs": rng.choice([1, 1, 2])}
    workers, population = rng.choice([1, 2, 8]), rng.choice([1, 3, 8])
    slots = 2 * (planned["trials"] * planned["tuning_runs"] + planned["seeds"])
    longest = min(1.2, rng.uniform(2.0, 8.0) * min(workers, 4) * population / slots)
    return Schedule(seed, planned, workers, population, lease, (0.02, longest), faults)


def outage(
    seconds: float, workers: int, lease: float = 60.0, training: tuple[float, float] = (0.1, 0.2), trials: int = 8
) -> Schedule:
    """The database is unavailable for some seconds while all workers train; there is no other fault."""
    planned = {"trials": trials, "seeds": 2, "tuning_runs": 1}
    return Schedule(-1, planned, workers, 2, lease, training, [Fault("outage", 0.2, seconds=seconds)])


class Run:
    """Carries out one schedule: its workers, and those that are paused at the moment."""

    def __init__(self, schedule: Schedule, fork_server: ForkServer, databases: Storage, folder: Path) -> None:
        self.schedule, self.fork_server, self.databases, self.folder = schedule, fork_server, databases, folder
        self.url = databases.create()
        self.ledger = make(connect(self.url), STUDY, **schedule.planned)
        self.running: list[Child] = []
        self.paused: list[tuple[float, Child]] = []
        self.started = 0

    def carry_out(self) -> Counter[str]:
        """Injects all faults, waits for the end and checks the study; returns counts of what happened."""
        for _ in range(self.schedule.workers):
            self.start()
        self._wait_for_work()
        for fault in self.schedule.faults:
            self._sleep(fault.after)
            getattr(self, fault.kind)(*self._arguments(fault))
        while self.paused:
            self._sleep(0.05)
        self.finish()
        log = read_logs(self.folder)
        (self.folder / "tables.json").write_text(json.dumps(self.ledger.export(), indent=1))
        check(self.ledger, self.url, log)
        counts = Counter(fault.kind for fault in self.schedule.faults)
        counts["lost"] = len(read(self.ledger, schema.failures))
        counts["late"] = sum(line["what"] == "late" for line in log)
        counts["slots"] = len(read(self.ledger, schema.slots))
        return counts

    def close(self) -> None:
        for child in self.running:
            child.kill()
        self.ledger.engine.dispose()
        self.databases.drop(self.url)

    def start(self) -> None:
        name = self.started
        self.started += 1
        schedule = self.schedule
        options = {"seconds": schedule.training, "lease": schedule.lease, "population": schedule.population}
        self.running.append(start_worker(self.fork_server, self.url, self.folder, name, **options))

    def kill(self, worker: int) -> None:
        if self.running:
            child = self.running.pop(worker % len(self.running))
            self.paused = [entry for entry in self.paused if entry[1] is not child]
            if child.poll() is None:
                child.kill()
            else:
                self._ended(child)

    def pause(self, worker: int, seconds: float) -> None:
        if self.running:
            child = self.running[worker % len(self.running)]
            child.send_signal(signal.SIGSTOP)
            self.paused.append((time.monotonic() + seconds, child))

    def outage(self, seconds: float) -> None:
        with self.databases.unavailable(self.url, waiting=lambda: self._sleep(0.02)):
            self._sleep(seconds)

    def finish(self) -> None:
        """Waits for all workers; starts one if none is left, as the next `hpo run` would."""
        if not self.running:
            self.start()
        for child in self.running:
            child.wait(60)
            self._ended(child)
        self.running = []

    def _ended(self, child: Child) -> None:
        assert child.returncode == 0 and not child.text(), (
            f"worker {child.pid} ended with {child.returncode}:\n{child.text()}"
        )

    def _wait_for_work(self) -> None:
        end = time.monotonic() + 60
        while not any(log.stat().st_size for log in self.folder.glob("*.log")):
            assert time.monotonic() < end, "no worker began: " + "".join(child.text() for child in self.running)
            time.sleep(0.01)

    def _arguments(self, fault: Fault) -> list[float]:
        whom = [fault.worker] if fault.kind in ("kill", "pause") else []
        return [*whom, fault.seconds] if fault.kind in ("pause", "outage") else list(whom)

    def _sleep(self, seconds: float) -> None:
        """Continues paused workers when their pause ends."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end or any(until <= now for until, _ in self.paused):
            for entry in [entry for entry in self.paused if entry[0] <= now]:
                entry[1].send_signal(signal.SIGCONT)
                self.paused.remove(entry)
            time.sleep(0.01)


def carry_out(schedule: Schedule, fork_server: ForkServer, databases: Storage, folder: Path) -> Counter[str]:
    """Runs a schedule from its first worker to the checks; raises AssertionError if a promise is broken."""
    run = Run(schedule, fork_server, databases, folder)
    try:
        return run.carry_out()
    finally:
        run.close()
