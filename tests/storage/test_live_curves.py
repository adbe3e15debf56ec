"""Curves of trials in training, in Optuna: those of the attempt that holds the slot, and at the end the stored ones."""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from storage_study import counted_statements, make, outcomes, plain_study

from hpo.storage import transactions
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work
from hpo.storage.optuna.curves import MAX_POINTS, points
from hpo.storage.optuna.mirror import Mirror
from hpo.worker import live_progress
from hpo.worker.live_progress import Epoch, LiveProgress

SCORE = "validation_accuracy"


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def begin(ledger: Ledger, worker_id: str = "x", limit: int = 2, seconds: float = 60.0) -> Work:
    ledger.register(worker_id, "cpu")
    work = ledger.lease(worker_id, limit, seconds)
    assert work is not None
    settings = [{"learning_rate": 0.01 + slot.slot / 997} for slot in work.slots if slot.setting is None]
    return Mirror(ledger).begin(worker_id, ledger.assign(worker_id, work, settings))


def epoch(work: Work, *scores: Sequence[float], epochs: int = 6, complete: bool = True) -> Epoch:
    """The models of the first slot, or of all slots, have these scores by epoch."""
    results: Mapping[int, Any] = {
        slot.id: [
            SimpleNamespace(curves={SCORE: list(row), "train_loss": [2.0] * len(row)}, diverged_epoch=None)
            for row in scores
        ]
        for slot in work.slots
    }
    return Epoch(work, len(scores[0]), epochs, results, complete)


def report(live: LiveProgress, *arguments: Any, **options: Any) -> None:
    live.note(epoch(*arguments, **options))
    live.report()


def shown(url: str, name: str = "s/A/tune") -> list[dict[int, float]]:
    return [trial.intermediate_values for trial in plain_study(url, name).get_trials(deepcopy=False)]


def test_a_trial_in_training_shows_its_score_by_epoch(ledger: Ledger, url: str) -> None:
    work, live = begin(ledger), LiveProgress(ledger, "x")
    report(live, work, [0.25, math.inf])
    assert [list(values) for values in shown(url)] == [[1, 2]] * 2
    assert all(values[1] == 0.25 and math.isnan(values[2]) for values in shown(url))
    report(live, work, [0.25, math.inf, 0.5, 0.625])
    assert [(values[1], values[3], values[4], len(values)) for values in shown(url)] == [(0.25, 0.5, 0.625, 4)] * 2
    assert {trial.state.name for trial in plain_study(url, "s/A/tune").trials} == {"RUNNING"}


def test_several_models_give_the_mean_of_the_epochs_that_all_have(ledger: Ledger, url: str) -> None:
    work, live = begin(ledger), LiveProgress(ledger, "x")
    report(live, work, [0.25, 0.5], [0.75])
    assert shown(url) == [{1: 0.5}] * 2
    report(live, work, [9.0, 9.0, 9.0], complete=False)  # other models of the same trials, in a population of their own
    assert shown(url) == [{1: 0.5}] * 2


