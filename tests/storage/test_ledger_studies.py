"""Making, opening, refusing, enlarging and deleting studies."""

from collections import Counter

import pytest
import storage_study
from sqlalchemy.engine import Engine
from storage_study import definition, finish_all, make

from hpo.errors import UsageError
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import load_study, names, open_study
from hpo.storage.ledger.definition_diff import describe_changes, describe_code_changes

PLANNED = {"trials": 12, "seeds": 3, "tuning_runs": 1}


@pytest.fixture
def engine(url: str) -> Engine:
    return connect(url)


def test_all_slots_are_made_with_the_study(engine: Engine) -> None:
    ledger = open_study(engine, "s", definition(trials=5), "d", PLANNED, {}, {})
    rows = ledger.export()["slots"]
    assert Counter((row["configuration"], row["phase"]) for row in rows) == {
        ("A", "tune"): 5, ("B", "tune"): 12, ("A", "rerun"): 3, ("B", "rerun"): 3,
    }  # fmt: skip
    assert {row["seed"] for row in rows if row["phase"] == "tune"} == {0}
    assert [row["seed"] for row in rows if row["phase"] == "rerun"] == [1000, 1001, 1002] * 2


def test_repeats_share_the_reruns(engine: Engine) -> None:
    rows = make(engine, trials=4, seeds=5, tuning_runs=2).export()["slots"]
    mine = [row for row in rows if row["configuration"] == "A"]
    assert Counter((row["tuning_run"], row["seed"]) for row in mine if row["phase"] == "tune") == {(0, 0): 4, (1, 1): 4}
    assert [(row["slot"], row["tuning_run"]) for row in mine if row["phase"] == "rerun"] == [
        (0, 0), (1, 1), (2, 0), (3, 1), (4, 0),
    ]  # fmt: skip


def test_another_definition_is_refused_with_the_two_ways_out(engine: Engine) -> None:
    make(engine)
    with pytest.raises(UsageError) as caught:
        open_study(engine, "s", definition(high=1.0), "e", PLANNED, {}, {})
    assert "configurations.A.space.learning_rate.high: 0.1 → 1.0" in str(caught.value)
    assert "--name" in str(caught.value) and "--fresh" in str(caught.value)


def test_changes_are_named_by_path() -> None:
    old = {"epochs": 30, "configurations": [{"name": "A", "x": 1}, {"name": "B"}], "widths": [1, 2]}
    new = {"epochs": 15, "configurations": [{"name": "A", "x": 2}], "widths": [1, 3], "margin": 0.01}
    assert describe_changes(old, new) == (
        'epochs: 30 → 15; configurations.A.x: 1 → 2; configurations.B: {"name": "B"} → absent; '
        "widths: [1, 2] → [1, 3]; and 1 more"
    )


def test_planned_numbers_may_only_be_raised(engine: Engine) -> None:
    make(engine)
    for lower in ({"trials": 11}, {"seeds": 2}):
        with pytest.raises(UsageError, match="only be raised"):
            make(engine, **lower)
    with pytest.raises(UsageError, match="--seeds 4 or more"):
        make(engine, tuning_runs=2)
    assert make(engine).export()["study"]["notes"] == []


def test_raised_trials_change_the_best_and_open_a_new_round(engine: Engine) -> None:
    ledger = make(engine)
    finish_all(ledger)
    assert storage_study.best(ledger, "A") == {"slot": 0, "setting": {"learning_rate": 0.001}, "value": 0.999}
    ledger = make(engine, trials=13)
    assert ledger.state() == "work"
    work = ledger.lease("x", 9)
    assert work is not None and [slot.slot for slot in work.slots] == [12]
    work = ledger.assign("x", work, [{"learning_rate": 0.0001}])
    finish_all(ledger, until="rerun")
    from storage_study import outcomes

    assert ledger.state() == "wait"
    ledger.finish("x", outcomes(work))
    finish_all(ledger)
    rows = [row for row in ledger.export()["slots"] if row["phase"] == "rerun"]
    rounds = Counter((row["configuration"], row["round"], row["setting"]["learning_rate"]) for row in rows)
    assert rounds == {("A", 0, 0.001): 3, ("A", 1, 0.0001): 3, ("B", 0, 0.001): 3}
    assert {row["state"] for row in rows} == {"done"} and ledger.state() == "done"
    assert ledger.counts()["A"]["reruns_total"] == 3


def test_raised_seeds_add_reruns_and_are_noted_after_a_report(engine: Engine) -> None:
    ledger = make(engine)
    finish_all(ledger)
    make(engine, seeds=4)
    ledger.note_report()
    ledger = make(engine, seeds=6)
    finish_all(ledger)
    rows = [row for row in ledger.export()["slots"] if row["phase"] == "rerun" and row["configuration"] == "A"]
    assert [row["seed"] for row in rows] == [1000, 1001, 1002, 1003, 1004, 1005]
    assert {(row["round"], row["state"], row["setting"]["learning_rate"]) for row in rows} == {(0, "done", 0.001)}
    events = [note["event"] for note in ledger.export()["study"]["notes"]]
    assert events == ["seeds raised from 3 to 4", "seeds raised from 4 to 6 after a report"]


