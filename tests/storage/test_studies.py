"""Creating, opening, refusing, enlarging and deleting studies."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from storage_study import best, definition, finish_all, make, outcomes

from hpo.errors import UsageError
from hpo.report import read_record
from hpo.storage import curves, schema
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study, names, open_study
from hpo.storage.ledger.definition_diff import describe_changes, describe_code_changes

PLANNED = {"trials": 12, "seeds": 3, "tuning_runs": 1}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return connect(f"sqlite:///{tmp_path}/t.db")


def opened(engine: Engine, loss: str = "aa", planned: Mapping[str, int] = PLANNED, **options: Any) -> Ledger:
    """The study of `make` with other code, or with `options` of its definition and of `open_study`."""
    given = {key: options.pop(key) for key in ("raised", "accept_changed_code") if key in options}
    return open_study(engine, "s", definition(**options), "d", planned, {"title": "t"}, {"loss": loss}, **given)


def rows(ledger: Ledger, phase: str, configuration: str = "A") -> list[dict[str, Any]]:
    wanted = (phase, configuration)
    return [row for row in ledger.export()["slots"] if (row["phase"], row["configuration"]) == wanted]


def events(ledger: Ledger) -> list[str]:
    return [note["event"] for note in ledger.export()["study"]["notes"]]


def test_a_study_is_created_with_all_its_slots(url: str) -> None:
    ledger = opened(connect(url), trials=5)
    assert [len(rows(ledger, phase, name)) for name in "AB" for phase in ("tune", "rerun")] == [5, 3, 12, 3]
    assert {row["seed"] for row in rows(ledger, "tune")} == {0}
    assert [row["seed"] for row in rows(ledger, "rerun")] == [1000, 1001, 1002]


def test_tuning_runs_share_the_reruns(engine: Engine) -> None:
    ledger = make(engine, trials=4, seeds=5, tuning_runs=2)
    assert Counter((row["tuning_run"], row["seed"]) for row in rows(ledger, "tune")) == {(0, 0): 4, (1, 1): 4}
    reruns = [(row["slot"], row["tuning_run"]) for row in rows(ledger, "rerun")]
    assert reruns == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]


def test_a_trial_of_several_models_takes_as_many_seeds(engine: Engine) -> None:
    """The slot has the first of them; those of the next tuning run follow."""
    ledger = opened(engine, planned={"trials": 2, "seeds": 2, "tuning_runs": 2}, seeds_per_trial=3)
    assert {(row["tuning_run"], row["seed"]) for row in rows(ledger, "tune")} == {(0, 0), (1, 3)}
    assert {row["seed"] for row in rows(ledger, "rerun")} == {1000, 1001}


def test_another_definition_is_refused_before_changed_code(engine: Engine) -> None:
    finish_all(make(engine))
    with pytest.raises(UsageError, match=r"A\.space\.learning_rate\.high: 0\.1 → 1\.0.*--name.*--fresh"):
        open_study(engine, "s", definition(high=1.0), "e", PLANNED, {}, {"loss": "bb"})


@pytest.mark.parametrize(("second", "is_refused"), [("learning_rate", True), ("weight_decay", False)])
def test_only_an_order_of_groups_that_affects_training_is_another_definition(
    url: str, second: str, is_refused: bool
) -> None:
    """Of two patterns that change the same hyperparameter of a parameter the later one counts."""
    groups = {"*bias": {"learning_rate": 0.1}, "head*": {second: 10.0}}

    def open_with(groups: dict[str, Any]) -> Ledger:
        return opened(connect(url), configurations=[{"name": "A", "trials": 2, "groups": groups, "space": {}}])

    open_with(groups)
    with pytest.raises(UsageError, match=r"order of groups\.learning_rate") if is_refused else nullcontext():
        open_with(dict(reversed(groups.items())))
    open_with(groups)


def test_definitions_are_compared_by_path() -> None:
    old = {"epochs": 30, "configurations": [{"name": "A", "x": 1}, {"name": "B"}], "widths": [1, 2]}
    new = {"epochs": 15, "configurations": [{"name": "A", "x": 2}], "widths": [1, 3], "margin": 0.01}
    assert describe_changes(old, new) == (
        'epochs: 30 → 15; configurations.A.x: 1 → 2; configurations.B: {"name": "B"} → absent; '
        "widths: [1, 2] → [1, 3]; and 1 more"
    )


@pytest.mark.parametrize(
    ("epochs", "tuning_epochs", "text"),
    [
        (3, 3, "epochs: 30 → 3"),
        (3, 30, "epochs: 30 → 3"),
        (3, 5, "epochs: 30 → 3; tuning_epochs: 30 → 5"),
        (30, 5, "tuning_epochs: 30 → 5"),
    ],
)
def test_tuning_epochs_that_follow_the_epochs_are_not_named(epochs: int, tuning_epochs: int, text: str) -> None:
    old = {"epochs": 30, "tuning_epochs": 30}
    assert describe_changes(old, {"epochs": epochs, "tuning_epochs": tuning_epochs}) == text


@pytest.mark.parametrize(
    ("planned", "numbers"),
    [({"trials": 11}, "--trials 12"), ({"seeds": 2}, "--seeds 3"), ({"tuning_runs": 2}, "--seeds 4")],
)
def test_planned_numbers_are_only_raised(engine: Engine, planned: dict[str, int], numbers: str) -> None:
    ledger = make(engine)
    with pytest.raises(UsageError, match=numbers):
        make(engine, **planned)
    assert events(ledger) == []


def test_a_raised_number_of_trials_changes_the_best_setting_and_opens_a_new_round(url: str) -> None:
    engine = connect(url)
    ledger = make(engine)
    finish_all(ledger)
    assert best(ledger, "A") == {"slot": 0, "setting": {"learning_rate": 0.001}, "value": 0.999}
    ledger = make(engine, trials=13)
    assert ledger.state() == "work"
    work = ledger.lease("x", 9)
    assert work is not None and [slot.slot for slot in work.slots] == [12]
    work = ledger.assign("x", work, [{"learning_rate": 0.0001}])
    finish_all(ledger, until="rerun")
    assert ledger.state() == "wait"
    ledger.finish("x", outcomes(work))
    finish_all(ledger)
    reruns = [*rows(ledger, "rerun"), *rows(ledger, "rerun", "B")]
    rounds = Counter((row["configuration"], row["round"], row["setting"]["learning_rate"]) for row in reruns)
    assert rounds == {("A", 0, 0.001): 3, ("A", 1, 0.0001): 3, ("B", 0, 0.001): 3}
    assert {row["state"] for row in reruns} == {"done"} and ledger.state() == "done"
    assert ledger.counts()["A"]["reruns_total"] == 3


def test_failed_reruns_are_repeated_with_a_new_best_setting(engine: Engine) -> None:
    finish_all(make(engine), until="rerun")
    ledger = make(engine)
    for _ in range(2):
        reruns = ledger.lease("x", 9)
        assert reruns is not None and (reruns.configuration, reruns.phase) == ("A", "rerun")
        ledger.fail("x", reruns.slots, "exception", "")
    finish_all(ledger)
    ledger = make(engine, trials=13)
    work = ledger.lease("x", 9)
    assert work is not None
    ledger.finish("x", outcomes(ledger.assign("x", work, [{"learning_rate": 0.0001}])))
    finish_all(ledger)
    assert Counter((row["round"], row["state"]) for row in rows(ledger, "rerun")) == {(0, "failed"): 3, (1, "done"): 3}


def test_raised_seeds_add_reruns_and_are_noted_after_a_report(engine: Engine) -> None:
    finish_all(make(engine))
    make(engine, seeds=4).note_report()
    ledger = make(engine, seeds=6)
    finish_all(ledger)
    reruns = rows(ledger, "rerun")
    assert [row["seed"] for row in reruns] == [1000, 1001, 1002, 1003, 1004, 1005]
    assert {(row["round"], row["state"], row["setting"]["learning_rate"]) for row in reruns} == {(0, "done", 0.001)}
    assert events(ledger) == ["seeds raised from 3 to 4", "seeds raised from 4 to 6 after a report"]


def test_raised_tuning_runs_leave_every_seed_with_its_tuning_run(engine: Engine) -> None:
    """The new tuning runs get as many seeds as the old ones; finished slots do not change."""
    ledger = make(engine, tuning_runs=2, seeds=4)
    finish_all(ledger)
    before = {row["id"]: row for row in ledger.export()["slots"]}
    ledger = make(engine, tuning_runs=3, seeds=7)
    assert ledger.state() == "work"
    finish_all(ledger)
    after = {row["id"]: row for row in ledger.export()["slots"]}
    assert {id: after[id] for id in before} == before and {row["state"] for row in after.values()} == {"done"}
    for name in "AB":
        seeds = {row["seed"]: row["tuning_run"] for row in rows(ledger, "rerun", name)}
        assert seeds == {1000: 0, 1001: 1, 1002: 0, 1003: 1, 1004: 2, 1005: 2, 1006: 0}
        tuned = Counter((row["tuning_run"], row["seed"]) for row in rows(ledger, "tune", name))
        assert tuned == {(tuning_run, tuning_run): 12 for tuning_run in range(3)}
    assert events(ledger) == ["seeds raised from 4 to 7", "tuning runs raised from 2 to 3"]


def test_tuning_runs_trials_and_seeds_are_raised_together(engine: Engine) -> None:
    """A configuration's own number of trials holds for each tuning run."""
    opened(engine, trials=5)
    ledger = opened(engine, planned={"trials": 14, "seeds": 9, "tuning_runs": 4}, trials=5)
    for name, trials in (("A", 5), ("B", 14)):
        slots = {(row["tuning_run"], row["slot"]) for row in rows(ledger, "tune", name)}
        assert slots == {(tuning_run, slot) for tuning_run in range(4) for slot in range(trials)}
        assert len(rows(ledger, "tune", name)) == len(slots)
        reruns = rows(ledger, "rerun", name)
        assert Counter(row["tuning_run"] for row in reruns) == {0: 3, 1: 2, 2: 2, 3: 2}
        assert [row["slot"] for row in sorted(reruns, key=lambda row: row["slot"])] == list(range(9))


