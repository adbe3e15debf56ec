"""Training with pruning: losers are stopped, survivors end as without it, and interrupted work resumes."""

from pathlib import Path
from typing import Any

import pytest

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.storage.ledger import Outcome, Slot, TrialCurve, Work
from hpo.training.checkpoints import Checkpoints
from hpo.worker import trainer as trainer_module
from hpo.worker.live_progress import Epoch
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 6
STRONG = {0: [TrialCurve([0.01] * EPOCHS, 0.01, EPOCHS, False)] * 4}  # earlier trials that beat all others


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "data": Mnist1d(samples=300, label_noise=0.2), "model": MLP((40, 8, 10)), "baseline": "A", "epochs": EPOCHS,
        "configurations": (Configuration("A"), Configuration("B")), "pruner": SuccessiveHalving(2, 2), "name": "s",
        "score": "validation_loss",  # accuracies may be equal
    }  # fmt: skip
    return Study(**(fields | changes))


def work(count: int, phase: str = "tune", rates: list[float] | None = None) -> Work:
    settings = [{"learning_rate": (rates or RATES)[slot], "weight_decay": 1e-3} for slot in range(count)]
    slots = [Slot(7 + slot, slot, 0, 1, setting) for slot, setting in enumerate(settings)]
    return Work("A", phase, slots)  # type: ignore[arg-type]


RATES = [3e-4 * 2**slot for slot in range(6)]