def test_only_new_epochs_are_written_and_all_after_a_failure(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, live = begin(ledger), LiveProgress(ledger, "x")
    report(live, work, [0.25, 0.5])
    report(live, work, [9.0, 9.0, 0.75])
    assert shown(url) == [{1: 0.25, 2: 0.5, 3: 0.75}] * 2
    with monkeypatch.context() as patched:
        patched.setattr(transactions, "run_with_retry", broken)
        report(live, work, [0.0, 0.0, 0.0, 0.0])
    assert shown(url) == [{1: 0.25, 2: 0.5, 3: 0.75}] * 2
    live.report()
    assert shown(url) == [dict.fromkeys(range(1, 5), 0.0)] * 2


def broken(*_: Any, **__: Any) -> None:
    raise OSError("unavailable")


def test_a_late_worker_writes_nothing_and_a_retry_replaces_everything(ledger: Ledger, url: str) -> None:
    lost, late = begin(ledger, seconds=-1.0), LiveProgress(ledger, "x")
    report(late, lost, [1.0, 2.0, 3.0])
    work, live = begin(ledger, "y"), LiveProgress(ledger, "y")
    assert [slot.trial for slot in work.slots] == [slot.trial for slot in lost.slots] and shown(url) == [{}, {}]
    report(late, lost, [1.0, 2.0, 3.0, 4.0])
    assert shown(url) == [{}, {}]
    report(live, work, [0.5])
    assert shown(url) == [{1: 0.5}] * 2
    ledger.finish("y", outcomes(work))
    report(live, work, [7.0, 8.0])  # between the two tables' ends
    assert shown(url) == [{1: 0.5}] * 2
    Mirror(ledger).finish(work, outcomes(work))
    report(live, work, [7.0, 8.0, 9.0])
    assert shown(url) == [{1: 0.1, 2: 0.2}] * 2


@pytest.mark.parametrize("by_repair", [False, True])
def test_at_the_end_a_trial_has_the_stored_curve(ledger: Ledger, url: str, by_repair: bool) -> None:
    work, live = begin(ledger, limit=3), LiveProgress(ledger, "x")
    report(live, work, [5.0, 5.0, 5.0, 5.0])
    ends = [
        Outcome(slot.id, 1, value, cause, curves={SCORE: curve, "train_loss": [1.0] * len(curve)})
        for slot, value, cause, curve in zip(
            work.slots, (0.5, 0.1, None), (None, "diverged", "diverged"), ([0.25, 0.5], [0.3], []), strict=True
        )
    ]
    ledger.finish("x", ends)
    mirror = Mirror(ledger)
    if by_repair:
        assert mirror.repair() == 3
    else:
        mirror.finish(work, ends)
    assert shown(url)[:2] == [{1: 0.25, 2: 0.5}, {1: 0.3}]
    assert mirror.repair() == 0


def test_a_finished_slot_that_no_trial_shows_gets_its_curve(ledger: Ledger, url: str) -> None:
    work = ledger.lease("x", 2)
    assert work is not None
    work = ledger.assign("x", work, [{"learning_rate": 0.01}] * 2)
    ledger.finish("x", outcomes(work))
    assert Mirror(ledger).repair() == 2 and shown(url) == [{1: 0.1, 2: 0.2}] * 2


def test_without_live_curves_optuna_gets_none(ledger: Ledger, url: str) -> None:
    work, live = begin(ledger), LiveProgress(ledger, "x", curves=False)
    report(live, work, [0.5])
    assert shown(url) == [{}, {}] and ledger.activity().workers[0]["training"]["epoch"] == 1
    ledger.finish("x", outcomes(work))
    Mirror(ledger, curves=False).finish(work, outcomes(work))
    assert shown(url) == [{}, {}]


def test_long_runs_show_a_hundred_epochs_and_the_last(ledger: Ledger, url: str) -> None:
    values = [float(number) for number in range(1, 252)]
    assert list(points(values)) == [*range(3, 252, 3), 251] and list(points(values[:250])) == [*range(3, 250, 3), 250]
    assert list(points(values[:100])) == [*range(1, 101)] and points([]) == {}
    assert all(len(points([0.5] * epochs)) <= MAX_POINTS + 1 for epochs in range(1, 1500, 7))
    work, live = begin(ledger), LiveProgress(ledger, "x")
    for epochs in (5, 7):
        report(live, work, values[:epochs], epochs=250)
    assert shown(url) == [{3: 3.0, 6: 6.0}] * 2


def test_the_worker_says_what_it_trains(ledger: Ledger) -> None:
    work, live = begin(ledger), LiveProgress(ledger, "x")
    report(live, work, [0.25, 0.5])
    training = ledger.activity().workers[0]["training"]
    assert training.pop("speed") > 0
    assert training == {
        "configuration": "A", "phase": "trial", "runs": 2, "epoch": 2, "epochs": 6, "loss": 2.0, "score": 0.5
    }  # fmt: skip
    live.note(None)
    live.report()
    assert ledger.activity().workers[0]["training"] is None
    assert "training" not in ledger.export()["workers"][0]


def test_statements_do_not_grow_with_the_population(url: str) -> None:
    ledger = make(connect(url), trials=300)
    ledger.register("x", "cpu")
    counts = []
    for size in (1, 5):
        work, live = begin(ledger, limit=size), LiveProgress(ledger, "x")
        assert len(work.slots) == size
        with counted_statements(ledger.engine) as statements:
            report(live, work, [0.25] * 5)
        counts.append(statements)
        ledger.finish("x", outcomes(work))
    assert counts[0] == counts[1] and counts[0][0] < 10


def test_a_slow_database_gets_fewer_reports(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    live, pauses = LiveProgress(ledger, "x"), list[float]()
    clock = iter([0.0, 0.01, 10.0, 11.0, 20.0, 20.0])  # before and after three reports: 10 ms, 1 s and nothing
    monkeypatch.setattr(live_progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) > 3

    monkeypatch.setattr(live._stopped, "wait", wait)
    live._run()
    assert pauses == pytest.approx([2.0, 2.0, 20.0, 2.0])
