"""A worker reads each finished trial once, and again only where an earlier one may have changed."""

from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import definition, known_for_long, outcomes

from hpo.space import split_space
from hpo.storage.database import connect
from hpo.storage.ledger import FinishedTrial, Ledger, Setting, open_study
from hpo.storage.schema import slots
from hpo.worker.history import History

SPACES = {entry["name"]: split_space(entry["space"]) for entry in definition()["configurations"]}


def opened(engine: sa.Engine, trials: int) -> Ledger:
    planned = {"trials": trials, "seeds": 2, "tuning_runs": 2}
    return known_for_long(open_study(engine, "s", definition(), "d", planned, {}, {}, {"trials": trials}))


def finish_open(ledger: Ledger) -> None:
    while (work := ledger.lease("x", 50)) and work.phase == "tune":
        settings: list[Setting] = [{"learning_rate": 0.001 + slot.slot / 1e4} for slot in work.slots]
        ledger.finish("x", outcomes(ledger.assign("x", work, settings)))
    ledger.release("x")


class Rows:
    """The ledger with the rows of every read."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.read = ledger, list[int]()

    def finished_trials(self, *arguments: Any) -> dict[int, tuple[list[FinishedTrial], range]]:
        found = self.ledger.finished_trials(*arguments)
        self.read.append(sum(len(trials) for trials, _ in found.values()))
        return found


def last_batch(ledger: Ledger) -> int:
    with ledger.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.max(slots.c.batch))) or 0


def test_only_new_trials_are_read(url: str) -> None:
    engine = connect(url)
    rows = Rows(opened(engine, 20))
    history = History(rows, SPACES)  # type: ignore[arg-type]
    for trials in (20, 21, 22, 25):
        ledger = opened(engine, trials)
        batch = last_batch(ledger)
        if trials > 20:
            read = history.read("A", {0, 1}, batch)
            for run in (0, 1):
                fresh = ledger.finished_trials("A", {run}, batch)[run]
                assert (read[run].finished, read[run].slots) == fresh
                assert len(read[run].observations or ()) == len(read[run].finished)
        finish_open(ledger)
    assert rows.read == [40, 2, 2]
    engine.dispose()


@pytest.mark.parametrize("state", ["failed", "open"])
def test_trials_are_read_again_while_an_earlier_one_is_not_finished(url: str, state: str) -> None:
    engine = connect(url)
    ledger = opened(engine, 20)
    finish_open(ledger)
    ledger = opened(engine, 22)
    rows = Rows(ledger)
    history = History(rows, SPACES)  # type: ignore[arg-type]
    of_a = sa.and_(slots.c.configuration == "A", slots.c.tuning_run == 0, slots.c.phase == "tune", slots.c.slot == 3)
    with engine.begin() as connection:
        connection.execute(sa.update(slots).where(of_a).values(state=state))
    batch = last_batch(ledger)
    assert len(history.read("A", {0}, batch)[0].finished) == 19
    with engine.begin() as connection:
        connection.execute(sa.update(slots).where(of_a).values(state="done"))
    read = history.read("A", {0}, batch)[0]
    assert [trial.slot for trial in read.finished] == list(range(20)) and len(read.observations or ()) == 20
    assert len(history.read("A", {0}, batch)[0].finished) == 20
    assert rows.read == [19, 20, 0]
    engine.dispose()
