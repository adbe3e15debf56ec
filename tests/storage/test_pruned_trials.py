"""Pruned trials on their way: trained, stored, sampled from, mirrored, counted, and never chosen over a whole one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import storage_study
from optuna.trial import TrialState
from storage_study import definition

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.cli.terminal.status import read_status, status_text
from hpo.storage.database import connect
from hpo.storage.ledger import FinishedTrial, Ledger, Outcome, Slot, TrialCurve, Work, open_study
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import open_storage
from hpo.training.checkpoints import Checkpoints
from hpo.worker import trainer as trainer_module
from hpo.worker.trainer import Trainer

EPOCHS = 6
HALVING = SuccessiveHalving(2, 2)


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "data": Mnist1d(samples=300, label_noise=0.2), "model": MLP((40, 8, 10)), "baseline": "A", "epochs": EPOCHS,
        "configurations": (Configuration("A"), Configuration("B")), "pruner": HALVING, "name": "s",
        "score": "validation_loss",  # which has no ties where accuracies have
    }  # fmt: skip
    return Study(**(fields | changes))


def work(count: int, phase: str = "tune", rates: Callable[[int], float] = lambda place: 3e-4 * 2**place) -> Work:
    settings = [{"learning_rate": rates(place), "weight_decay": 1e-3} for place in range(count)]
    slots = [Slot(7 + place, place, 0, 1, setting) for place, setting in enumerate(settings)]
    return Work("A", phase, slots)  # type: ignore[arg-type]


def survivors(scores: dict[int, float]) -> set[int]:
    last = sorted(scores.values())[max(1, len(scores) // 2) - 1]
    return {trial for trial, score in scores.items() if score <= last}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [1, 2], ids=["one seed", "two seeds"])
def test_losers_are_stopped_and_survivors_end_as_without_pruning(count: int) -> None:
    whole = Trainer(study(pruner=None, seeds_per_trial=count), "cpu")(work(6))
    found = Trainer(study(seeds_per_trial=count), "cpu")(work(6))
    curves = {outcome.id: outcome.curves["validation_loss"] for outcome in whole}
    second = survivors({trial: curve[1] for trial, curve in curves.items()})
    fourth = survivors({trial: curves[trial][3] for trial in second})
    assert fourth < second < set(curves)
    for outcome, expected in zip(found, whole, strict=True):
        epochs = EPOCHS if outcome.id in fourth else 4 if outcome.id in second else 2
        assert outcome.cause == (None if epochs == EPOCHS else "pruned") and outcome.result["epochs"] == epochs
        assert outcome.value == pytest.approx(curves[outcome.id][epochs - 1], rel=1e-3)
        assert outcome.result["validation_loss"] == pytest.approx(outcome.value, rel=1e-3)
        for name, values in expected.curves.items():
            assert outcome.curves[name] == pytest.approx(values[:epochs], rel=1e-3, abs=0.01), name
    by_epoch = [outcome.seconds / outcome.result["epochs"] for outcome in found if outcome.seconds]
    assert by_epoch == pytest.approx([by_epoch[0]] * 6)  # the seconds are shared by the epochs


@pytest.mark.usefixtures("one_thread")
def test_reruns_are_never_pruned() -> None:
    reruns = work(3, "rerun")
    assert Trainer(study(), "cpu")(reruns)[0].curves == Trainer(study(pruner=None), "cpu")(reruns)[0].curves
    assert [outcome.cause for outcome in Trainer(study(), "cpu")(reruns)] == [None] * 3


@pytest.mark.usefixtures("one_thread")
def test_parts_hold_whole_trials_and_compete_with_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = trainer_module.train, []

    def train(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> Any:
        sizes.append(len(members))
        return real(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", train)
    rates = [3e-3, 2e-3, 1e-6, 1e-6, 1e-6, 1e-6]
    found = Trainer(study(seeds_per_trial=2), "cpu", max_models=5)(work(6, rates=rates.__getitem__))
    assert sizes == [4, 4, 4]
    assert [outcome.cause for outcome in found[2:]] == ["pruned"] * 4  # alone, one of each two would have won
    assert found[0].cause is None or found[1].cause is None


@pytest.mark.usefixtures("one_thread")
def test_earlier_trials_are_asked_for_once_a_work_and_only_for_tuning() -> None:
    asked: list[Work] = []

    def earlier(mine: Work) -> dict[int, list[TrialCurve]]:
        asked.append(mine)
        return {0: [TrialCurve([0.01] * EPOCHS, 0.01, EPOCHS, False)] * 4}

    trainer = Trainer(study(), "cpu", trial_curves=earlier)
    assert [outcome.result["epochs"] for outcome in trainer(work(2))] == [2, 2]
    assert trainer(work(1, "rerun"))[0].cause is None
    assert [mine.phase for mine in asked] == ["tune"]


@pytest.mark.usefixtures("one_thread")
def test_tuning_runs_that_are_trained_side_by_side_are_judged_apart() -> None:
    good, bad = [3e-3, 2e-3, 1e-3, 5e-4], [4e-5, 1e-5, 1e-6, 1e-7]  # every good one is ahead of every bad one
    alone = [Trainer(study(), "cpu")(work(4, rates=rates.__getitem__)) for rates in (good, bad)]
    both = work(8, rates=[*good, *bad].__getitem__)
    apart = both.with_slots([slot._replace(tuning_run=place // 4) for place, slot in enumerate(both.slots)])
    past = {1: [TrialCurve([9.0] * EPOCHS, 9.0, EPOCHS, False)]}  # behind all, so that it changes nobody's rank
    found = Trainer(study(), "cpu", trial_curves=lambda _: past)(apart)
    expected = [outcome.result["epochs"] for outcome in (*alone[0], *alone[1])]
    assert [outcome.result["epochs"] for outcome in found[:4]] == expected[:4]
    assert {outcome.cause for outcome in found[4:]} == {None, "pruned"} == {outcome.cause for outcome in alone[1]}
    together = Trainer(study(), "cpu")(both)
    assert {outcome.cause for outcome in together[4:]} == {"pruned"}, "the bad ones would all have lost"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("memory", [2, 3])
def test_a_single_trial_that_memory_does_not_hold_is_trained_to_the_end(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer_module.train

    def train(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> Any:
        if len(members) > memory:
            raise MemoryError
        return real(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", train)
    past = {0: [TrialCurve([0.01] * EPOCHS, 0.01, EPOCHS, False)] * 4}
    [halved] = Trainer(study(seeds_per_trial=4), "cpu", trial_curves=lambda _: past)(work(1))
    assert halved.cause is None and halved.result["population"] == 2
    monkeypatch.undo()
    [together] = Trainer(study(seeds_per_trial=4), "cpu", trial_curves=lambda _: past)(work(1))
    assert together.cause == "pruned"


@pytest.mark.usefixtures("one_thread")
def test_who_diverges_is_diverged_even_where_he_is_stopped() -> None:
    rates = [3e-3, 1e30, 1e-5, 2e-3]
    found = Trainer(study(), "cpu")(work(4, rates=rates.__getitem__))
    assert found[1].cause == "diverged" and found[1].value is None
    assert found[1].result["diverged_epoch"] == 1 and found[1].result["epochs"] == 2
    assert found[2].cause == "pruned"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stop_after", [2, 4])
def test_work_that_was_broken_off_is_taken_up_with_those_who_are_left(tmp_path: Path, stop_after: int) -> None:
    whole = Trainer(study(), "cpu")(work(6))

    def on_epoch(_: Work, epoch: int, __: int) -> None:
        if epoch == stop_after + 1:
            raise KeyboardInterrupt

    kept = Checkpoints(tmp_path, "study", 0.0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(study(), "cpu", on_epoch, kept)(work(6))
    epochs: list[int] = []
    found = Trainer(study(), "cpu", lambda _, epoch, __: epochs.append(epoch), kept)(work(6))
    assert epochs == list(range(stop_after + 1, EPOCHS + 1))
    for outcome, expected in zip(found, whole, strict=True):
        assert (outcome.id, outcome.cause, outcome.result["epochs"]) == (
            expected.id, expected.cause, expected.result["epochs"],
        )  # fmt: skip
        assert outcome.value == pytest.approx(expected.value, rel=1e-3)


def ledger_of(url: str, pruner: Any = HALVING, **changes: Any) -> Ledger:
    whole = definition(direction="maximize", **changes) | ({"pruner": {"kind": "SuccessiveHalving"}} if pruner else {})
    return open_study(connect(url), "s", whole, "d", {"trials": 11, "seeds": 2}, {"title": "t"}, {})


def finish(ledger: Ledger, ends: list[tuple[float | None, str | None, int]]) -> Work:
    """The first trials of A end so: (value, cause, epochs)."""
    leased = ledger.lease("x", len(ends))
    assert leased is not None and leased.configuration == "A"
    held = ledger.assign("x", leased, [{"learning_rate": 1e-3 * (1 + at)} for at in range(len(ends))])
    ledger.finish("x", [
        Outcome(
            slot.id, 1, value, cause, {"epochs": epochs, "validation_loss": 1.0},
            {ledger.definition["score"]: [0.1 * at for at in range(1, epochs + 1)], "train_loss": [1.0] * epochs},
        )
        for slot, (value, cause, epochs) in zip(held.slots, ends, strict=True)
    ])  # fmt: skip
    return held


ENDS: list[tuple[float | None, str | None, int]] = [
    (0.5, None, 6), (0.9, "pruned", 2), (0.6, None, 6), (0.1, "diverged", 4), (None, "pruned", 2),
]  # fmt: skip


def test_a_pruned_trial_is_finished_and_never_the_best(url: str) -> None:
    ledger = ledger_of(url)
    held = finish(ledger, ENDS)
    best = storage_study.best(ledger, "A")
    assert best is not None and (best["slot"], best["value"]) == (2, 0.6)
    counts = ledger.counts()["A"]
    assert (counts["trials_done"], counts["pruned"], counts["diverged"], counts["best"]) == (5, 2, 1, 0.6)
    finished, _ = ledger.finished_trials("A", {0}, 1)[0]
    assert finished == [
        FinishedTrial(slot.setting, value, stopped)  # type: ignore[arg-type]
        for slot, (value, stopped) in zip(
            held.slots, [(0.5, None), (0.9, 2), (0.6, None), (0.1, 0), (None, 2)], strict=True
        )
    ]
    assert ledger.trial_curves("A", {0}, 1) == {0: [
        TrialCurve(pytest.approx([0.1 * at for at in range(1, epochs + 1)]), value, epochs, cause == "pruned")
        for value, cause, epochs in ENDS
    ]}  # fmt: skip
    assert ledger.trial_curves("A", {0}, 0) == {0: []}, "those of the same batch are not known to it"
    assert ledger.trial_curves("B", {0}, 1) == {0: []} and ledger.trial_curves("A", {1}, 1) == {1: []}
    found = read_status(ledger.engine, "s")
    assert found["s"]["configurations"]["A"]["pruned"] == 2
    assert "  A              5/11 (2 pruned)  0/2" in status_text(found)


def test_without_a_pruner_a_diverged_trial_has_its_value(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db", pruner=None)
    finish(ledger, [(0.5, None, 6), (0.1, "diverged", 4)])
    assert [entry.stopped_epoch for entry in ledger.finished_trials("A", {0}, 1)[0][0]] == [None, None]


@pytest.mark.parametrize(
    ("ends", "slot"),
    [
        ([(0.1, "diverged", 6), (0.2, "pruned", 2), (0.3, "pruned", 2)], 2),
        ([(0.1, "diverged", 6), (0.2, "pruned", 2), (0.15, None, 6)], 2),
        ([(None, "diverged", 6), (0.2, "pruned", 2)], 1),
    ],
)
def test_a_pruned_trial_is_chosen_where_no_whole_one_went_well(
    ends: list[tuple[float | None, str | None, int]], slot: int, tmp_path: Path
) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    finish(ledger, ends)
    best = storage_study.best(ledger, "A")
    assert best is not None and best["slot"] == slot


@pytest.mark.parametrize("late", [False, True], ids=["at once", "by repair"])
def test_optuna_shows_pruned_trials_with_what_they_reported(url: str, late: bool) -> None:
    ledger = ledger_of(url)
    mirror = Mirror(ledger)
    leased = ledger.lease("x", len(ENDS))
    assert leased is not None
    held = ledger.assign("x", leased, [{"learning_rate": 1e-3, "lambda": 0.5}] * len(ENDS))
    held = mirror.begin("x", held)
    outcomes = [
        Outcome(slot.id, 1, value, cause, {"epochs": epochs})
        for slot, (value, cause, epochs) in zip(held.slots, ENDS, strict=True)
    ]
    ledger.finish("x", outcomes)
    if late:
        assert mirror.repair() == len(ENDS) and mirror.repair() == 0
    else:
        mirror.finish(held, outcomes)
    trials = optuna.load_study(study_name="s/A/tune", storage=open_storage(ledger.engine)).trials
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
    assert [trial.state for trial in trials] == states
    assert [trial.value for trial in trials] == [0.5, 0.9, 0.6, 0.1, None]
    assert [trial.user_attrs.get("cause") for trial in trials] == [None, "pruned", None, "diverged", "pruned"]
    assert [trial.intermediate_values for trial in trials[:4]] == [{}, {2: 0.9}, {}, {}]
    assert (
        list(trials[4].intermediate_values) == [2]
        and trials[4].intermediate_values[2] != trials[4].intermediate_values[2]
    )
    assert mirror.repair() == 0
