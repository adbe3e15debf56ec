"""What a worker and a report ask of the database, timed in a process of its own: ask, tell, and curves.

`HPO_STORAGE=URL python -m hpo.bench.storage_parts SIZES` prints JSON; SIZES are those of `measure`, as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hpo.bench import made_study, memory
from hpo.bench.processes import Cost
from hpo.bench.transactions import enlarged
from hpo.storage import curves
from hpo.storage.ledger import Ledger, Work
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import STARTUP_TRIALS
from hpo.worker.suggestions import Suggestions

OWNER = "bench"


def measure(url: str, name: str, finished: int, asked: int, runs: int, repetitions: int) -> list[dict[str, Any]]:
    """Rows for ask and tell of `asked` settings where so many trials are finished, and for `runs` runs' curves."""
    generator = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float, float]]] = {}

    def clock(part: str, action: Callable[[], Any]) -> Any:
        before = memory.in_use()
        memory.forget_peak()
        start, used = time.perf_counter(), time.process_time()
        result = action()
        taken, used = time.perf_counter() - start, time.process_time() - used
        found.setdefault(part, []).append((taken, used, memory.peak() - before))
        return result

    known = max(finished, 2 * asked, STARTUP_TRIALS)  # so that a batch may have as many as are asked for
    settings, results = f"ask: {asked} settings at {known} finished trials", f"tell: {asked} results"
    # One configuration more than are timed: the first batch loads what is loaded but once.
    with made_study.made(url, name, repetitions + 1, known, 1) as ledger:
        made_study.finish(ledger, OWNER, generator, known)
        ledger = enlarged(ledger, known + asked)
        mirror = Mirror(ledger)
        for _ in range(repetitions + 1):
            work = clock(settings, lambda: _asked(ledger, mirror, asked))
            assert len(work.slots) == asked, "not all settings were given at once"
            outcomes = [made_study.outcome(work, place, generator, True) for place in range(asked)]
            clock(results, partial(_told, ledger, mirror, work, outcomes))
        mirror.close()
    for _ in range(repetitions + 1):
        _curves(url, name, runs, generator, clock)
    return [
        Cost(list(seconds), list(used), memory.peak()).row(part, more_mib=max(more))
        for part, own in found.items()
        for seconds, used, more in [zip(*own[1:], strict=True)]
    ]


def _asked(ledger: Ledger, mirror: Mirror, count: int) -> Work:
    """As a worker asks: a lease, what is known, TPE, and the settings stored and shown."""
    work = ledger.lease(OWNER, count)
    assert work is not None, "nothing is left to be asked for"
    return mirror.begin(OWNER, ledger.assign(OWNER, work, Suggestions(ledger).settings(work)))


def _told(ledger: Ledger, mirror: Mirror, work: Work, outcomes: list[Any]) -> None:
    ledger.finish(OWNER, outcomes)
    mirror.finish(work, outcomes)


def _curves(url: str, name: str, runs: int, generator: np.random.Generator, clock: Callable[..., Any]) -> None:
    trials = max(runs // 2, STARTUP_TRIALS)
    with made_study.made(url, name, 2, trials, 1) as ledger:
        made_study.finish(ledger, OWNER, generator, trials)
        ids = [slot["id"] for slot in ledger.export()["slots"] if slot["state"] == "done"][:runs]
        drawn = [(slot, made_study.curves(0.5, generator)) for slot in ids]

        def write() -> None:
            with ledger.engine.begin() as connection:
                curves.insert(connection, drawn)

        size = f"{runs} runs × {made_study.EPOCHS} epochs × {len(made_study.METRICS)} metrics"
        clock(f"curves, written: {size}", write)
        read = clock("curves, read", lambda: curves.read(ledger.engine, name))
        assert len(read["value"]) == runs * made_study.EPOCHS * len(made_study.METRICS), "curves were lost"


if __name__ == "__main__":
    print(json.dumps(measure(os.environ["HPO_STORAGE"], **json.loads(sys.argv[1]))))
