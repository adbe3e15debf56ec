"""Which trials are pruned: as Optuna's pruners say once the whole population has reported, in any order."""

import functools
import math
import random
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner

from hpo import Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.errors import UsageError
from hpo.models import MLP
from hpo.study.definition import describe, digest
from hpo.study.fingerprint import fingerprint
from hpo.training.loop import Prune
from hpo.training.recipe import Result
from hpo.trials import TrialCurve
from hpo.worker.pruning import TrialPruner
from hpo.worker.synchronous_pruner import ScoredTrial, SynchronousPruner


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "data": Mnist1d(samples=300), "model": MLP((40, 8, 10)), "baseline": "A", "epochs": 9,
        "configurations": (Configuration("A"), Configuration("B")), "pruner": SuccessiveHalving(2, 2),
    }  # fmt: skip
    return Study(**(fields | changes))


@pytest.mark.parametrize("fields", [{"min_epochs": 0}, {"min_epochs": 2.5}, {"factor": 1}, {"factor": True}])
def test_the_fields_of_halving_are_checked(fields: dict[str, Any]) -> None:
    [(name, value)] = fields.items()
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        SuccessiveHalving(**fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pruner": "median"}, "pruner is 'median'"),
        ({"pruner": MedianPruner()}, r"pruner is <optuna\."),
        ({"pruner": SuccessiveHalving(9)}, "min_epochs is 9 and trials have 9 epochs"),
        ({"pruner": SuccessiveHalving(5), "tuning_epochs": 4}, "min_epochs is 5 and trials have 4 epochs"),
    ],
)
def test_an_unusable_pruner_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        study(**changes)


def test_a_function_that_returns_no_pruner_is_refused() -> None:
    with pytest.raises(UsageError, match="pruner returns 3"):
        SynchronousPruner(3, "maximize")  # type: ignore[arg-type]


def test_the_definition_describes_the_pruner() -> None:
    without = describe(study(pruner=None))
    assert "pruner" not in without
    one, other = describe(study()), describe(study(pruner=SuccessiveHalving(2, 3)))
    assert one["pruner"] == {"kind": "SuccessiveHalving", "min_epochs": 2, "factor": 2}
    assert len({digest(each) for each in (without, one, other)}) == 3
    median = study(pruner=functools.partial(MedianPruner, n_warmup_steps=5))
    assert describe(median)["pruner"] == {"kind": "MedianPruner", "arguments": [], "n_warmup_steps": 5}
    assert fingerprint(study()) == fingerprint(median) == {}
    assert "pruner" in fingerprint(study(pruner=lambda: MedianPruner()))


