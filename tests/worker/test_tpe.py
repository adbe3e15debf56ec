"""TPE on arrays gives the settings of Optuna's TPESampler."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from optuna.samplers import TPESampler

from hpo.search_space import Entry, choice, integers, linear_range, log_range, when
from hpo.space import Setting, Space, split_space
from hpo.storage.ledger import FinishedTrial
from hpo.worker import sampler
from hpo.worker.observations import Observations
from hpo.worker.parzen import log_density
from hpo.worker.sampler import distributions_of, sample, sample_with_optuna

SPACES: Mapping[str, dict[str, Entry]] = {
    "ranges": {"rate": log_range(1e-4, 1e-1), "decay": log_range(1e-6, 1e-2), "momentum": linear_range(0, 0.99)},
    "conditions": {
        "rate": log_range(1e-4, 1e-1),
        "kind": choice("a", "b", None),
        "width": integers(4, 512, log=True),
        "share": when("kind", "a", linear_range(0.0, 1.0)),
        "depth": integers(1, 5),
        "skip": when("depth", (3, 4, 5), integers(1, 9)),
        "flag": choice(True, False),
    },
    "integers": {"width": integers(4, 100_000), "rate": log_range(1e-4, 1e-1)},
    "one choice": {"kind": choice(1, 2, 3)},
}


def trials(space: Space, count: int, pruned: float = 0.0, without_value: float = 0.0) -> list[FinishedTrial]:
    """Random settings with random values, of which many are equal."""
    rng = random.Random(count)
    settings = sample_with_optuna(space, [], [], count, "maximize", count, "random")
    return [
        FinishedTrial(
            setting,
            None if rng.random() < without_value else rng.choice([rng.random(), round(rng.random(), 1)]),
            rng.randint(0, 5) if rng.random() < pruned else None,
        )
        for setting in settings
    ]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("pruned, without_value", [(0.0, 0.0), (0.5, 0.2), (0.97, 0.1)])
@pytest.mark.parametrize("name", SPACES)
def test_settings_are_those_of_optuna(name: str, pruned: float, without_value: float, direction: str) -> None:
    space = split_space(SPACES[name])
    pending = [trial.setting for trial in trials(space, 5)]
    for count in (10, 11, 24, 250, 1000):
        finished = trials(space, count, pruned, without_value)
        first = next(iter(space.tuned))
        case = (space, finished, pending, 4, direction, count)
        given: dict[int, Setting] = {1: {first: finished[0].setting[first]}}
        slow = sample_with_optuna(*case, "tpe", given)
        assert sampler._sample_from_arrays(*case, given) == slow, f"{count} trials"


def test_added_trials_count_like_those_given_at_once() -> None:
    space = split_space(SPACES["conditions"])
    finished = trials(space, 300, 0.3, 0.1)
    known = Observations(distributions_of(space))
    for start in range(0, 300, 60):
        known.extend(finished[start : start + 60])
    case = (space, finished, [], 2, "maximize", 1)
    assert sampler._sample_from_arrays(*case, {}, known) == sample_with_optuna(*case, "tpe")


@pytest.mark.parametrize("count", [0, 1, 2, 24, 25, 26, 3000])
def test_densities_are_those_of_optuna(count: int) -> None:
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

    space = split_space(SPACES["conditions"])
    names = ["rate", "kind", "width", "depth", "flag"]
    entries = {name: distributions_of(space)[name] for name in names}
    known = Observations(entries)
    known.extend(trials(space, count))
    points = known.rows([trial.setting for trial in trials(space, 40)])
    columns = dict(zip(names, known.settings.T, strict=True))
    slow = _ParzenEstimator(columns, entries, TPESampler()._parzen_estimator_parameters)
    expected = slow.log_pdf(dict(zip(names, points.T, strict=True)))
    np.testing.assert_allclose(log_density(points, known.settings, list(entries.values())), expected, rtol=1e-11)


def test_optuna_samples_where_its_inner_parts_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    space = split_space(SPACES["ranges"])
    finished = trials(space, sampler.MANY)
    case = (space, finished, [], 8, "maximize", 1)
    expected = sample_with_optuna(*case, "tpe")

    def other(points: np.ndarray, *_: Any) -> np.ndarray:
        return np.zeros(len(points))

    monkeypatch.setattr("hpo.worker.tpe.log_density", other)
    sampler._arrays_agree.cache_clear()
    assert not sampler._arrays_agree()
    assert sample(*case) == expected != sampler._sample_from_arrays(*case, {})
    sampler._arrays_agree.cache_clear()


def test_arrays_agree_with_the_installed_optuna() -> None:
    sampler._arrays_agree.cache_clear()
    assert sampler._arrays_agree()
