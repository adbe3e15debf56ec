"""A worker of the storage tests: it trains nothing, logs its slots and results, and can end at a chosen point.

As a program, `python storage_worker.py URL LOG NAME SECONDS [--max-time 2h]`, it trains each slot alone for that many
seconds, and at once if Slurm has requeued it.
"""

import argparse
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from storage_study import outcomes

import hpo.storage.transactions
from hpo.errors import HpoError
from hpo.storage.connections import LIMITS
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.live_progress import Epoch, LiveProgress
from hpo.worker.loop import run_worker
from hpo.worker.signals import stop_after

# A worker's writes, in the order of a run: it can be killed before and after each of them.
POINTS: dict[str, tuple[type, str]] = {
    "repair": (Mirror, "repair"),
    "lease": (Ledger, "lease"),
    "assign": (Ledger, "assign"),
    "begin": (Mirror, "begin"),
    "note_trials": (Ledger, "note_trials"),
    "live": (LiveProgress, "report"),
    "finish": (Ledger, "finish"),
    "mirror": (Mirror, "finish"),
    "release": (Ledger, "release"),
}


def work(
    url: str,
    study: str,
    log: str,
    name: int = 0,
    seconds: tuple[float, float] = (0.01, 0.06),
    lease: float = 60.0,
    population: int = 3,
    die: str = "",
    how: int = signal.SIGKILL,
    retry_timeout: float = 0.0,
    idle_timeout: float = 0.0,
    call_timeout: float = 0.0,
) -> None:
    """Works until the study is done.

    Args:
        log: a file that gets a JSON object a line: what ("assigned" | "leased" | "counted" | "late"), name, slot,
            attempt, replacements, setting. A file LOG.waiting appears when the worker first waits for others.
        name: of this worker; in the log, in every result, and the seed of its training times.
        seconds: shortest and longest time that a population trains.
        die: the point at which this process sends itself the signal `how`: "before finish 2", "after lease 1" (see
            POINTS), "train 3", "statement 40", "commit 9".
        retry_timeout, idle_timeout: seconds for `transactions.RETRY_TIMEOUT` and PostgreSQL's
            idle_in_transaction_session_timeout; 0: as they are.
        call_timeout: seconds for `transactions.CALL_TIMEOUT`; the limits of transactions and the pauses between tries
            are shortened by its factor.
    """
    rng = random.Random(name)
    logging.getLogger("hpo").addHandler(logging.NullHandler())  # outages are logged
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if call_timeout:
        factor = call_timeout / hpo.storage.transactions.CALL_TIMEOUT
        hpo.storage.transactions.CALL_TIMEOUT = call_timeout
        hpo.storage.transactions.MAX_PAUSE *= factor
        for name_of_limit in LIMITS:
            LIMITS[name_of_limit] *= factor
    hpo.storage.transactions.RETRY_TIMEOUT = retry_timeout or hpo.storage.transactions.RETRY_TIMEOUT
    if idle_timeout:
        LIMITS["idle_in_transaction_session_timeout"] = idle_timeout
    if die:
        _die_at(die, how)

    def note(what: str, work: Work) -> None:
        for slot in work.slots:
            fields = {key: getattr(slot, key) for key in ("attempt", "replacements", "setting")}
            os.write(file, f"{json.dumps({'what': what, 'name': name, 'slot': slot.id, **fields})}\n".encode())

    def train(work: Work) -> list[Outcome]:
        note("leased", work)
        passed("train")
        report(work)
        time.sleep(rng.uniform(*seconds))
        return [replace(outcome, result={**outcome.result, "worker": name}) for outcome in outcomes(work)]

    def report(work: Work) -> None:
        """Reports a first epoch with values of this worker's own, from another thread as real workers do."""
        curves = {"train_loss": [1.0], "validation_accuracy": [10.0 + name]}
        results: Any = {slot.id: [SimpleNamespace(curves=curves, diverged_epoch=None)] for slot in work.slots}
        live.note(Epoch(work, 1, 2, results, True))
        thread = threading.Thread(target=live.report, daemon=True)
        thread.start()
        thread.join(0.5)

    _after(Ledger, "assign", lambda _, work: note("assigned", work))
    leased: dict[int, Work] = {}

    def counted(arguments: tuple[Any, ...], ids: list[int]) -> None:
        for outcome in arguments[2]:
            note("counted" if outcome.id in ids else "late", leased.pop(outcome.id))

    def remember(kind: str, details: dict[str, Any]) -> None:
        if kind == "leased":
            leased.update({slot.id: details["work"].with_slots([slot]) for slot in details["work"].slots})
        elif kind == "waiting":
            Path(f"{log}.waiting").touch()

    _after(Ledger, "finish", counted)
    passed("start")
    try:
        ledger = load_study(connect(url, hpo.storage.transactions.RETRY_TIMEOUT), study)  # as `api.join_ledger`
        worker_id = new_worker_id()
        live = LiveProgress(ledger, worker_id)
        run_worker(ledger, train, worker_id, population, on_event=remember, lease=lease)
    except HpoError as error:  # as in the command line
        print(f"hpo: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    passed("exit")


_deadly: dict[str, tuple[int, int]] = {}  # point → (the number of the pass that is deadly, the signal)
_passed: Counter[str] = Counter()
_extending = threading.RLock()


def passed(point: str) -> None:
    """Kills or stops this process if `die` names this point."""
    _passed[point] += 1
    count, number = _deadly.get(point, (0, 0))
    if count == _passed[point]:
        with _extending:  # a process stopped while it extends a lease would keep a SQLite file locked
            os.kill(os.getpid(), number)


def _die_at(die: str, how: int) -> None:
    point, count = die.rsplit(" ", 1)
    extend = Ledger.extend_lease

    def extend_alone(*arguments: Any) -> list[int]:
        with _extending:
            return extend(*arguments)

    Ledger.extend_lease = extend_alone  # type: ignore[method-assign,assignment]
    _deadly[point] = (int(count), how)
    for name, (kind, method) in POINTS.items():
        _around(kind, method, name)
    sa.event.listen(Engine, "before_cursor_execute", lambda *_: passed("statement"))
    sa.event.listen(Engine, "commit", lambda *_: passed("commit"))


def _around(kind: type, method: str, name: str) -> None:
    original = getattr(kind, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        passed(f"before {name}")
        result = original(*arguments, **options)
        passed(f"after {name}")
        return result

    setattr(kind, method, wrapped)


def _after(kind: type, method: str, then: Callable[[tuple[Any, ...], Any], None]) -> None:
    original = getattr(kind, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        then(arguments, result)
        return result

    setattr(kind, method, wrapped)


def read_logs(folder: Path) -> list[dict[str, Any]]:
    """All lines of all workers' logs in a folder (*.log), by worker."""
    lines = [line for log in sorted(folder.glob("*.log")) for line in log.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("url", str), ("log", str), ("name", int), ("seconds", float)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--max-time")
    options = parser.parse_args()
    if options.max_time:
        stop_after(options.max_time)
    seconds = 0.0 if os.environ.get("SLURM_RESTART_COUNT") else options.seconds
    work(options.url, "s", options.log, options.name, (seconds, seconds), population=1)


if __name__ == "__main__":
    main()