def test_raised_repeats_tune_anew_and_leave_every_seed_with_its_tuning_run(engine: Engine) -> None:
    """As many seeds for the new tuning runs as for the old ones; what was done stays as it was."""
    ledger = make(engine, tuning_runs=2, seeds=4)
    finish_all(ledger)
    before = {row["id"]: row for row in ledger.export()["slots"]}
    ledger = make(engine, tuning_runs=3, seeds=7)
    assert ledger.state() == "work"
    finish_all(ledger)
    after = {row["id"]: row for row in ledger.export()["slots"]}
    assert {id: after[id] for id in before} == before
    for name in "AB":
        rows = [row for row in after.values() if row["configuration"] == name]
        seeds = {row["seed"]: row["tuning_run"] for row in rows if row["phase"] == "rerun"}
        assert seeds == {1000: 0, 1001: 1, 1002: 0, 1003: 1, 1004: 2, 1005: 2, 1006: 0}
        tuned = Counter((row["tuning_run"], row["seed"]) for row in rows if row["phase"] == "tune")
        assert tuned == {(tuning_run, tuning_run): ledger.planned["trials"] for tuning_run in range(3)}
    assert {row["state"] for row in after.values()} == {"done"}
    events = [note["event"] for note in ledger.export()["study"]["notes"]]
    assert events == ["seeds raised from 4 to 7", "tuning runs raised from 2 to 3"]


def test_repeats_raised_together_with_trials_and_seeds(engine: Engine) -> None:
    """From one tuning run to four: what it had stays, and a configuration's own number of trials holds for each."""
    planned = {"trials": 12, "seeds": 3, "tuning_runs": 1}
    open_study(engine, "s", definition(trials=5), "d", planned, {}, {})
    ledger = open_study(engine, "s", definition(trials=5), "d", {"trials": 14, "seeds": 9, "tuning_runs": 4}, {}, {})
    rows = ledger.export()["slots"]
    tuned = Counter((row["configuration"], row["tuning_run"]) for row in rows if row["phase"] == "tune")
    assert tuned == {("A", tuning_run): 5 for tuning_run in range(4)} | {
        ("B", tuning_run): 14 for tuning_run in range(4)
    }
    reruns = Counter((row["configuration"], row["tuning_run"]) for row in rows if row["phase"] == "rerun")
    assert reruns == {(name, tuning_run): seeds for name in "AB" for tuning_run, seeds in enumerate((3, 2, 2, 2))}
    slots = [(row["configuration"], row["phase"], row["tuning_run"], row["slot"]) for row in rows]
    assert len(set(slots)) == len(slots)


def test_what_is_not_asked_for_stays_as_another_process_has_raised_it(engine: Engine) -> None:
    make(engine, trials=20, tuning_runs=2, seeds=6)
    ledger = open_study(engine, "s", definition(), "d", PLANNED, {}, {}, raised=())
    assert ledger.planned == {"trials": 20, "seeds": 6, "tuning_runs": 2}
    with pytest.raises(UsageError, match="give --trials 20 or more"):
        open_study(engine, "s", definition(), "d", PLANNED, {}, {}, raised=("trials",))


def test_tuning_keeps_to_its_own_seeds(engine: Engine) -> None:
    open_study(engine, "s", definition(seeds_per_trial=300), "d", PLANNED, {}, {})
    with pytest.raises(UsageError, match="at most 3 tuning runs"):
        open_study(engine, "s", definition(seeds_per_trial=300), "d", PLANNED | {"seeds": 9, "tuning_runs": 4}, {}, {})


def test_epochs_that_tuning_follows_are_named_once() -> None:
    old = {"epochs": 30, "tuning_epochs": 30}
    assert describe_changes(old, {"epochs": 3, "tuning_epochs": 3}) == "epochs: 30 → 3"
    assert describe_changes(old, {"epochs": 3, "tuning_epochs": 30}) == "epochs: 30 → 3"
    assert describe_changes(old, {"epochs": 3, "tuning_epochs": 5}) == "epochs: 30 → 3; tuning_epochs: 30 → 5"
    assert describe_changes(old, {"epochs": 30, "tuning_epochs": 5}) == "tuning_epochs: 30 → 5"


def test_changed_code_that_nothing_was_trained_with_is_no_news(engine: Engine) -> None:
    make(engine)
    again = open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "bb"})
    assert again.warnings == [] == again.export()["study"]["notes"]
    assert again.fingerprint == {"loss": "bb"}
    again.lease("x", 1)
    with pytest.raises(UsageError, match=r"code of study 's' changed .* \(loss\); undo that, .*--accept-changed-code"):
        open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "cc"})
    assert load_study(engine, "s").fingerprint == {"loss": "bb"}
    held = open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "cc"}, accept_changed_code=True)
    assert held.warnings == [
        "the code changed since the last run (loss), which was accepted; runs in training use the old code"
    ]


