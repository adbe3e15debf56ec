"""Optuna's tables agree with the ledger, also after a crash, and are row by row as Optuna's public API writes them."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from storage_study import counted_statements, definition, finish_all, make, outcomes, plain_names, plain_study

from hpo.errors import HpoError
from hpo.search_space import choice
from hpo.space import as_json
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, open_study
from hpo.storage.optuna import mirror as mirror_module
from hpo.storage.optuna import schema
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import delete_study, open_storage, study_name
from hpo.storage.optuna.trials import NewTrial, TrialResult, create_trials

TABLES = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
)


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def states(url: str, name: str) -> dict[str, int]:
    trials = plain_study(url, name).get_trials(deepcopy=False)
    return dict(Counter(trial.state.name for trial in trials))


def begin(ledger: Ledger, mirror: Mirror, worker_id: str = "x", limit: int = 3, seconds: float = 60.0) -> Work:
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    names = ["learning_rate", *(["lambda"] if work.configuration == "A" else [])]
    settings = [dict.fromkeys(names, 0.01 + slot.slot / 997) for slot in work.slots if slot.setting is None]
    return mirror.begin(worker_id, ledger.assign(worker_id, work, settings))


def test_names_of_optuna_studies() -> None:
    assert study_name("gnvr", "A", "tune") == "gnvr/A/tune"
    assert study_name("gnvr", "A", "rerun", 1) == "gnvr/A/rerun/r2"


def test_trials_run_and_then_complete_or_fail(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger, device="cpu")
    work = begin(ledger, mirror, limit=4)
    assert states(url, "s/A/tune") == {"RUNNING": 4}
    ends = [(0.8, None), (0.1, "diverged"), (None, "diverged"), (math.inf, None)]
    results = [Outcome(slot.id, 1, value, cause) for slot, (value, cause) in zip(work.slots, ends, strict=True)]
    ledger.finish("x", results)
    mirror.finish(work, results)
    study = plain_study(url, "s/A/tune")
    assert study.direction == StudyDirection.MAXIMIZE and study.metric_names == ["validation_accuracy"]
    expected = [("COMPLETE", None), ("COMPLETE", "diverged"), ("FAIL", "diverged"), ("FAIL", None)]
    actual = [(trial.state.name, trial.user_attrs.get("cause")) for trial in study.trials]
    assert actual == expected
    best = study.best_trial
    assert best.value == 0.8 and best.params == {"learning_rate": 0.01, "lambda": 0.01}
    attributes = {key: best.user_attrs[key] for key in ("number", "seed", "attempt", "device")}
    assert attributes == {"number": 1, "seed": 0, "attempt": 1, "device": "cpu"}
    assert [row["trial"] for row in ledger.export()["slots"][:4]] == [slot.trial for slot in work.slots]


@pytest.mark.parametrize("released", [False, True])
def test_a_trial_continues_after_its_worker_released_it_or_was_lost(ledger: Ledger, url: str, released: bool) -> None:
    mirror = Mirror(ledger, "cpu")
    lost = begin(ledger, mirror, "x", seconds=60.0 if released else -1.0)
    if released:
        mirror.release(ledger.release("x"))
        assert states(url, "s/A/tune") == {"WAITING": 3} and mirror.repair() == 0
        assert plain_study(url, "s/A/tune").trials[0].datetime_start is None
    work = begin(ledger, Mirror(ledger, "cuda"), "y")
    mirror.release([slot.id for slot in lost.slots])  # late: another worker has leased them
    assert states(url, "s/A/tune") == {"RUNNING": 3}
    assert [slot.trial for slot in work.slots] == [slot.trial for slot in lost.slots]
    ledger.finish("y", outcomes(work))
    mirror.finish(work, outcomes(work))
    trials = plain_study(url, "s/A/tune").trials
    assert [(trial.state.name, trial.user_attrs["device"]) for trial in trials] == [("COMPLETE", "cuda")] * 3
    assert {trial.user_attrs["attempt"] for trial in trials} == {1 if released else 2}
    assert mirror.repair() == 0


def test_a_trial_with_another_setting_is_a_new_one(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    slot = begin(ledger, mirror, limit=1).slots[0]
    changed = slot._replace(setting={"learning_rate": 0.02, "lambda": 0.5})
    [shown] = mirror.begin("x", Work("A", "tune", [changed])).slots
    trials = plain_study(url, "s/A/tune").trials
    assert [(trial.state.name, trial.params["learning_rate"]) for trial in trials] == [
        ("FAIL", 0.01),
        ("RUNNING", 0.02),
    ]
    assert shown.trial == trials[1]._trial_id


def test_repair_shows_that_released_trials_wait(ledger: Ledger, url: str) -> None:
    """The worker was killed after it had released its slots; or it is lost, and nobody has taken over."""
    mirror = Mirror(ledger)
    begin(ledger, mirror)
    ledger.release("x")
    assert mirror.repair() == 3 and states(url, "s/A/tune") == {"WAITING": 3} and mirror.repair() == 0


def test_an_attempt_that_failed_is_shown_even_if_its_worker_could_not_write_that(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    ledger.fail("x", begin(ledger, mirror, limit=1).slots, "exception", "why")
    work = begin(ledger, mirror, limit=1)
    assert mirror.repair() == 0 and states(url, "s/A/tune") == {"RUNNING": 2}
    ledger.finish("x", outcomes(work))
    mirror.finish(work, outcomes(work))
    assert mirror.repair() == 1 and states(url, "s/A/tune") == {"FAIL": 1, "COMPLETE": 1}


def test_repair_fails_a_running_trial_of_an_earlier_attempt(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    forgotten = begin(ledger, mirror, limit=1)
    shown = mirror.begin("x", forgotten.with_slots([slot._replace(trial=None) for slot in forgotten.slots]))
    ledger.finish("x", outcomes(shown))
    assert mirror.repair() == 2
    trials = plain_study(url, "s/A/tune").trials
    assert [(trial.state.name, trial._trial_id == shown.slots[0].trial) for trial in trials] == [
        ("FAIL", False),
        ("COMPLETE", True),
    ]


def test_reruns_are_maximized_whatever_tuning_minimizes(url: str) -> None:
    ledger = open_study(
        connect(url), "s", definition(direction="minimize"), "d", {"trials": 2, "seeds": 1, "tuning_runs": 1}, {}, {}
    )
    finish_all(ledger)
    Mirror(ledger).repair()
    directions = [plain_study(url, f"s/A/{phase}").direction for phase in ("tune", "rerun")]
    assert directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]


def test_repair_after_a_crash_between_ledger_and_mirror(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    done, lost, hidden = begin(ledger, mirror).slots
    assert mirror.repair() == 0 and states(url, "s/A/tune") == {"RUNNING": 3}, "running trials do not change"
    work = ledger.lease("x", 1)  # finished without ever being shown
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.05}])
    ledger.finish("x", [*outcomes(work), Outcome(done.id, 1, 0.9), Outcome(hidden.id, 1, 0.7)])
    mirror.fail([hidden.trial], "lost worker")  # closed too early
    ledger.fail("x", [lost], "exception", "Traceback")
    assert lost.trial is not None
    open_storage(ledger.engine).set_trial_user_attr(lost.trial, "cause", "half written")
    assert mirror.repair() == 4 and mirror.repair() == 0
    assert states(url, "s/A/tune") == {"COMPLETE": 2, "FAIL": 2} and states(url, "s/B/tune") == {"COMPLETE": 1}
    trials = plain_study(url, "s/A/tune").trials
    assert max(trial.value or 0 for trial in trials) == 0.9 and trials[1].user_attrs["cause"] == "lost worker"
    assert Mirror(ledger).repair() == 0


def test_a_repair_that_lost_its_lock_shows_no_slot_twice(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of the process, in which another one has repaired the same."""
    work = ledger.lease("x", 3)
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.01 + slot.slot / 997, "lambda": 0.1} for slot in work.slots])
    ledger.finish("x", outcomes(work))
    monkeypatch.setattr(mirror_module, "creation_lock", lambda _: nullcontext())
    paused, other = Mirror(ledger), Mirror(make(connect(url)))
    create = paused._create

    def create_late(rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        assert other.repair() == 3
        return create(rows)

    monkeypatch.setattr(paused, "_create", create_late)
    paused.repair()
    assert states(url, "s/A/tune") == {"COMPLETE": 3, "FAIL": 3}
    assert paused.repair() == 0


def test_a_study_that_was_deleted_leaves_no_optuna_studies(ledger: Ledger, url: str) -> None:
    finish_all(ledger)
    Mirror(ledger).repair()
    assert states(url, "s/A/tune") == {"COMPLETE": 12} and states(url, "s/B/rerun") == {"COMPLETE": 3}
    ledger.delete()
    fresh = make(ledger.engine)
    Mirror(fresh).repair()
    assert states(url, "s/A/tune") == {}
    delete_study(fresh.engine, "s")
    assert plain_names(url) == []


def test_other_versions_of_optunas_tables_are_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    Mirror(ledger)
    monkeypatch.setattr(schema, "VERSION", "v9.0.0.a")
    with pytest.raises(HpoError, match=r"v3\.2\.0\.a .* v9\.0\.0\.a.*optuna storage upgrade"):
        Mirror(ledger)


def test_rows_are_as_optunas_public_api_writes_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(url)
    one, other = make(engine, "one"), make(engine, "other")
    history(one, Mirror(one, "cpu"))
    storage = open_storage(engine)
    monkeypatch.setattr(mirror_module, "create_trials", lambda _, *arguments: create_one_by_one(storage, *arguments))
    monkeypatch.setattr(mirror_module, "end_trials", lambda _, results: end_one_by_one(storage, results))
    history(other, Mirror(other, "cpu"))
    rows = optuna_rows(engine, one)
    assert len(rows) > 60 and {row[0] for row in rows} >= {"/A/tune", *TABLES[:3]}
    assert rows == optuna_rows(engine, other)


def history(ledger: Ledger, mirror: Mirror) -> None:
    """All that a mirror writes: values, divergence, failures, takeovers, and a repair after crashes."""
    first, second, third = begin(ledger, mirror).slots
    results = [
        Outcome(first.id, 1, 1 / 3, curves={"validation_accuracy": [0.25, math.nan, 1 / 3]}),
        Outcome(second.id, 1, 0.1, "diverged"),
        Outcome(third.id, 1, None, "diverged"),
    ]
    ledger.finish("x", results)
    mirror.finish(Work("A", "tune", [first, second, third]), results)
    begin(ledger, mirror, "lost", limit=2, seconds=-1.0)
    work = begin(ledger, mirror, "y", limit=2)
    ledger.fail("y", work.slots[:1], "exception", "why")
    mirror.fail([work.slots[0].trial, work.slots[0].trial, None], "exception")
    ledger.finish("y", [Outcome(work.slots[1].id, 2, 0.7)])  # and dies before the mirror
    hidden = ledger.lease("z", 3)  # the one that failed and a fresh one
    assert hidden is not None
    hidden = ledger.assign("z", hidden, [{"learning_rate": 0.05}] * 2)
    ledger.finish("z", [Outcome(slot.id, slot.attempt, -0.5) for slot in hidden.slots])
    assert mirror.repair() == 3 and mirror.repair() == 0
    begin(ledger, mirror, "w", limit=1)


def create_one_by_one(
    storage: RDBStorage, study: int, distributions: Mapping[str, BaseDistribution], new: Sequence[NewTrial]
) -> list[int]:
    templates = [
        create_trial(
            state=TrialState.RUNNING,
            params=dict(entry.setting),
            distributions={name: distributions[name] for name in entry.setting},
            user_attrs=dict(entry.attributes),
        )
        for entry in new
    ]
    return [storage.create_new_trial(study, template) for template in templates]


def end_one_by_one(storage: RDBStorage, results: Iterable[TrialResult]) -> None:
    for result in results:
        if result.trial is not None:
            with suppress(UpdateFinishedTrialError):
                for epoch, value in result.curve.items():
                    storage.set_trial_intermediate_value(result.trial, epoch, value)
                if result.cause is not None:
                    storage.set_trial_user_attr(result.trial, "cause", result.cause)
                values = None if result.value is None else [result.value]
                storage.set_trial_state_values(result.trial, result.state, values)


def optuna_rows(engine: sa.Engine, ledger: Ledger) -> list[list[Any]]:
    """Everything that Optuna's tables hold of a ledger; ids become positions, times become whether they are now."""
    tables = sa.MetaData()
    tables.reflect(engine, only=["studies", "trials", *TABLES])
    positions = {row["id"]: position for position, row in enumerate(ledger.export()["slots"])}
    actual: list[list[Any]] = []
    with engine.begin() as connection:
        studies, trials = tables.tables["studies"], tables.tables["trials"]
        query = sa.select(trials, studies.c.study_name).join_from(trials, studies)
        query = query.where(studies.c.study_name.like(f"{ledger.study}/%"))
        for trial in connection.execute(query.order_by(studies.c.study_name, trials.c.trial_id)).mappings():
            times = [trial["datetime_start"], trial["datetime_complete"]]
            now = datetime.now(UTC).replace(tzinfo=None)
            recent = [time and abs(now - time) < timedelta(minutes=10) for time in times]
            name = trial["study_name"].removeprefix(ledger.study)
            actual.append([name, trial["number"], str(trial["state"]), *recent])
            for table in (tables.tables[name] for name in TABLES):
                columns = [column for column in table.c if not column.primary_key or column.name == "trial_id"]
                rows = sa.select(*columns).where(table.c.trial_id == trial["trial_id"])
                ordered = connection.execute(rows.order_by(*table.primary_key.columns)).mappings()
                actual += [[table.name, _without_ids(row, positions)] for row in ordered]
    return actual


def _without_ids(row: Any, positions: dict[int, int]) -> dict[str, Any]:
    columns = {name: str(value) if name == "value_type" else value for name, value in row.items() if name != "trial_id"}
    if columns.get("key") == "slot_id":
        columns["value_json"] = positions[int(columns["value_json"])]
    return columns


def test_numbers_are_unique_while_plain_optuna_writes_too(url: str) -> None:
    ledger = make(connect(url), trials=10)
    mirror = Mirror(ledger)
    mirror.repair()
    study = plain_study(url, "s/A/tune")
    [number] = mirror.studies.ids(["s/A/tune"])
    new = [NewTrial({"learning_rate": 0.01}, {"slot": slot}) for slot in range(3)]
    errors: list[BaseException] = []

    def write(action: Callable[[], object]) -> None:
        try:
            for _ in range(5):
                action()
        except BaseException as error:
            errors.append(error)

    def create() -> object:
        return create_trials(ledger.engine, number, mirror.distributions["A"], new)

    threads = [threading.Thread(target=write, args=(action,)) for action in [create, create, create, study.ask]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [trial.number for trial in study.get_trials(deepcopy=False)] == list(range(5 * (3 * 3 + 1)))


def test_statements_do_not_grow_with_the_population(url: str) -> None:
    ledger = make(connect(url), trials=300)
    mirror = Mirror(ledger)

    def statements(size: int) -> list[int]:
        work = ledger.lease("x", size)
        assert work is not None and len(work.slots) == size
        work = ledger.assign("x", work, [{"learning_rate": 0.01}] * size)
        results = [Outcome(slot.id, 1, 0.5, "diverged") for slot in work.slots]
        with counted_statements(ledger.engine) as begun:
            work = mirror.begin("x", work)
        with counted_statements(ledger.engine) as finished:
            mirror.finish(work, results)
        ledger.finish("x", results)
        assert mirror.repair() == 0
        return [*begun, *finished]

    for _ in "AB":
        assert statements(10)[0] > 0
    few, many = statements(1), statements(49)
    assert few == many and sum(many) < 20


def test_a_repair_of_nothing_takes_no_lock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker repairs when it starts and ends: a thousand of them must not wait for one another."""
    Mirror(ledger).repair()

    def locked(*_: Any) -> None:
        raise AssertionError("the creation lock was taken")

    for module in ("mirror", "studies"):
        monkeypatch.setattr(f"hpo.storage.optuna.{module}.creation_lock", locked)
    mirror = Mirror(ledger)
    work = begin(ledger, mirror)
    ledger.finish("x", [Outcome(slot.id, 1, 0.5) for slot in work.slots])
    mirror.finish(work, [Outcome(slot.id, 1, 0.5) for slot in work.slots])
    assert mirror.repair() == 0


def test_a_study_deleted_in_optuna_is_created_at_the_next_call(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    open_storage(ledger.engine).delete_study(mirror.studies.ids(["s/A/tune"])[0])
    work = ledger.lease("x", 2)
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.01}] * 2)
    with pytest.raises(KeyError):
        mirror.begin("x", work)
    assert len(mirror.begin("x", work).slots) == 2
    assert states(url, "s/A/tune") == {"RUNNING": 2}


def test_a_released_trial_with_choices_is_resumed_as_the_same_trial(url: str) -> None:
    space = {"width": as_json(choice(32, 64)), "kind": as_json(choice("a", "b")), "flag": as_json(choice(True, False))}
    described = definition(configurations=[{"name": "A", "trials": None, "space": space}])
    ledger = open_study(connect(url), "choices", described, "d", {"trials": 2, "seeds": 1}, {}, {})
    mirror, setting = Mirror(ledger), {"width": 64, "kind": "b", "flag": False}
    work = ledger.lease("x", 2)
    assert work is not None
    begun = mirror.begin("x", ledger.assign("x", work, [setting, setting]))
    mirror.release(ledger.release("x"))
    again = ledger.lease("y", 2)
    assert again is not None
    assert [slot.trial for slot in mirror.begin("y", again).slots] == [slot.trial for slot in begun.slots]
    trials = plain_study(url, "choices/A/tune").trials
    assert [trial.params for trial in trials] == [setting] * 2
    assert [type(value) for value in trials[0].params.values()] == [int, str, bool]