def test_numbers_that_are_not_raised_stay_as_another_process_has_raised_them(engine: Engine) -> None:
    make(engine, trials=20, tuning_runs=2, seeds=6)
    assert opened(engine, raised=()).planned == {"trials": 20, "seeds": 6, "tuning_runs": 2}
    with pytest.raises(UsageError, match="--trials 20"):
        opened(engine, raised=("trials",))


def test_tuning_has_a_limited_number_of_seeds(engine: Engine) -> None:
    opened(engine, seeds_per_trial=300)
    with pytest.raises(UsageError, match="at most 3 tuning runs"):
        opened(engine, planned=PLANNED | {"seeds": 9, "tuning_runs": 4}, seeds_per_trial=300)


def test_code_may_change_until_a_run_starts(engine: Engine) -> None:
    make(engine)
    ledger = opened(engine, "bb")
    assert (ledger.warnings, events(ledger), ledger.fingerprint) == ([], [], {"loss": "bb"})
    ledger.lease("x", 1)
    with pytest.raises(UsageError, match=r"code of study 's' .* \(loss\).*--accept-changed-code"):
        opened(engine, "cc")
    assert load_study(engine, "s").fingerprint == {"loss": "bb"}
    [warning] = opened(engine, "cc", accept_changed_code=True).warnings
    assert "(loss), which was accepted; runs in training" in warning


