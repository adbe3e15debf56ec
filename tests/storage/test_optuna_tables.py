"""Trials written in bulk are, row by row, those that Optuna's public way writes; their numbers stay unique."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import make, plain_study

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.optuna import tables as optuna_tables
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.public_api import OptunaTrials
from hpo.storage.optuna.tables import OptunaTables

TABLES = ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes", "trial_heartbeats")


def begin(ledger: Ledger, mirror: Mirror, worker_id: str = "x", limit: int = 3, seconds: float = 60.0) -> Work:
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    names = ["learning_rate", *(["lambda"] if work.configuration == "A" else [])]
    fresh = [dict.fromkeys(names, 0.01 + slot.slot / 997) for slot in work.slots if slot.setting is None]
    return mirror.begin(worker_id, ledger.assign(worker_id, work, fresh))


def story(ledger: Ledger, mirror: Mirror) -> None:
    """All that a mirror writes: values, divergence, failures, takeovers, and a repair after crashes."""
    first, second, third = begin(ledger, mirror).slots
    ended = [
        Outcome(first.id, 1, 1 / 3),
        Outcome(second.id, 1, 0.1, "diverged"),
        Outcome(third.id, 1, None, "diverged"),
    ]
    ledger.finish("x", ended)
    mirror.finish(Work("A", "tune", [first, second, third]), ended)
    begin(ledger, mirror, "lost", limit=2, seconds=-1.0)
    taken = begin(ledger, mirror, "y", limit=2)
    ledger.fail("y", taken.slots[:1], "exception", "why")
    mirror.fail([taken.slots[0].trial, taken.slots[0].trial, None], "exception")
    ledger.finish("y", [Outcome(taken.slots[1].id, 2, 0.7)])  # and dies before the mirror
    unseen = ledger.lease("z", 3)  # the one that failed and a fresh one
    assert unseen is not None
    unseen = ledger.assign("z", unseen, [{"learning_rate": 0.05}] * 2)
    ledger.finish("z", [Outcome(slot.id, slot.attempt, -0.5) for slot in unseen.slots])
    assert mirror.repair() == 3 and mirror.repair() == 0
    begin(ledger, mirror, "w", limit=1)


def shown(engine: sa.Engine, ledger: Ledger) -> list[list[Any]]:
    """Everything that Optuna's tables hold of a ledger; ids are replaced by places, times by whether they are now."""
    tables = sa.MetaData()
    tables.reflect(engine, only=["studies", "trials", *TABLES])
    places = {row["id"]: place for place, row in enumerate(ledger.export()["slots"])}
    found: list[list[Any]] = []
    with engine.begin() as connection:
        studies, trials = tables.tables["studies"], tables.tables["trials"]
        mine = studies.c.study_name.like(f"{ledger.study}/%")
        query = sa.select(trials, studies.c.study_name).join_from(trials, studies).where(mine)
        for trial in connection.execute(query.order_by(studies.c.study_name, trials.c.trial_id)).mappings():
            times = [trial["datetime_start"], trial["datetime_complete"]]
            age = [
                time and abs(datetime.now(UTC).replace(tzinfo=None) - time) < timedelta(minutes=10) for time in times
            ]
            name = trial["study_name"].removeprefix(ledger.study)
            found.append([name, trial["number"], str(trial["state"]), *age])
            for table in (tables.tables[name] for name in TABLES):
                rows = connection.execute(
                    sa.select(*table.c[2 if table.name == "trial_values" else 1 :])
                    .where(table.c.trial_id == trial["trial_id"])
                    .order_by(*table.primary_key.columns)
                )
                found += [_row(table.name, row, places) for row in rows.mappings()]
    return found


def _row(table: str, row: Any, places: dict[int, int]) -> list[Any]:
    values = {name: str(value) if name == "value_type" else value for name, value in row.items() if name != "trial_id"}
    if values.get("key") == "slot_id":
        values["value_json"] = places[int(values["value_json"])]
    return [table, values]


def test_both_ways_write_the_same_rows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(url)
    one, other = make(engine, "one"), make(engine, "other")
    fast = Mirror(one, "cpu")
    assert isinstance(fast.trials, OptunaTables)
    story(one, fast)
    with monkeypatch.context() as patch:
        patch.setattr(optuna_tables, "VERSION", "v9.0.0.a")
        slow = Mirror(other, "cpu")
    assert isinstance(slow.trials, OptunaTrials)
    story(other, slow)
    rows = shown(engine, one)
    assert len(rows) > 60 and {row[0] for row in rows} >= {"/A/tune", *TABLES[:3]}
    assert rows == shown(engine, other)
    slow.close()


