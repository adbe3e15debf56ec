"""Who is stopped at a rung: as Optuna's pruners say, once the whole population has reported, in whatever order."""

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
from hpo.storage.ledger import TrialCurve
from hpo.study.definition import describe, digest
from hpo.study.fingerprint import fingerprint
from hpo.training.recipe import Result
from hpo.worker.pruning import TrialPruner
from hpo.worker.synchronous_pruner import ScoredTrial, SynchronousPruner


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "data": Mnist1d(samples=300), "model": MLP((40, 8, 10)), "baseline": "A", "epochs": 9,
        "configurations": (Configuration("A"), Configuration("B")), "pruner": SuccessiveHalving(2, 2),
    }  # fmt: skip
    return Study(**(fields | changes))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_epochs": 0}, "min_epochs is 0; give a whole number of at least 1"),
        ({"min_epochs": 2.5}, r"min_epochs is 2\.5"),
        ({"factor": 1}, "factor is 1; give a whole number of at least 2"),
        ({"factor": True}, "factor is True"),
    ],
)
def test_halving_is_checked(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SuccessiveHalving(**fields)


def test_a_pruner_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pruner is 'median'; give hpo\.SuccessiveHalving"):
        study(pruner="median")
    with pytest.raises(UsageError, match=r"pruner is <optuna\..*; give .* a function that returns"):
        study(pruner=MedianPruner())
    with pytest.raises(UsageError, match="min_epochs is 9 and trials have 9 epochs"):
        study(pruner=SuccessiveHalving(9))
    with pytest.raises(UsageError, match="min_epochs is 5 and trials have 4 epochs"):
        study(pruner=SuccessiveHalving(5), tuning_epochs=4)
    with pytest.raises(UsageError, match="pruner makes 3; give SuccessiveHalving"):
        SynchronousPruner(3, "maximize")  # type: ignore[arg-type]


def test_the_pruner_is_part_of_the_definition_where_there_is_one() -> None:
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
    """Those that go on: the best of every `factor`, at least one, and whoever ties with the last of them."""
    ordered = sorted(scores.values(), reverse=direction == "maximize")
    last = ordered[max(1, len(scores) // factor) - 1]
    return {trial for trial, own in scores.items() if (own >= last if direction == "maximize" else own <= last)}


def shuffled(scores: dict[int, float], rng: random.Random) -> dict[int, float]:
    return dict(rng.sample(list(scores.items()), len(scores)))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("trials", "factor"), [(1, 3), (2, 3), (5, 3), (10, 3), (11, 3), (13, 4), (32, 2)])
def test_the_order_in_which_they_are_judged_does_not_matter(trials: int, factor: int, direction: str) -> None:
    """Over all rungs, with equal scores among them: always the best of every `factor` of those that reached a rung."""
    rng = random.Random(trials * factor)
    for _ in range(5):
        rungs = SynchronousPruner(SuccessiveHalving(2, factor)(), direction)
        present = set(range(trials))
        for epoch in range(1, 2 * factor**2 + 1):
            scores = {trial: rng.choice([rng.random(), 0.5]) for trial in present}
            lost = rungs.prune(epoch, shuffled(scores, rng))
            judged = epoch in (2, 2 * factor, 2 * factor**2)
            assert lost == (present - best(scores, factor, direction) if judged else set())
            present -= lost


def test_asking_one_by_one_would_depend_on_the_order() -> None:
    """What this is all about: Optuna's pruner notes who has reached a rung only when it judges him."""
    scores = dict(enumerate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))

    def one_by_one(order: list[int]) -> set[int]:
        own = optuna.create_study(direction="maximize", pruner=SuccessiveHalving(1, 3)())
        trials = {trial: own.ask() for trial in order}
        for trial in order:
            trials[trial].report(scores[trial], 1)
        return {trial for trial in order if not trials[trial].should_prune()}

    assert one_by_one([0, 1, 2, 3, 4, 5]) == {0, 1, 2, 3, 4, 5} and one_by_one([5, 4, 3, 2, 1, 0]) == {5}
    rungs = SynchronousPruner(SuccessiveHalving(1, 3)(), "maximize")
    assert rungs.prune(1, scores) == {0, 1, 2, 3}


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
def test_trials_one_after_the_other_are_judged_as_by_optuna(make: Any, direction: str) -> None:
    """Populations of one are what Optuna was made for: any pruner says the same of them."""
    rng = random.Random(1)
    own = optuna.create_study(study_name="rungs", direction=direction, pruner=make())
    rungs, stopped, worse = SynchronousPruner(make(), direction), 0, 0.02 if direction == "minimize" else -0.02
    for number in range(25):
        trial, score, lost = own.ask(), 0.0, False
        for epoch in range(1, 10):
            score = rng.random() + worse * number
            trial.report(score, epoch)
            lost = trial.should_prune()
            assert rungs.prune(epoch, {number: score}) == ({number} if lost else set()), (number, epoch)
            if lost:
                break
        stopped += lost
        own.tell(trial, None if lost else score, state=optuna.trial.TrialState.PRUNED if lost else None)
        rungs.finish(number, score, lost)
    assert (stopped > 3) == (make is not NopPruner)


def test_earlier_trials_compete() -> None:
    """A rung knows whoever reached it; one that was stopped earlier is no rival later on."""
    past = [
        ScoredTrial([0.1, 0.5, 0.5, 0.9, 0.9], 0.9, False),
        ScoredTrial([0.1, 0.6], 0.6, True),
        ScoredTrial([0.1, 0.7, 0.8, 0.8, 0.8], 0.8, False),
    ]

    def lost(scores: dict[int, float], known: list[ScoredTrial]) -> list[set[int]]:
        rungs = SynchronousPruner(SuccessiveHalving(2, 2)(), "maximize", known)
        found = []
        for epoch in range(1, 6):
            found.append(rungs.prune(epoch, scores))
            scores = {trial: score for trial, score in scores.items() if trial not in found[-1]}
        return found

    # Of .5 .6 .7 and .65 two go on, at epoch 4 of .9 .8 and its .65 one.
    assert lost({7: 0.65}, past) == [set(), set(), set(), {7}, set()]
    assert lost({7: 0.55}, past) == [set(), {7}, set(), set(), set()]
    assert lost({7: 0.95}, past) == [set()] * 5
    assert lost({7: 0.55}, []) == [set()] * 5


def test_median_needs_trials_that_were_completed() -> None:
    completed = [ScoredTrial([0.1 * number] * 3, 0.1 * number, False) for number in range(5)]
    scores = {number: 0.1 * number for number in range(5)}
    assert SynchronousPruner(MedianPruner(n_startup_trials=3), "maximize", completed).prune(2, scores) == {0, 1}
    pruned = [entry._replace(stopped=True) for entry in completed]
    assert SynchronousPruner(MedianPruner(n_startup_trials=3), "maximize", pruned).prune(2, scores) == set()


def test_who_has_no_score_is_stopped_and_no_rival() -> None:
    rungs = SynchronousPruner(SuccessiveHalving(1, 2)(), "maximize", [ScoredTrial([None], None, False)])
    assert rungs.prune(1, {0: None, 1: 0.3, 2: math.nan, 3: 0.2}) == {0, 2, 3}
    rungs.finish(2, math.nan, False)
    rungs.finish(1, 0.3, False)
    assert [trial.number for trial in rungs._study.get_trials(states=[optuna.trial.TrialState.COMPLETE])] == [2]
    assert rungs._study.best_value == 0.3


class Counting(BasePruner):
    """A pruner that remembers nothing, and how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.asked += 1
        values = [other.intermediate_values[2] for other in study.trials if 2 in other.intermediate_values]
        return trial.last_step == 2 and trial.intermediate_values[2] < max(values)


def test_a_pruner_of_ones_own_sees_the_whole_population_and_is_asked_once() -> None:
    pruner = Counting()
    rungs = SynchronousPruner(pruner, "maximize")
    assert rungs.prune(1, {0: 0.1, 1: 0.2}) == set()
    assert rungs.prune(2, {0: 0.1, 1: 0.2}) == {0} and pruner.asked == 4


ONE_RUN = [1] * 7  # the tuning run of each trial


def result(*scores: float, diverged: int | None = None, stopped: int | None = None) -> Result:
    return Result({"validation_accuracy": list(scores), "train_loss": [1.0] * len(scores)}, {}, diverged, stopped)


def test_a_trials_seeds_are_judged_by_their_mean_and_stopped_together() -> None:
    prune = TrialPruner(study(seeds_per_trial=2), 10, ONE_RUN, {}).prune([0, 0, 1, 1, 2, 2])
    first = [result(score) for score in (0.9, 0.1, 0.4, 0.4, 0.6, 0.5)]
    assert prune(1, first) == set()
    second = [result(0, score) for score in (0.9, 0.1, 0.4, 0.4, 0.6, 0.5)]
    assert prune(2, second) == {0, 1, 2, 3}


def test_a_trial_whose_seeds_are_trained_elsewhere_is_left_alone() -> None:
    pruner = TrialPruner(study(seeds_per_trial=2), 10, ONE_RUN, {})
    prune = pruner.prune([4, 5, 5, 6, 6])
    results = [result(0, score) for score in (0.1, 0.9, 0.9, 0.2, 0.2)]
    assert prune(2, results) == {3, 4}
    pruner.finish([4, 5, 5, 6, 6], results)


def test_a_diverged_run_reports_what_an_untrained_network_would() -> None:
    prune = TrialPruner(study(), 10, ONE_RUN, {}).prune([0, 1, 2])
    assert prune(2, [result(0.2, diverged=2), result(0.05, 0.05), result(0.09, 0.09)]) == {1, 2}
    prune = TrialPruner(study(score="validation_loss"), 10, ONE_RUN, {}).prune([0, 1])
    finite = Result({"validation_loss": [9.0, 9.0]}, {}, None)
    assert prune(2, [Result({}, {}, 1), finite]) == {0}


def test_a_run_that_goes_on_is_judged_with_what_was_before() -> None:
    """Stopped ones are known from their checkpoints; the rungs behind are not judged again."""
    prune = TrialPruner(study(), 10, ONE_RUN, {}).prune([0, 1, 2, 3])
    after = [
        result(0.1, 0.9, 0.5, 0.5), result(0.1, 0.1, stopped=2),
        result(0.1, 0.8, 0.6, 0.6), result(0.1, 0.2, stopped=2),
    ]  # fmt: skip
    assert prune(4, after) == {0}
    fresh = TrialPruner(study(), 10, ONE_RUN, {}).prune([0, 1, 2, 3])
    now = [result(*own.curves["validation_accuracy"][:2]) for own in after]
    assert fresh(1, [result(0.1)] * 4) == set() and fresh(2, now) == {1, 3}


def test_the_best_epoch_so_far_is_reported_where_it_is_the_score() -> None:
    past = [TrialCurve([0.9, 0.1], 0.9, 2, False), TrialCurve([0.2, 0.2], 0.2, 2, True)]
    fell, rose = result(0.95, 0.0), result(0.0, 0.6)
    last, highest = (
        TrialPruner(study(score_epoch=at), 10, ONE_RUN, {1: past}).prune([0, 1]) for at in ("last", "best")
    )
    assert last(2, [fell, rose]) == {0}
    assert highest(2, [fell, rose]) == {1}