def best(scores: dict[int, float], factor: int, direction: str) -> set[int]:
    """The trials that continue: the best of every `factor`, at least one, and those that tie with the last of them."""
    ordered = sorted(scores.values(), reverse=direction == "maximize")
    last = ordered[max(1, len(scores) // factor) - 1]
    return {trial for trial, score in scores.items() if (score >= last if direction == "maximize" else score <= last)}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("trials", "factor"), [(1, 3), (2, 3), (5, 3), (10, 3), (11, 3), (13, 4), (32, 2)])
def test_the_order_of_trials_does_not_matter(trials: int, factor: int, direction: str) -> None:
    """Over all rungs, also with equal scores: always the best of every `factor` of those that reached a rung."""
    rng = random.Random(trials * factor)
    for _ in range(5):
        pruner = SynchronousPruner(SuccessiveHalving(2, factor)(), direction)
        present = set(range(trials))
        for epoch in range(1, 2 * factor**2 + 1):
            scores = {trial: rng.choice([rng.random(), 0.5]) for trial in present}
            stopped = pruner.prune(epoch, dict(rng.sample(list(scores.items()), len(scores))))
            rung = epoch in (2, 2 * factor, 2 * factor**2)
            assert stopped == (present - best(scores, factor, direction) if rung else set())
            present -= stopped


def test_optuna_alone_would_depend_on_the_order() -> None:
    """The reason for SynchronousPruner: Optuna's pruner notes that a trial reached a rung only when it decides."""
    scores = dict(enumerate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))

    def one_by_one(order: list[int]) -> set[int]:
        optuna_study = optuna.create_study(direction="maximize", pruner=SuccessiveHalving(1, 3)())
        trials = {trial: optuna_study.ask() for trial in order}
        for trial in order:
            trials[trial].report(scores[trial], 1)
        return {trial for trial in order if not trials[trial].should_prune()}

    assert one_by_one([0, 1, 2, 3, 4, 5]) == {0, 1, 2, 3, 4, 5} and one_by_one([5, 4, 3, 2, 1, 0]) == {5}
    assert SynchronousPruner(SuccessiveHalving(1, 3)(), "maximize").prune(1, scores) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "make",
    [
        SuccessiveHalving(1, 2),
        lambda: SuccessiveHalvingPruner(min_resource=2, reduction_factor=3, min_early_stopping_rate=1),
        lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2, bootstrap_count=3),
        lambda: MedianPruner(n_startup_trials=2, n_warmup_steps=2),
        lambda: PatientPruner(MedianPruner(n_startup_trials=1), patience=2),
        lambda: HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3),
        NopPruner,
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_single_trials_are_pruned_as_by_optuna(make: Any, direction: str) -> None:
    rng = random.Random(1)
    optuna_study = optuna.create_study(study_name="rungs", direction=direction, pruner=make())
    pruner, stopped, worse = SynchronousPruner(make(), direction), 0, 0.02 if direction == "minimize" else -0.02
    for number in range(25):
        trial, score, pruned = optuna_study.ask(), 0.0, False
        for epoch in range(1, 10):
            score = rng.random() + worse * number
            trial.report(score, epoch)
            pruned = trial.should_prune()
            assert pruner.prune(epoch, {number: score}) == ({number} if pruned else set()), (number, epoch)
            if pruned:
                break
        stopped += pruned
        optuna_study.tell(trial, None if pruned else score, state=optuna.trial.TrialState.PRUNED if pruned else None)
        pruner.finish(number, score, pruned)
    assert (stopped > 3) == (make is not NopPruner)


def test_earlier_trials_compete_at_the_rungs_that_they_reached() -> None:
    earlier = [
        ScoredTrial([0.1, 0.5, 0.5, 0.9, 0.9], 0.9, False),
        ScoredTrial([0.1, 0.6], 0.6, True),
        ScoredTrial([0.1, 0.7, 0.8, 0.8, 0.8], 0.8, False),
    ]

    def stopped_at(score: float, earlier: list[ScoredTrial]) -> int | None:
        pruner = SynchronousPruner(SuccessiveHalving(2, 2)(), "maximize", earlier)
        return next((epoch for epoch in range(1, 6) if pruner.prune(epoch, {7: score})), None)

    # Of .5 .6 .7 and .65 two continue at epoch 2; at epoch 4 one of .9 .8 .65.
    assert stopped_at(0.65, earlier) == 4
    assert stopped_at(0.55, earlier) == 2
    assert stopped_at(0.95, earlier) is None
    assert stopped_at(0.55, []) is None


def test_the_median_is_that_of_completed_trials() -> None:
    completed = [ScoredTrial([0.1 * number] * 3, 0.1 * number, False) for number in range(5)]
    scores = {number: 0.1 * number for number in range(5)}
    for earlier, stopped in ((completed, {0, 1}), ([each._replace(pruned=True) for each in completed], set())):
        assert SynchronousPruner(MedianPruner(n_startup_trials=3), "maximize", earlier).prune(2, scores) == stopped


def test_a_trial_without_a_score_is_stopped_and_does_not_compete() -> None:
    pruner = SynchronousPruner(SuccessiveHalving(1, 2)(), "maximize", [ScoredTrial([None], None, False)])
    assert pruner.prune(1, {0: None, 1: 0.3, 2: math.nan, 3: 0.2}) == {0, 2, 3}
    pruner.finish(2, math.nan, False)
    pruner.finish(1, 0.3, False)
    assert [trial.number for trial in pruner._study.get_trials(states=[optuna.trial.TrialState.COMPLETE])] == [2]
    assert pruner._study.best_value == 0.3


