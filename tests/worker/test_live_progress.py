"""What real training reports by epoch: curves that end as the stored ones, whatever models a trial has."""

from typing import Any

import pytest
from storage_study import plain_study

from hpo import MLP, Configuration, Mnist1d, Study, api
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import load_study
from hpo.trials import Slot, Work, mean_curve
from hpo.worker.live_progress import Epoch, LiveProgress
from hpo.worker.trainer import Trainer
from hpo.worker.work import work

pytestmark = pytest.mark.usefixtures("one_thread")


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "title": "t", "hypothesis": "h", "name": "live", "data": Mnist1d(samples=200), "model": MLP((40, 8, 10)),
        "baseline": "A", "configurations": (Configuration("A"), Configuration("B", optimizer="sgd")), "epochs": 3,
        "trials": 2, "seeds": 2, "tuning_runs": 1,
    }  # fmt: skip
    return Study(**(fields | changes))


def test_each_epoch_has_the_curves_of_all_models_of_its_trials() -> None:
    epochs: list[tuple[int, int, dict[int, list[list[float]]], bool]] = []

    def note(epoch: Epoch) -> None:
        rows = {
            slot: [list(result.curves.get("validation_accuracy", ())) for result in results]
            for slot, results in epoch.results.items()
        }
        epochs.append((epoch.epoch, epoch.epochs, rows, epoch.complete))

    settings = [{"learning_rate": rate, "weight_decay": 1e-4} for rate in (1e-3, 1e30, 3e-3)]  # the second diverges
    slots = [Slot(10 + index, index, 7 * index, 1, setting) for index, setting in enumerate(settings)]
    outcomes = Trainer(study(seeds_per_trial=2), "cpu", note)(Work("A", "tune", slots))
    assert outcomes[1].cause == "diverged"
    assert [(epoch, of, complete) for epoch, of, _, complete in epochs] == [(1, 3, True), (2, 3, True), (3, 3, True)]
    for epoch, _, rows, _ in epochs:
        means = {slot: mean_curve(models) for slot, models in rows.items()}
        stored = {each.id: list(each.curves.get("validation_accuracy", []))[:epoch] for each in outcomes}
        assert means == stored and [len(models) for models in rows.values()] == [2, 2, 2]
    epochs.clear()
    Trainer(study(seeds_per_trial=2), "cpu", note, max_models=3)(Work("A", "tune", slots))
    assert [complete for *_, complete in epochs] == [False] * 6


def test_a_study_leaves_its_stored_curves_in_optuna(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = api.open_ledger(study(), url)
    reports = []
    note = LiveProgress.note

    def report_each(live: LiveProgress, epoch: Epoch | None) -> None:
        note(live, epoch)
        live.report()
        names = ("live/A/tune", "live/B/tune") if ledger.state() != "done" else ()
        reports.extend(trial.intermediate_values for name in names for trial in plain(url, name))

    monkeypatch.setattr(LiveProgress, "note", report_each)
    work(study(), ledger, "cpu", population=2)
    assert {1, 2, 3} <= {len(values) for values in reports}, "curves grow while trials run"
    stored = curves.read(load_study(connect(url), "live").engine, "live")
    score = stored["metric"] == "validation_accuracy"
    by_slot: dict[int, dict[int, float]] = {}
    for slot, epoch, value in zip(
        *(stored[name][score].tolist() for name in ("slot_id", "epoch", "value")), strict=True
    ):
        by_slot.setdefault(slot, {})[epoch] = value
    shown = {
        trial.user_attrs["slot_id"]: trial.intermediate_values
        for name in ("A/tune", "B/tune", "A/rerun", "B/rerun")
        for trial in plain(url, f"live/{name}")
    }
    assert len(shown) == 8 and shown == by_slot


def plain(url: str, name: str) -> list[Any]:
    try:
        return plain_study(url, name).get_trials(deepcopy=False)
    except KeyError:
        return []