def test_changed_code_is_refused_or_accepted_with_a_note(engine: Engine) -> None:
    finish_all(make(engine))
    assert make(engine).warnings == []
    changed = (engine, "s", definition(), "d", PLANNED, {"title": "new"}, {"loss": "bb"})
    with pytest.raises(UsageError, match="changed since its first trials"):
        open_study(*changed)
    unchanged = load_study(engine, "s").export()["study"]
    assert unchanged["notes"] == [] and unchanged["text"] == {"title": "t"}
    again = open_study(*changed, accept_changed_code=True)
    assert again.warnings == [
        "the code changed since the last run (loss), which was accepted; earlier results used the old code"
    ]
    study = again.export()["study"]
    assert study["text"] == {"title": "new"} and study["fingerprint"] == {"loss": "bb"}
    assert [note["event"] for note in study["notes"]] == again.warnings
    assert open_study(*changed).warnings == []  # what was accepted is the study's code from now on


def test_of_two_codes_that_are_opened_before_any_training_one_trains(engine: Engine) -> None:
    first = make(engine)
    second = open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "bb"})
    with pytest.raises(UsageError, match=r"was opened with other code \(loss\) while this worker started"):
        first.lease("x", 1)
    assert second.lease("y", 1)
    third = open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "cc"}, accept_changed_code=True)
    assert third.lease("z", 1) and second.lease("y", 1)  # what is in training goes on


def test_values_that_changed_alone_may_be_random(engine: Engine) -> None:
    finish_all(make(engine))
    for changed, words in (
        ({"loss": "bb"}, "a value in the code of study 's' .* seed"),
        ({"b.py: f": "1"}, "^the code"),
    ):
        with pytest.raises(UsageError, match=words):
            open_study(engine, "s", definition(), "d", PLANNED, {}, {"loss": "aa"} | changed)


def test_another_definition_is_told_before_changed_code(engine: Engine) -> None:
    finish_all(make(engine))
    with pytest.raises(UsageError, match="exists with another definition"):
        open_study(engine, "s", definition(high=1.0), "e", PLANNED, {}, {"loss": "bb"})


def test_changed_code_by_the_names_that_a_person_knows() -> None:
    old = {"study file: WIDTH": "1", "model: WIDTH": "1", "loss.gamma": "1", "base.py: Blobs": "1", "data": "1"}
    assert describe_code_changes(old, old) == ""
    assert describe_code_changes(old, old | {"loss.gamma": "2"}) == "loss.gamma"
    assert describe_code_changes(old, old | {"model: WIDTH": "2"}) == "model: WIDTH"
    both = old | {"study file: WIDTH": "2", "model: WIDTH": "2", "study file: Net": "1"}
    assert describe_code_changes(old, both) == "study file: Net, WIDTH"
    assert describe_code_changes(old, {"data": "1"}) == "base.py: Blobs; study file: WIDTH; loss.gamma"
    many = {f"study file: f{place}": "1" for place in range(9)}
    assert describe_code_changes({}, many) == "study file: f0, f1, f2, f3, f4, f5; and 3 more"


def test_an_unknown_study_lists_the_known_ones(engine: Engine) -> None:
    with pytest.raises(UsageError, match="none yet"):
        load_study(engine, "gnvr")
    make(engine, "s"), make(engine, "r")
    assert names(engine) == ["r", "s"]
    with pytest.raises(UsageError, match=r"'gnvr'.*: r, s"):
        load_study(engine, "gnvr")
    assert load_study(engine, "s").definition == definition()


def test_delete_leaves_nothing_and_other_studies_alone(engine: Engine) -> None:
    first, second = make(engine, "r"), make(engine, "s")
    finish_all(first), finish_all(second)
    first.delete()
    assert names(engine) == ["s"]
    assert {name: column.tolist() for name, column in curves.read(engine, "r").items()} == {
        "slot_id": [], "epoch": [], "metric": [], "value": [],
    }  # fmt: skip
    assert len(curves.read(engine, "s")["value"]) == 2 * (12 + 3) * 4
    largest = max(row["id"] for row in second.export()["slots"])
    second.delete()
    assert min(row["id"] for row in make(engine, "s").export()["slots"]) > largest  # ids are never used again


def test_a_trial_of_several_models_takes_as_many_seeds(url: str) -> None:
    """The slot names the first; those of the next tuning run follow."""
    planned = {"trials": 2, "seeds": 2, "tuning_runs": 2}
    ledger = open_study(connect(url), "s", definition(seeds_per_trial=3), "d", planned, {}, {})
    rows = ledger.export()["slots"]
    assert {(row["tuning_run"], row["seed"]) for row in rows if row["phase"] == "tune"} == {(0, 0), (1, 3)}
    assert {row["seed"] for row in rows if row["phase"] == "rerun"} == {1000, 1001}