def survivors(scores: dict[int, float]) -> set[int]:
    last = sorted(scores.values())[max(1, len(scores) // 2) - 1]
    return {trial for trial, score in scores.items() if score <= last}


def causes(outcomes: list[Outcome]) -> list[str | None]:
    return [outcome.cause for outcome in outcomes]


def epochs(outcomes: list[Outcome]) -> list[int]:
    return [outcome.result["epochs"] for outcome in outcomes]


@pytest.mark.parametrize("count", [1, 2], ids=["one seed", "two seeds"])
def test_losers_are_stopped_and_survivors_end_as_without_pruning(count: int) -> None:
    full = Trainer(study(pruner=None, seeds_per_trial=count), "cpu")(work(6))
    pruned = Trainer(study(seeds_per_trial=count), "cpu")(work(6))
    curves = {outcome.id: outcome.curves["validation_loss"] for outcome in full}
    second = survivors({trial: curve[1] for trial, curve in curves.items()})
    fourth = survivors({trial: curves[trial][3] for trial in second})
    assert fourth < second < set(curves)
    for outcome, expected in zip(pruned, full, strict=True):
        end = EPOCHS if outcome.id in fourth else 4 if outcome.id in second else 2
        assert outcome.cause == (None if end == EPOCHS else "pruned") and outcome.result["epochs"] == end
        assert outcome.value == pytest.approx(curves[outcome.id][end - 1], rel=1e-3)
        assert outcome.result["validation_loss"] == pytest.approx(outcome.value, rel=1e-3)
        for name, values in expected.curves.items():
            assert outcome.curves[name] == pytest.approx(values[:end], rel=1e-3, abs=0.01), name
    by_epoch = [outcome.seconds / outcome.result["epochs"] for outcome in pruned if outcome.seconds]
    assert by_epoch == pytest.approx([by_epoch[0]] * 6)  # the seconds are divided by epochs


def test_reruns_are_never_pruned() -> None:
    reruns = work(3, "rerun")
    pruned, full = Trainer(study(), "cpu")(reruns), Trainer(study(pruner=None), "cpu")(reruns)
    assert pruned[0].curves == full[0].curves and causes(pruned) == [None] * 3


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of models of all calls of `train`."""
    train, counts = trainer_module.train, list[int]()

    def counted(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> Any:
        counts.append(len(members))
        return train(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", counted)
    return counts


def test_parts_hold_complete_trials_which_compete_with_earlier_parts(sizes: list[int]) -> None:
    rates = [3e-3, 2e-3, 1e-6, 1e-6, 1e-6, 1e-6]
    outcomes = Trainer(study(seeds_per_trial=2), "cpu", max_models=5)(work(6, rates=rates))
    assert sizes == [4, 4, 4]
    assert causes(outcomes[2:]) == ["pruned"] * 4  # within its part, one of each two would have won
    assert None in causes(outcomes[:2])


def test_earlier_trials_are_read_once_for_tuning_only() -> None:
    phases: list[str] = []

    def earlier(begun: Work) -> dict[int, list[TrialCurve]]:
        phases.append(begun.phase)
        return STRONG

    trainer = Trainer(study(), "cpu", trial_curves=earlier)
    assert epochs(trainer(work(2))) == [2, 2] and causes(trainer(work(1, "rerun"))) == [None]
    assert phases == ["tune"]


def test_tuning_runs_that_train_together_are_pruned_separately() -> None:
    good, bad = [3e-3, 2e-3, 1e-3, 5e-4], [4e-5, 1e-5, 1e-6, 1e-7]  # every good one beats every bad one
    separate = [Trainer(study(), "cpu")(work(4, rates=rates)) for rates in (good, bad)]
    both = work(8, rates=[*good, *bad])
    two_runs = both.with_slots([slot._replace(tuning_run=index // 4) for index, slot in enumerate(both.slots)])
    weak = {1: [TrialCurve([9.0] * EPOCHS, 9.0, EPOCHS, False)]}  # the last rank: it changes no other
    outcomes = Trainer(study(), "cpu", trial_curves=lambda _: weak)(two_runs)
    assert epochs(outcomes[:4]) == epochs(separate[0])
    assert set(causes(outcomes[4:])) == {None, "pruned"} == set(causes(separate[1]))
    assert causes(Trainer(study(), "cpu")(both)[4:]) == ["pruned"] * 4, "in one tuning run all bad ones would lose"


@pytest.mark.parametrize("memory", [2, 3])
def test_a_trial_too_large_for_memory_is_trained_to_the_end(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = trainer_module.train

    def limited(recipe: Any, members: list[Any], *rest: Any, **options: Any) -> Any:
        if len(members) > memory:
            raise MemoryError
        return train(recipe, members, *rest, **options)

    def trained() -> Outcome:
        return Trainer(study(seeds_per_trial=4), "cpu", trial_curves=lambda _: STRONG)(work(1))[0]

    assert trained().cause == "pruned"
    monkeypatch.setattr(trainer_module, "train", limited)
    halved = trained()
    assert halved.cause is None and halved.result["population"] == 2


def test_a_trial_that_diverged_is_diverged_even_if_it_is_stopped() -> None:
    outcomes = Trainer(study(), "cpu")(work(4, rates=[3e-3, 1e30, 1e-5, 2e-3]))
    assert outcomes[1].cause == "diverged" and outcomes[1].value is None and outcomes[2].cause == "pruned"
    assert outcomes[1].result["diverged_epoch"] == 1 and outcomes[1].result["epochs"] == 2


@pytest.mark.parametrize("stop_after", [2, 4])
def test_interrupted_work_resumes_with_the_trials_that_are_left(tmp_path: Path, stop_after: int) -> None:
    expected = Trainer(study(), "cpu")(work(6))

    def interrupt(finished: Epoch) -> None:
        if finished.epoch == stop_after + 1:
            raise KeyboardInterrupt

    checkpoints = Checkpoints(tmp_path, "study", 0.0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(study(), "cpu", interrupt, checkpoints)(work(6))
    trained: list[int] = []
    outcomes = Trainer(study(), "cpu", lambda finished: trained.append(finished.epoch), checkpoints)(work(6))
    assert trained == list(range(stop_after + 1, EPOCHS + 1))
    assert (causes(outcomes), epochs(outcomes)) == (causes(expected), epochs(expected))
    assert [one.value for one in outcomes] == pytest.approx([other.value for other in expected], rel=1e-3)
