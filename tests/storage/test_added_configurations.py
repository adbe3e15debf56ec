"""Configurations added to a study: nothing old changes, workers that opened it before continue, the rest is refused."""

from typing import Any

import pytest
from sqlalchemy.engine import Engine
from storage_study import RATE, definition, finish_all, known_for_long, outcomes

from hpo.analysis.tuning_numbers import tuning_numbers
from hpo.errors import UsageError
from hpo.report import read_record
from hpo.report.reproduction import steps
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study, new_worker_id, open_study
from hpo.storage.ledger.planning import PLANNED
from hpo.storage.ledger.progress import Training, progress
from hpo.storage.optuna.live_curves import LiveCurves, write_live
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.tracked_runs import read_runs

NUMBERS = {"trials": 12, "seeds": 5, "tuning_runs": 2}
NEW = {"name": "C", "trials": None, "space": {"learning_rate": RATE}}
Row = dict[str, Any]


def extended(*entries: Row, **changes: Any) -> Row:
    """The definition of `opened` with further configurations."""
    plain = definition(**changes)
    return {**plain, "configurations": [*entries, *plain["configurations"]]}


def opened(engine: Engine, *entries: Row, code: dict[str, str] | None = None, **changes: Any) -> Ledger:
    """The study, as a file with further configurations in front has it."""
    digest = "d" + "".join(entry["name"] for entry in entries)
    described, numbers = extended(*entries, **changes), dict(NUMBERS)
    ledger = open_study(engine, "s", described, digest, numbers, {"title": "t"}, code or {"loss": "aa"}, ())
    return known_for_long(ledger)


def slots_of(ledger: Ledger, *names: str) -> list[Row]:
    return [row for row in ledger.export()["slots"] if row["configuration"] in names]


def test_only_the_new_configuration_is_trained_and_it_has_the_same_seeds(url: str) -> None:
    engine = connect(url)
    first = opened(engine)
    finish_all(first)
    first.note_report()
    before = slots_of(first, "A", "B")
    second = opened(engine, NEW)
    assert second.state() == "work" and slots_of(second, "A", "B") == before
    finish_all(second)
    assert second.state() == "done" and slots_of(second, "A", "B") == before
    new, old = slots_of(second, "C"), slots_of(second, "B")
    assert [[row[key] for key in ("phase", "tuning_run", "slot", "seed", "state")] for row in new] == [
        [row[key] for key in ("phase", "tuning_run", "slot", "seed", "state")] for row in old
    ]
    [note] = second.export()["study"]["notes"]
    assert note["added"] == ["C"] and "after a report" in note["event"] and note["time"] > 1e9
    assert second.export()["study"]["definition"] == extended(NEW)


def test_a_configuration_with_nothing_to_tune_has_one_trial_per_tuning_run(url: str) -> None:
    fixed = {"name": "F", "trials": None, "space": {"learning_rate": 0.01}}
    own = {"name": "O", "trials": 4, "space": {"learning_rate": 0.01}}
    engine = connect(url)
    opened(engine)
    ledger = opened(engine, fixed, own)

    def trials(name: str) -> list[int]:
        return [
            sum(row["phase"] == "tune" and row["tuning_run"] == run for row in slots_of(ledger, name))
            for run in range(3)
        ]

    assert [trials(name) for name in "ABFO"] == [[12, 12, 0], [12, 12, 0], [1, 1, 0], [4, 4, 0]]
    numbers = {"trials": 20, "tuning_runs": 3, "seeds": 7}
    described = extended(fixed, own)
    open_study(engine, "s", described, "dFO", numbers, {}, {"loss": "aa"}, tuple(PLANNED))
    assert [trials(name) for name in "ABFO"] == [[20] * 3, [20] * 3, [1] * 3, [4] * 3]
    worker = new_worker_id()
    while work := ledger.lease(worker, 50):
        settings = [{"learning_rate": 0.01}] * sum(slot.setting is None for slot in work.slots)
        ledger.finish(worker, outcomes(ledger.assign(worker, work, settings)))
    assert ledger.state() == "done" and {row["state"] for row in slots_of(ledger, *"ABFO")} == {"done"}
    record = read_record(ledger)
    tuning = {entry["name"]: tuning_numbers(record, entry) for entry in described["configurations"]}
    assert {name: (each.planned, each.finished) for name, each in tuning.items()} == {
        "A": (60, 60), "B": (60, 60), "F": (3, 3), "O": (12, 12),
    }  # fmt: skip


