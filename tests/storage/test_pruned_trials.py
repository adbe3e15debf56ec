"""Pruned trials in the ledger and in Optuna: finished, counted, and never chosen over one of full length."""

import math
from pathlib import Path

import pytest
from storage_study import best, definition, plain_study

from hpo.cli.terminal.status import read_status, status_text
from hpo.storage.database import connect
from hpo.storage.ledger import FinishedTrial, Ledger, Outcome, TrialCurve, Work, open_study
from hpo.storage.optuna.mirror import Mirror

End = tuple[float | None, str | None, int]  # value, cause and epochs of a trial
ENDS: list[End] = [(0.5, None, 6), (0.9, "pruned", 2), (0.6, None, 6), (0.1, "diverged", 4), (None, "pruned", 2)]


def opened(url: str, pruning: bool = True) -> Ledger:
    pruner = {"pruner": {"kind": "SuccessiveHalving"}} if pruning else {}
    return open_study(connect(url), "s", definition(**pruner), "d", {"trials": 11, "seeds": 2}, {"title": "t"}, {})


def finish(ledger: Ledger, ends: list[End], mirror: Mirror | None = None) -> tuple[Work, list[Outcome]]:
    """The first trials of A, which end so."""
    work = ledger.lease("x", len(ends))
    assert work is not None and work.configuration == "A"
    work = ledger.assign("x", work, [{"learning_rate": 1e-3 * (1 + slot), "lambda": 0.5} for slot in range(len(ends))])
    work = mirror.begin("x", work) if mirror else work
    outcomes = [
        Outcome(
            slot.id, 1, value, cause, {"epochs": epochs, "validation_loss": 1.0},
            {"validation_accuracy": [0.1 * at for at in range(1, epochs + 1)], "train_loss": [1.0] * epochs},
        )
        for slot, (value, cause, epochs) in zip(work.slots, ends, strict=True)
    ]  # fmt: skip
    ledger.finish("x", outcomes)
    return work, outcomes


def test_a_pruned_trial_is_finished_and_never_the_best(url: str) -> None:
    ledger = opened(url)
    work, _ = finish(ledger, ENDS)
    chosen = best(ledger, "A")
    assert chosen is not None and (chosen["slot"], chosen["value"]) == (2, 0.6)
    counts = ledger.counts()["A"]
    assert (counts["trials_done"], counts["pruned"], counts["diverged"], counts["best"]) == (5, 2, 1, 0.6)
    trials, _ = ledger.finished_trials("A", {0}, 1)[0]
    ends = [(0.5, None), (0.9, 2), (0.6, None), (0.1, 0), (None, 2)]
    assert trials == [
        FinishedTrial(slot.setting or {}, *end, slot.slot) for slot, end in zip(work.slots, ends, strict=True)
    ]
    curves = [
        TrialCurve(pytest.approx([0.1 * at for at in range(1, epochs + 1)]), value, epochs, cause == "pruned")
        for value, cause, epochs in ENDS
    ]
    assert ledger.trial_curves("A", {0}, 1) == {0: curves}
    assert ledger.trial_curves("A", {0}, 0) == {0: []}, "trials of the same batch do not count"
    assert ledger.trial_curves("B", {0}, 1) == {0: []} and ledger.trial_curves("A", {1}, 1) == {1: []}
    status = read_status(ledger.engine, "s")
    assert status["s"]["configurations"]["A"]["pruned"] == 2 and "5/11 (2 pruned)" in status_text(status)


def test_without_a_pruner_a_diverged_trial_counts_with_its_value(tmp_path: Path) -> None:
    ledger = opened(f"sqlite:///{tmp_path}/t.db", pruning=False)
    finish(ledger, [(0.5, None, 6), (0.1, "diverged", 4)])
    assert [trial.stopped_epoch for trial in ledger.finished_trials("A", {0}, 1)[0][0]] == [None, None]


@pytest.mark.parametrize(
    ("ends", "slot"),
    [
        ([(0.1, "diverged", 6), (0.2, "pruned", 2), (0.3, "pruned", 2)], 2),
        ([(0.1, "diverged", 6), (0.2, "pruned", 2), (0.15, None, 6)], 2),
        ([(None, "diverged", 6), (0.2, "pruned", 2)], 1),
    ],
)
def test_a_pruned_trial_is_chosen_if_no_full_length_trial_has_a_score(
    ends: list[End], slot: int, tmp_path: Path
) -> None:
    ledger = opened(f"sqlite:///{tmp_path}/t.db")
    finish(ledger, ends)
    chosen = best(ledger, "A")
    assert chosen is not None and chosen["slot"] == slot


@pytest.mark.parametrize("late", [False, True], ids=["at once", "by repair"])
def test_optuna_shows_pruned_trials_with_the_value_they_reported(url: str, late: bool) -> None:
    ledger = opened(url)
    mirror = Mirror(ledger)
    work, outcomes = finish(ledger, ENDS, mirror)
    if late:
        assert mirror.repair() == len(ENDS)
    else:
        mirror.finish(work, outcomes)
    trials = plain_study(url, "s/A/tune").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE", "PRUNED"]
    assert [trial.value for trial in trials] == [0.5, 0.9, 0.6, 0.1, None]
    assert [trial.user_attrs.get("cause") for trial in trials] == [None, "pruned", None, "diverged", "pruned"]
    curves = [{epoch: pytest.approx(0.1 * epoch) for epoch in range(1, epochs + 1)} for _, _, epochs in ENDS]
    curves[1][2] = 0.9  # what the pruner saw
    assert [trial.intermediate_values for trial in trials[:4]] == curves[:4]
    (_, first), (epoch, value) = trials[4].intermediate_values.items()
    assert first == 0.1 and epoch == 2 and math.isnan(value)
    assert mirror.repair() == 0
