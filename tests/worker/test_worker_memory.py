"""A worker's memory does not grow with finished trials: it reads them to sample settings, and forgets them."""

import gc
import random
import tracemalloc
from pathlib import Path

import sqlalchemy as sa
from storage_study import make

from hpo.storage import bulk_sql
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.schema import slots
from hpo.worker.suggestions import Suggestions

FEW, MORE = 100, 700


def finish(ledger: Ledger, count: int) -> None:
    """Finishes the first `count` trials of A."""
    rng = random.Random(0)
    first_trials = sa.and_(slots.c.configuration == "A", slots.c.phase == "tune", slots.c.slot < count)
    with ledger.engine.begin() as connection:
        rows = [
            {
                "id": slot,
                "setting": {"learning_rate": rng.uniform(1e-4, 1e-1), "lambda": rng.uniform(0, 2)},
                "value": rng.random(),
            }
            for slot in connection.scalars(sa.select(slots.c.id).where(first_trials))
        ]
        bulk_sql.update(connection, slots, rows, state="done", started=1.0, finished=2.0)


def cycle(ledger: Ledger, mirror: Mirror) -> None:
    """The work between two populations."""
    mirror.repair()
    work = ledger.lease("x", 4)
    while work is not None and work.configuration != "A":
        work = ledger.lease("x", 4)
    assert work is not None and work.slots[0].slot >= 10
    mirror.begin("x", ledger.assign("x", work, Suggestions(ledger).settings(work)))
    ledger.release("x")


def highest(ledger: Ledger, mirror: Mirror) -> int:
    """The peak of Python's memory in a cycle."""
    for _ in range(2):  # caches of statements fill
        cycle(ledger, mirror)
    gc.collect()
    tracemalloc.reset_peak()
    cycle(ledger, mirror)
    return tracemalloc.get_traced_memory()[1]


def test_a_finished_trial_takes_less_than_a_kilobyte(tmp_path: Path) -> None:
    ledger = make(connect(f"sqlite:///{tmp_path}/t.db"), trials=MORE + 20, seeds=1)
    mirror = Mirror(ledger)
    finish(ledger, FEW)
    cycle(ledger, mirror)
    tracemalloc.start()
    try:
        few = highest(ledger, mirror)
        finish(ledger, MORE)
        assert highest(ledger, mirror) - few < 1000 * (MORE - FEW)
    finally:
        tracemalloc.stop()