def test_the_steps_that_reproduce_a_study_are_those_that_made_it(url: str) -> None:
    engine = connect(url)
    assert steps(opened(engine).export()["study"]) == []
    swapped = {**definition(), "configurations": definition()["configurations"][::-1]}
    ledger = open_study(engine, "s", swapped, "other", dict(NUMBERS), {}, {"loss": "aa"}, ())
    assert ledger.digest == "d" and ledger.export()["study"]["notes"][0]["order"] == [["A", "B"], ["B", "A"]]
    entries = {**swapped, "configurations": [*swapped["configurations"], NEW]}
    open_study(engine, "s", entries, "dC", {**NUMBERS, "trials": 20}, {}, {"loss": "aa"}, ("trials",))
    first, *later = steps(load_study(engine, "s").export()["study"])
    assert "A and B, in this order" in first and "--trials 12" in first and "C" not in first
    assert ["B, A" in later[0], "add C" in later[1], "--trials 20" in later[2], len(later)] == [True, True, True, 3]


def test_a_file_that_lacks_a_configuration_is_told_to_add_it(url: str) -> None:
    engine = connect(url)
    opened(engine, NEW)
    other = {**NEW, "name": "D"}
    for entries in ((), (other,)):
        with pytest.raises(UsageError, match="add configuration C to the study file"):
            opened(engine, *entries)
    with pytest.raises(UsageError, match="another definition"):
        opened(engine, epochs=3)


def test_seeds_stay_with_their_tuning_runs_where_seeds_were_raised(url: str) -> None:
    engine = connect(url)
    opened(engine)
    numbers = {**NUMBERS, "tuning_runs": 3, "seeds": 7}
    open_study(engine, "s", definition(), "d", numbers, {}, {"loss": "aa"}, tuple(PLANNED))
    ledger = opened(engine, NEW)
    runs = {
        name: {row["slot"]: row["tuning_run"] for row in slots_of(ledger, name) if row["phase"] == "rerun"}
        for name in "AC"
    }
    assert runs["C"] == runs["A"] and len(runs["A"]) == 7


@pytest.mark.parametrize("moment", ["tuning", "leased", "reruns"])
def test_a_worker_that_opened_the_study_before_finishes_what_it_knows(url: str, moment: str) -> None:
    engine, worker = connect(url), new_worker_id()
    old = opened(engine)
    if moment == "leased":
        held = old.lease(worker, 4)
        assert held is not None
    elif moment == "reruns":
        finish_all(old, worker, until="rerun")
    new = opened(engine, NEW, code={"loss": "aa", "study file: grads": "bb"})
    if moment == "leased":
        old.release(worker)
    assert set(old.counts()) == {"A", "B"} and len(old.groups()) < len(new.groups())
    finish_all(old, worker)
    assert old.state() == "done" and new.state() == "work"
    assert {row["state"] for row in slots_of(old, "A", "B")} == {"done"}
    assert {row["state"] for row in slots_of(old, "C")} == {"open"}
    finish_all(new)
    assert {(row["round"], row["state"]) for row in new.export()["slots"]} == {(0, "done")}
    assert all(row["setting"] for row in new.export()["slots"])


def test_a_process_that_opened_the_study_before_shows_and_logs_what_it_knows(url: str) -> None:
    engine = connect(url)
    old, other = opened(engine), new_worker_id()
    old.register("here:1:0:a"), old.register("here:2:0:b")
    first = old.lease("here:1:0:a", 4)
    assert first is not None and first.configuration == "A"
    first = old.assign("here:1:0:a", first, [{"learning_rate": 0.01, "lambda": 0.0}] * 4)
    new = opened(engine, NEW)
    while (work := new.lease(other, 24)) and work.configuration != "C":
        pass
    assert work is not None
    work = new.assign(other, work, [{"learning_rate": 0.01}] * len(work.slots))
    new.finish(other, outcomes(work.with_slots(work.slots[:1])))
    new.fail(other, work.slots[1:2], "exception", "ValueError: no")
    for worker, configuration in (("here:1:0:a", "A"), ("here:2:0:b", "C")):
        training = Training(configuration, "trial", 4, 1, 2, 0.5, 0.9, 2.0)
        write_live(old, worker, LiveCurves(work.with_slots([]), {}, False, training._asdict()))

    shown = {ledger: progress(ledger.definition, ledger.counts(), ledger.activity().workers) for ledger in (old, new)}
    assert [training.configuration for training in shown[old].trainings] == ["A", "C"]
    # 4 epochs per second of both workers; A and B have 24 trials and 5 reruns of 2 epochs each, C has the same.
    assert shown[old].seconds_left == pytest.approx((2 * 29 * 2 - 4) / 4)
    assert shown[new].seconds_left is not None and "C" in {run.configuration for run in read_runs(new, ())}
    assert {run.configuration for run in read_runs(old, ())} == {"A"}
    assert old.activity().exceptions == {} and new.activity().exceptions == {"C": "ValueError: no"}


