"""Carries out a schedule of faults on a small study with real worker processes."""

import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fault_schedules import Fault, Schedule
from fork_server import ForkServer, LoggedChild
from storage_checks import check, read
from storage_study import make
from storage_worker import read_logs
from storages import Storage
from worker_processes import STUDY, start_worker

from hpo.storage import schema
from hpo.storage.database import connect

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOP_WITHIN = 5.0  # seconds


class Run:
    """Carries out one schedule.

    Attributes:
        running: the workers. ending: what ends at which time: a pause of a worker, or a fault of the database.
    """

    def __init__(self, schedule: Schedule, fork_server: ForkServer, databases: Storage, folder: Path) -> None:
        self.schedule, self.fork_server, self.databases, self.folder = schedule, fork_server, databases, folder
        self.url = databases.create()
        self.ledger = make(connect(self.url), STUDY, **schedule.planned)
        self.running: list[LoggedChild] = []
        self.ending: list[tuple[float, Any, Callable[[], object]]] = []
        self.started = 0

    def carry_out(self) -> Counter[str]:
        """Injects all faults, waits for the end and checks the study; returns counts of what happened."""
        for _ in range(self.schedule.workers):
            self.start()
        self._wait_for_work()
        for fault in self.schedule.faults:
            self._sleep(fault.after)
            if fault.kind in ("start", "kill", "stop", "pause"):
                getattr(self, fault.kind)(fault)
            elif fault.kind == "damaged":
                self.damage(fault)
            else:
                self.fail_database(fault)
        self._wait_until(lambda: not self.ending)
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
        for _, _, end in self.ending:
            end()
        self.ledger.engine.dispose()
        self.databases.drop(self.url)

    def start(self, _fault: Fault | None = None) -> None:
        name = self.started
        self.started += 1
        schedule = self.schedule
        options = {"seconds": schedule.training, "lease": schedule.lease, "population": schedule.population}
        self.running.append(start_worker(self.fork_server, self.url, self.folder, name, call_timeout=3.5, **options))

    def kill(self, fault: Fault) -> None:
        if child := self._choose(fault, self.running):
            self.running.remove(child)
            self._continue(child)
            if child.poll() is None:
                child.kill()
            else:
                _check_end(child)

    def pause(self, fault: Fault) -> None:
        if child := self._choose(fault, self.running):
            child.send_signal(signal.SIGSTOP)
            resume = partial(child.send_signal, signal.SIGCONT)
            self.ending.append((time.monotonic() + fault.seconds, child, resume))

    def stop(self, fault: Fault) -> None:
        """A worker that has begun gets a signal and ends within 5 s, whatever the database does."""
        if child := self._choose(fault, [child for child in self.running if _has_begun(child)]):
            self.running.remove(child)
            self._continue(child)
            number = SIGNALS[fault.number % len(SIGNALS)]
            child.send_signal(number)
            sent = time.monotonic()
            self._wait_until(lambda: child.poll() is not None, STOP_WITHIN)
            assert child.returncode in (0, 128 + number, -number), f"{child.returncode} after {number}: {child.text()}"
            assert time.monotonic() - sent < STOP_WITHIN, child.text()
            assert "Traceback" not in child.text(), child.text()

    def fail_database(self, fault: Fault) -> None:
        """The database fails once its fault before has ended."""
        self._wait_until(lambda: all(what is not self.databases for _, what, _ in self.ending))
        failure = getattr(self.databases, fault.kind)(self.url, fault.number, lambda: self._sleep(0.02))
        failure.__enter__()
        end = partial(failure.__exit__, None, None, None)
        self.ending.append((time.monotonic() + fault.seconds, self.databases, end))

    def damage(self, fault: Fault) -> None:
        """All workers end with one sentence when they next use the file; then a copy of it is put back.

        A worker that has not begun would only see that there is no study.
        """
        self._wait_until(lambda: not self.ending)
        self._wait_until(lambda: all(_has_begun(child) or child.poll() is not None for child in self.running), 60)
        self.ledger.engine.dispose()  # this process opens it again when it is whole
        with self.databases.damaged(self.url, fault.number, lambda: self._sleep(0.02)):  # type: ignore[attr-defined]
            for child in self.running:
                code = child.wait()
                text = child.text()
                assert (code, text.count("\n")) in ((0, 0), (1, 1)), f"{code}: {text}"
                assert code == 0 or "while it was in use" in text, text
        self.running.clear()
        self.start()

    def finish(self) -> None:
        """Waits for all workers; starts one if none is left, as the next `hpo run` would."""
        if not self.running:
            self.start()
        for child in self.running:
            child.wait(60)
            _check_end(child)
        self.running = []

    def _choose(self, fault: Fault, children: Sequence[LoggedChild]) -> LoggedChild | None:
        return children[fault.number % len(children)] if children else None

    def _continue(self, child: LoggedChild) -> None:
        """Ends a pause of a worker, if there is one."""
        for entry in [entry for entry in self.ending if entry[1] is child]:
            entry[2]()
            self.ending.remove(entry)

    def _wait_for_work(self) -> None:
        begun = self._wait_until(lambda: any(map(_has_begun, self.running)), 60)
        assert begun, "no worker began: " + "".join(child.text() for child in self.running)

    def _wait_until(self, condition: Callable[[], bool], timeout: float = math.inf) -> bool:
        """Whether the condition holds within `timeout` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            self._sleep(0.02)
        return True

    def _sleep(self, seconds: float) -> None:
        """Ends pauses and faults of the database in time."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end or any(until <= now for until, _, _ in self.ending):
            for entry in [entry for entry in self.ending if entry[0] <= now]:
                self.ending.remove(entry)
                entry[2]()
            time.sleep(0.01)


def _has_begun(child: LoggedChild) -> bool:
    log = child.output.with_suffix(".log")
    return log.exists() and log.stat().st_size > 0


def _check_end(child: LoggedChild) -> None:
    assert child.returncode == 0 and not child.text(), f"worker {child.pid}: {child.returncode}:\n{child.text()}"


def carry_out(schedule: Schedule, fork_server: ForkServer, databases: Storage, folder: Path) -> Counter[str]:
    """Runs a schedule from its first worker to the checks; raises AssertionError if a promise is broken."""
    run = Run(schedule, fork_server, databases, folder)
    try:
        return run.carry_out()
    finally:
        run.close()