def test_changed_code_is_refused_or_accepted_with_a_note(engine: Engine) -> None:
    finish_all(make(engine))
    assert make(engine).warnings == []
    changed = (engine, "s", definition(), "d", PLANNED, {"title": "new"}, {"loss": "bb"})
    with pytest.raises(UsageError, match="changed since its first trials"):
        open_study(*changed)
    unchanged = load_study(engine, "s").export()["study"]
    assert unchanged["notes"] == [] and unchanged["text"] == {"title": "t"}
    ledger = open_study(*changed, accept_changed_code=True)
    assert len(ledger.warnings) == 1 and "(loss), which was accepted; earlier results" in ledger.warnings[0]
    study = ledger.export()["study"]
    assert (study["text"], study["fingerprint"], events(ledger)) == ({"title": "new"}, {"loss": "bb"}, ledger.warnings)
    assert open_study(*changed).warnings == []  # accepted code is the study's code from now on


def test_workers_with_different_code_do_not_start_one_study(engine: Engine) -> None:
    first, second = make(engine), opened(engine, "bb")
    with pytest.raises(UsageError, match=r"other code \(loss\)"):
        first.lease("x", 1)
    assert second.lease("y", 1)
    third = opened(engine, "cc", accept_changed_code=True)
    assert third.lease("z", 1) and second.lease("y", 1)  # workers that have started continue


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"loss": "bb"}, "a value in the code of study 's' .* seed"), ({"b.py: f": "1"}, "^the code")],
)
def test_a_value_that_changed_may_be_random(engine: Engine, changed: dict[str, str], words: str) -> None:
    finish_all(make(engine))
    with pytest.raises(UsageError, match=words):
        open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "aa"} | changed)


