"""Benchmark: what one more trial costs where very many are finished: to lease it, to sample it, and to store it.

Nothing is trained: the trials have random settings and results. The study is deleted afterwards.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hpo import __version__
from hpo.bench.table import OnRow, Row
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Setting, Work, open_study
from hpo.worker.suggestions import Suggestions

T = TypeVar("T")
NAME, WORKER = "hpo-bench-scale", "benchmark"
LEASED = 1000  # trials that are finished at once
RANGES = {"learning_rate": (1e-4, 1e-1), "weight_decay": (1e-6, 1e-2), "strength": (1e-3, 1.0), "momentum": (0.5, 0.99)}
DEFINITION = {
    "score": "validation_accuracy",
    "direction": "maximize",
    "configurations": [
        {
            "name": "A",
            "trials": None,
            "space": {
                name: {"low": low, "high": high, "log": True, "off": None} for name, (low, high) in RANGES.items()
            },
        }
    ],
}
COLUMNS = {
    "finished trials": (15, "{trials}"),
    "lease ms": (9, "{lease:.1f}"),
    "first sample ms": (15, "{first:.1f}"),
    "sample ms": (9, "{sample:.1f}"),
    "store ms": (9, "{store:.1f}"),
}


def measure(url: str, sizes: Sequence[int], repetitions: int, on_row: OnRow) -> Row:
    """Times single trials of one worker after each number of finished trials.

    Returns:
        JSON values: "rows" with the median milliseconds of each step; "first" is the first sample of a worker, which
        reads all finished trials.
    """
    rows = []
    for size in sizes:
        with _study(url, size) as ledger:
            _finish(ledger, size)
            rows.append({"trials": size, **_one_more(ledger, size, repetitions)})
        on_row(rows[-1])
    return {"hpo": __version__, "repetitions": repetitions, "rows": rows}


def summary(result: Row) -> str:
    return f"medians of {result['repetitions']} trials, four hyperparameters, TPE"


@contextmanager
def _study(url: str, trials: int) -> Iterator[Ledger]:
    engine = connect(url)
    ledger = _open(engine, trials)
    try:
        yield ledger
    finally:
        ledger.delete()
        engine.dispose()


def _open(engine: Any, trials: int) -> Ledger:
    planned = {"trials": trials, "seeds": 1, "tuning_runs": 1}
    return open_study(engine, NAME, DEFINITION, "benchmark", planned, {}, {}, {"trials": trials})


def _finish(ledger: Ledger, trials: int) -> None:
    generator = random.Random(0)
    while trials > 0:
        work = ledger.lease(WORKER, min(LEASED, trials))
        assert work is not None, "the benchmark's study has too few trials"
        settings: list[Setting] = [
            {name: generator.uniform(low, high) for name, (low, high) in RANGES.items()} for _ in work.slots
        ]
        _store(ledger, work, settings)
        trials -= len(work.slots)


def _store(ledger: Ledger, work: Work, settings: Sequence[Setting]) -> None:
    work = ledger.assign(WORKER, work, settings)
    outcomes = [Outcome(slot.id, slot.attempt, (slot.slot * 0.7548776662) % 1) for slot in work.slots]
    ledger.finish(WORKER, outcomes)


def _one_more(ledger: Ledger, trials: int, repetitions: int) -> dict[str, float]:
    suggestions, taken = Suggestions(ledger), dict[str, list[float]]()

    def timed(step: str, action: Callable[..., T], *arguments: Any) -> T:
        start = time.perf_counter()
        result = action(*arguments)
        taken.setdefault(step, []).append(1000 * (time.perf_counter() - start))
        return result

    for number in range(repetitions + 1):
        raised = _open(ledger.engine, trials + number + 1)
        work = timed("lease", raised.lease, WORKER, 1)
        assert work is not None, "the raised number of trials gave no slot"
        settings = timed("sample" if number else "first", suggestions.settings, work)
        timed("store", _store, raised, work, settings)
    return {step: statistics.median(values) for step, values in taken.items()}