def test_an_old_worker_repairs_optunas_tables_without_the_new_configuration(url: str) -> None:
    engine = connect(url)
    old = opened(engine)
    new = opened(engine, NEW)
    finish_all(new)
    assert Mirror(old).repair() > 0 and Mirror(old).repair() == 0
    assert all(row["trial"] is None for row in slots_of(new, "C")) and all(
        row["trial"] is not None for row in slots_of(new, "A", "B")
    )
    assert Mirror(new).repair() > 0 and Mirror(new).repair() == 0
    assert all(row["trial"] is not None for row in slots_of(new, "C"))


def test_settings_are_sampled_from_the_same_seed_before_and_after(url: str) -> None:
    engine = connect(url)
    old = opened(engine)
    second, third = opened(engine, NEW), opened(engine, {**NEW, "name": "D"}, NEW)
    assert old.sampling_digests == {"A": "d", "B": "d"}
    assert second.sampling_digests == {"A": "d", "B": "d", "C": "dC"}
    assert third.sampling_digests == {"A": "d", "B": "d", "C": "dC", "D": "dDC"}


@pytest.mark.parametrize(
    "definition_",
    [
        extended(NEW, high=0.2),
        extended(NEW, epochs=3),
        {**definition(), "configurations": definition()["configurations"][:1]},
        {**definition(), "configurations": [*definition()["configurations"][:1], NEW]},
    ],
    ids=["space", "epochs", "removed", "replaced"],
)
def test_anything_else_is_refused_and_changes_nothing(url: str, definition_: Row) -> None:
    engine = connect(url)
    ledger = opened(engine)
    before = ledger.export()
    with pytest.raises(UsageError, match="only configurations can be added"):
        open_study(engine, "s", definition_, "x", NUMBERS, {}, {"loss": "aa"}, ())
    assert ledger.export() == before


def test_code_that_old_configurations_use_may_not_change_with_an_addition(url: str) -> None:
    engine = connect(url)
    finish_all(opened(engine))
    with pytest.raises(UsageError, match="changed since its first trials"):
        opened(engine, NEW, code={"loss": "bb"})
    assert opened(engine, NEW, code={"loss": "aa", "study file: grads": "bb"}).configurations == ["C", "A", "B"]


def test_code_that_changes_while_a_worker_starts_is_still_refused(url: str) -> None:
    engine = connect(url)
    old = opened(engine)
    opened(engine, NEW, code={"loss": "bb"})  # nothing has been trained, so that this is allowed
    with pytest.raises(UsageError, match="opened with other code"):
        old.lease(new_worker_id(), 4)


def test_the_order_of_configurations_is_no_change_and_the_new_order_is_shown(url: str) -> None:
    engine = connect(url)
    first = opened(engine)
    finish_all(first)
    before = slots_of(first, "A", "B")
    plain = definition()
    swapped = {**plain, "configurations": plain["configurations"][::-1]}
    second = open_study(engine, "s", swapped, "other", dict(NUMBERS), {}, {"loss": "aa"}, ())
    assert second.configurations == ["B", "A"] and second.state() == "done" and slots_of(second, "A", "B") == before
    assert (second.digest, second.sampling_digests) == (first.digest, first.sampling_digests)
    third = open_study(engine, "s", extended(NEW), "more", dict(NUMBERS), {}, {"loss": "aa"}, ())
    assert third.configurations == ["C", "A", "B"] and slots_of(third, "A", "B") == before
    assert third.sampling_digests == {"C": "more", "A": first.digest, "B": first.digest}


@pytest.mark.parametrize("change", ["order", "first of equal names"])
def test_only_the_order_of_configurations_does_not_count(url: str, change: str) -> None:
    """A network's layers are trained in their order, and two may have one name."""
    engine, layers = connect(url), [{"name": "conv", "width": 3}, {"name": "pool"}, {"name": "conv", "width": 5}]
    changed = layers[::-1] if change == "order" else [{"name": "conv", "width": 4}, *layers[1:]]
    opened(engine, model={"kind": "Net", "layers": layers})
    with pytest.raises(UsageError, match=r"model\.layers: "):
        opened(engine, model={"kind": "Net", "layers": changed})


def test_a_changed_kind_of_number_is_named(url: str) -> None:
    engine = connect(url)
    opened(engine)
    with pytest.raises(UsageError, match=r"epochs: 2 → 2\.0"):
        open_study(engine, "s", {**definition(), "epochs": 2.0}, "x", dict(NUMBERS), {}, {"loss": "aa"}, ())
