"""Optuna's tables agree with the ledger, also after a crash between the two."""

from collections import Counter

import optuna
import pytest
from storage_study import finish_all, make, outcomes, plain_names, plain_study

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome
from hpo.storage.optuna.mirror import Mirror, clear, study_name


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def states(url: str, name: str) -> dict[str, int]:
    trials = plain_study(url, name).get_trials(deepcopy=False)
    return dict(Counter(trial.state.name for trial in trials))


def begin(ledger: Ledger, mirror: Mirror, worker_id: str = "x", limit: int = 3, seconds: float = 60.0):
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    settings = [{"learning_rate": 0.01 + slot.slot / 1000, "lambda": 1.0} for slot in work.slots if not slot.setting]
    return mirror.begin(worker_id, ledger.assign(worker_id, work, settings))


def test_names() -> None:
    assert study_name("gnvr", "A", "tune") == "gnvr/A/tune"
    assert study_name("gnvr", "A", "rerun", 1) == "gnvr/A/rerun/r2"


def test_running_then_complete_or_fail(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger, device="cpu")
    work = begin(ledger, mirror)
    assert states(url, "s/A/tune") == {"RUNNING": 3}
    first, second, third = work.slots
    ended = [Outcome(first.id, 1, 0.8), Outcome(second.id, 1, 0.1, "diverged"), Outcome(third.id, 1, None, "diverged")]
    ledger.finish("x", ended)
    mirror.finish(work, ended)
    study = plain_study(url, "s/A/tune")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE and study.metric_names == ["validation_accuracy"]
    assert [(trial.state.name, trial.user_attrs.get("cause")) for trial in study.trials] == [
        ("COMPLETE", None), ("COMPLETE", "diverged"), ("FAIL", "diverged"),
    ]  # fmt: skip
    best = study.best_trial
    assert best.value == 0.8 and best.params == {"learning_rate": 0.01, "lambda": 1.0}
    assert {key: best.user_attrs[key] for key in ("slot", "seed", "attempt", "device")} == {
        "slot": 0, "seed": 0, "attempt": 1, "device": "cpu",
    }  # fmt: skip
    assert [row["trial"] for row in ledger.export()["slots"][:3]] == [slot.trial for slot in work.slots]


def test_a_taken_over_trial_is_closed(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    begin(ledger, mirror, "x", seconds=-1.0)
    work = begin(ledger, mirror, "y")
    assert states(url, "s/A/tune") == {"FAIL": 3, "RUNNING": 3}
    ledger.finish("y", outcomes(work))
    mirror.finish(work, outcomes(work))
    assert states(url, "s/A/tune") == {"FAIL": 3, "COMPLETE": 3}


def test_repair_after_a_crash_between_ledger_and_mirror(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    done, lost, hidden = begin(ledger, mirror).slots
    work = ledger.lease("x", 1)  # finished without ever being shown
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.05}])
    ledger.finish("x", [*outcomes(work), Outcome(done.id, 1, 0.9), Outcome(hidden.id, 1, 0.7)])
    assert hidden.trial is not None
    mirror.fail([hidden.trial], "lost worker")  # closed too early
    ledger.fail("x", [lost], "exception", "Traceback")
    assert mirror.repair() == 4 and mirror.repair() == 0
    assert states(url, "s/A/tune") == {"COMPLETE": 2, "FAIL": 2} and states(url, "s/B/tune") == {"COMPLETE": 1}
    assert plain_study(url, "s/A/tune").best_value == 0.9
    assert Mirror(ledger).repair() == 0


def test_repair_leaves_living_trials_alone(ledger: Ledger, url: str) -> None:
    mirror = Mirror(ledger)
    begin(ledger, mirror)
    assert mirror.repair() == 0 and states(url, "s/A/tune") == {"RUNNING": 3}


def test_a_study_made_afresh_gets_fresh_optuna_studies(ledger: Ledger, url: str) -> None:
    finish_all(ledger)
    Mirror(ledger).repair()
    assert states(url, "s/A/tune") == {"COMPLETE": 12} and states(url, "s/B/rerun") == {"COMPLETE": 3}
    ledger.delete()
    again = make(ledger.engine)
    Mirror(again).repair()
    assert states(url, "s/A/tune") == {}
    clear(ledger.engine, "s")
    assert plain_names(url) == []