def test_changed_code_is_named_by_file_and_statement() -> None:
    old = {"study file: WIDTH": "1", "model: WIDTH": "1", "loss.gamma": "1", "base.py: Blobs": "1", "data": "1"}
    assert describe_code_changes(old, old) == ""
    assert describe_code_changes(old, old | {"loss.gamma": "2"}) == "loss.gamma"
    assert describe_code_changes(old, old | {"model: WIDTH": "2"}) == "model: WIDTH"
    both = old | {"study file: WIDTH": "2", "model: WIDTH": "2", "study file: Net": "1"}
    assert describe_code_changes(old, both) == "study file: Net, WIDTH"
    assert describe_code_changes(old, {"data": "1"}) == "base.py: Blobs; study file: WIDTH; loss.gamma"
    many = {f"study file: f{number}": "1" for number in range(9)}
    assert describe_code_changes({}, many) == "study file: f0, f1, f2, f3, f4, f5; and 3 more"


def test_an_unknown_study_is_refused_with_the_known_names(engine: Engine) -> None:
    with pytest.raises(UsageError, match="none yet"):
        load_study(engine, "gnvr")
    make(engine, "s"), make(engine, "r")
    assert names(engine) == ["r", "s"] and load_study(engine, "s").definition == definition()
    with pytest.raises(UsageError, match=r"'gnvr'.*: r, s"):
        load_study(engine, "gnvr")


def test_a_study_deleted_after_it_was_opened_is_refused_in_a_sentence(url: str) -> None:
    opened = make(connect(url))
    load_study(opened.engine, "s").delete()
    for use in (lambda: opened.register("host:1:2", "cpu"), opened.export, lambda: read_record(opened)):
        with pytest.raises(UsageError, match="'s' was deleted"):
            use()
    with opened.engine.begin() as connection:
        assert connection.execute(sa.select(schema.workers)).all() == [], "no worker of a study that does not exist"
    replacement = make(opened.engine)
    replacement.register("host:1:2", "cpu")
    assert [worker["host"] for worker in replacement.activity().workers] == ["host"]


def test_delete_leaves_nothing_of_a_study_and_all_of_another(url: str) -> None:
    engine = connect(url)
    first, second = make(engine, "r"), make(engine, "s")
    finish_all(first), finish_all(second)
    first.delete()
    assert names(engine) == ["s"] and all(len(column) == 0 for column in curves.read(engine, "r").values())
    assert len(curves.read(engine, "s")["value"]) == 2 * (12 + 3) * 4
    largest = max(row["id"] for row in second.export()["slots"])
    second.delete()
    assert min(row["id"] for row in make(engine, "s").export()["slots"]) > largest  # ids are never reused