class Counting(BasePruner):
    """A pruner without notes that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.calls += 1
        values = [other.intermediate_values[2] for other in study.trials if 2 in other.intermediate_values]
        return trial.last_step == 2 and trial.intermediate_values[2] < max(values)


def test_a_custom_pruner_sees_the_whole_population_and_is_called_once_per_trial() -> None:
    counting = Counting()
    pruner = SynchronousPruner(counting, "maximize")
    assert pruner.prune(1, {0: 0.1, 1: 0.2}) == set()
    assert pruner.prune(2, {0: 0.1, 1: 0.2}) == {0} and counting.calls == 4


def trial_pruner(earlier: list[TrialCurve] | None = None, **changes: Any) -> TrialPruner:
    """Of seven trials of tuning run 1."""
    return TrialPruner(study(**changes), 10, [1] * 7, {1: earlier} if earlier else {})


def callback(trials: list[int], earlier: list[TrialCurve] | None = None, **changes: Any) -> Prune:
    return trial_pruner(earlier, **changes).callback(trials)


def result(*scores: float, diverged: int | None = None, stopped: int | None = None) -> Result:
    return Result({"validation_accuracy": list(scores), "train_loss": [1.0] * len(scores)}, {}, diverged, stopped)


def test_a_trials_models_are_compared_by_their_mean_and_stopped_together() -> None:
    prune = callback([0, 0, 1, 1, 2, 2], seeds_per_trial=2)
    scores = (0.9, 0.1, 0.4, 0.4, 0.6, 0.5)
    assert prune(1, [result(score) for score in scores]) == set()
    assert prune(2, [result(0, score) for score in scores]) == {0, 1, 2, 3}


def test_a_trial_with_models_in_another_population_is_not_pruned() -> None:
    pruner, trials = trial_pruner(seeds_per_trial=2), [4, 5, 5, 6, 6]
    results = [result(0, score) for score in (0.1, 0.9, 0.9, 0.2, 0.2)]
    assert pruner.callback(trials)(2, results) == {3, 4}
    pruner.finish(trials, results)


def test_a_diverged_run_is_scored_as_an_untrained_network() -> None:
    results = [result(0.2, diverged=2), result(0.05, 0.05), result(0.09, 0.09)]
    assert callback([0, 1, 2])(2, results) == {1, 2}
    finite = Result({"validation_loss": [9.0, 9.0]}, {}, None)
    assert callback([0, 1], score="validation_loss")(2, [Result({}, {}, 1), finite]) == {0}


def test_a_resumed_run_repeats_its_earlier_decisions() -> None:
    results = [
        result(0.1, 0.9, 0.5, 0.5), result(0.1, 0.1, stopped=2),
        result(0.1, 0.8, 0.6, 0.6), result(0.1, 0.2, stopped=2),
    ]  # fmt: skip
    assert callback([0, 1, 2, 3])(4, results) == {0}
    uninterrupted = callback([0, 1, 2, 3])
    after_two = [result(*each.curves["validation_accuracy"][:2]) for each in results]
    assert uninterrupted(1, [result(0.1)] * 4) == set() and uninterrupted(2, after_two) == {1, 3}


@pytest.mark.parametrize(("at", "stopped"), [("last", {0}), ("best", {1})])
def test_the_score_so_far_is_that_of_the_last_or_the_best_epoch(at: str, stopped: set[int]) -> None:
    earlier = [TrialCurve([0.9, 0.1], 0.9, 2, False), TrialCurve([0.2, 0.2], 0.2, 2, True)]
    assert callback([0, 1], earlier, score_epoch=at)(2, [result(0.95, 0.0), result(0.0, 0.6)]) == stopped