def test_what_one_way_left_the_other_repairs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make(connect(url))
    fast = Mirror(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(optuna_tables, "VERSION", "v9.0.0.a")
        slow = Mirror(ledger)
    for mirror, other in ((fast, slow), (slow, fast)):
        work = begin(ledger, mirror, limit=2)
        ledger.finish("x", [Outcome(slot.id, 1, 0.5) for slot in work.slots])
        other.storage.set_trial_user_attr(work.slots[0].trial, "cause", "half written")
        assert other.repair() == 2 and mirror.repair() == 0
    for name in "AB":
        assert [trial.state.name for trial in plain_study(url, f"s/{name}/tune").trials] == ["COMPLETE"] * 2
    fast.close()
    slow.close()


def test_numbers_are_unique_while_plain_optuna_writes_too(url: str) -> None:
    ledger = make(connect(url), trials=10)
    mirrors = [Mirror(ledger) for _ in range(3)]
    mirrors[0].repair()
    study = plain_study(url, "s/A/tune")
    distributions = mirrors[0]._distributions["A"]
    errors: list[BaseException] = []

    def write(action: Any) -> None:
        try:
            for _ in range(5):
                action()
        except BaseException as error:
            errors.append(error)

    shown = [optuna_tables.NewTrial({"learning_rate": 0.01}, {"slot": slot}) for slot in range(3)]
    number = mirrors[0]._studies(["s/A/tune"])[0]
    actions = [lambda mirror=mirror: mirror.trials.create(number, distributions, shown) for mirror in mirrors]
    threads = [threading.Thread(target=write, args=(action,)) for action in [*actions, study.ask]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [trial.number for trial in study.get_trials(deepcopy=False)] == list(range(5 * (3 * 3 + 1)))


def test_statements_do_not_grow_with_the_population(url: str) -> None:
    ledger = make(connect(url), trials=300)
    mirror = Mirror(ledger)
    counts: list[int] = [0]

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def _(*arguments: Any) -> None:
        _, _, _, parameters, _, many = arguments
        counts[-1] += len(parameters) if many and ledger.engine.dialect.name == "postgresql" else 1

    def statements(size: int) -> Sequence[int]:
        work = ledger.assign("x", *leased(size))
        outcomes = [Outcome(slot.id, 1, 0.5, "diverged") for slot in work.slots]
        counts[:] = [0]
        work = mirror.begin("x", work)
        counts.append(0)
        mirror.finish(work, outcomes)
        counts.append(0)
        ledger.finish("x", outcomes)
        assert mirror.repair() == 0
        return counts[:2]

    def leased(size: int) -> tuple[Work, list[dict[str, float]]]:
        work = ledger.lease("x", size)
        assert work is not None and len(work.slots) == size
        return work, [{"learning_rate": 0.01}] * size

    for configuration in "AB":
        assert statements(10)[0] > 0, configuration
    few, many = statements(1), statements(49)
    assert list(few) == list(many) and sum(many) < 20


def test_nothing_amiss_takes_no_lock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker repairs when it starts and ends: a thousand of them must not wait for one another."""
    ledger = make(connect(url))
    Mirror(ledger).repair()

    def locked(*_: Any) -> None:
        raise AssertionError("the creation lock was taken")

    monkeypatch.setattr("hpo.storage.optuna.mirror.creation_lock", locked)
    mirror = Mirror(ledger)
    work = begin(ledger, mirror)
    ledger.finish("x", [Outcome(slot.id, 1, 0.5) for slot in work.slots])
    mirror.finish(work, [Outcome(slot.id, 1, 0.5) for slot in work.slots])
    assert mirror.repair() == 0 and "storage" not in mirror.__dict__


def test_a_study_deleted_in_optuna_is_made_anew(url: str) -> None:
    ledger = make(connect(url))
    mirror = Mirror(ledger)
    mirror.storage.delete_study(mirror._studies(["s/A/tune"])[0])
    work = ledger.lease("x", 2)
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.01}] * 2)
    with pytest.raises(KeyError):
        mirror.begin("x", work)
    assert len(mirror.begin("x", work).slots) == 2
    assert [trial.state.name for trial in plain_study(url, "s/A/tune").trials] == ["RUNNING"] * 2
    mirror.close()


def test_a_value_that_is_not_finite_is_none(url: str) -> None:
    ledger = make(connect(url))
    mirror = Mirror(ledger)
    work = begin(ledger, mirror, limit=2)
    mirror.finish(
        work, [Outcome(slot.id, 1, float(value)) for slot, value in zip(work.slots, ("nan", "inf"), strict=True)]
    )
    assert [trial.state.name for trial in plain_study(url, "s/A/tune").trials] == ["FAIL"] * 2
