"""Two groups of values are found where there are two, and rarely where there is one."""

import math
import statistics
from collections.abc import Mapping

import numpy as np
import pytest
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import make_record
from hpo.analysis.two_groups import find_two_groups, groups_of_reruns
from hpo.bench.groups import ONE_GROUP, false_alarms, false_alarms_of_runs, power


def slow_statistics(values: Mapping[int, float]) -> list[float]:
    """The statistic of every gap by its definition, with the values in a list."""
    ordered, found = sorted(values.values()), []
    for size in range(1, len(ordered)):
        sides = ordered[:size], ordered[size:]
        squares = sum((value - statistics.fmean(side)) ** 2 for side in sides for value in side)
        within = math.sqrt(squares / (len(ordered) - 2))
        gap = sides[1][0] - sides[0][-1]
        found.append(min(len(sides[0]), len(sides[1]), 10) * gap / within if within else math.inf if gap else 0.0)
    return found


@pytest.mark.parametrize("n", [5, 6, 9, 23, 60])
@pytest.mark.parametrize("distance", [0, 6, 15, 60])
def test_the_rule_is_the_one_that_reports_state(n: int, distance: int) -> None:
    generator = np.random.default_rng([n, distance])
    seen = set()
    for _ in range(20):
        upper = int(generator.integers(1, n))
        drawn = generator.permutation(generator.normal(size=n) + distance * (np.arange(n) < upper))
        values = dict(enumerate(drawn.tolist(), start=1000))
        largest, groups = max(slow_statistics(values)), find_two_groups(values)
        assert (groups is not None) == (largest > 20 + 50 / (n - 2))
        if groups:
            assert groups.statistic == pytest.approx(largest) and groups.threshold == 20 + 50 / (n - 2)
            assert {**groups.lower, **groups.upper} == values
            assert max(groups.lower.values()) < min(groups.upper.values())
            assert list(groups.lower.values()) == sorted(groups.lower.values())
            size = slow_statistics(values).index(largest) + 1
            assert len(groups.lower) == size
        seen.add(groups is not None)
    assert distance not in (0, 60) or n == 5 or seen == {distance == 60}


@pytest.mark.parametrize("kind", ONE_GROUP)
@pytest.mark.parametrize("n", [5, 10, 40, 400])
def test_false_alarms_are_rare(kind: str, n: int) -> None:
    assert false_alarms(ONE_GROUP[kind], n, 400).share <= (0.02 if kind != "t, 3 degrees of freedom" else 0.05)


@pytest.mark.parametrize(("runs", "seeds", "spread"), [(5, 20, 1), (5, 20, 10), (10, 40, 10)])
def test_tuning_runs_with_settings_of_their_own_are_not_two_groups(runs: int, seeds: int, spread: float) -> None:
    assert false_alarms_of_runs(runs, seeds, spread, 300).share <= 0.02


def test_two_clouds_are_found() -> None:
    assert power(40, 0.5, 5, 200).share > 0.95
    assert power(20, 0.2, 10, 200).share > 0.8
    assert power(10, 0.5, 20, 200).share > 0.95


def test_values_that_are_equal_within_their_groups() -> None:
    groups = find_two_groups({1: 0.1, 2: 0.9, 3: 0.1, 4: 0.9, 5: 0.9})
    assert groups and list(groups.lower) == [1, 3] and list(groups.upper) == [2, 4, 5]
    assert find_two_groups(dict.fromkeys(range(5), 0.3)) is None
    assert find_two_groups({1: 0.1, 2: 0.9, 3: 0.1, 4: 0.9}) is None, "too few values"
    assert find_two_groups({1: 0.5, 2: 0.509, 3: 0.5, 4: 0.509, 5: 0.509}, 0.01) is None, "too narrow to matter"


def test_a_gap_between_seeds_counts_only_within_a_tuning_run() -> None:
    run_of = {seed: seed % 3 for seed in range(9)}
    between = {seed: 0.1 * run_of[seed] ** 3 + seed / 1e4 for seed in range(9)}
    assert find_two_groups(between) is not None and groups_of_reruns(between, run_of, 3, 0.01) is None
    within = {seed: (0.1 if seed in (2, 4, 6) else 0.9) + seed / 1e4 for seed in range(9)}
    groups = groups_of_reruns({**within, 9: math.nan}, {**run_of, 9: 0}, 3, 0.01)
    assert groups and groups.unit == "seed" and set(groups.lower) == {2, 4, 6}


def test_tuning_runs_that_memorise_are_told_from_those_that_do_not() -> None:
    export, curves = synthetic_export(names=("AdamW", "GNVR"), tuning_runs=5, seeds=20)
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "rerun":
            row["result"]["noisy_labels_fitted"] = (0.02, 0.71)[row["tuning_run"] in (1, 4)] + row["slot"] / 1000
    plain, split = (entry.reruns for entry in compute_numbers(make_record(export, curves)).configurations)
    assert plain.two_groups == {} and list(split.two_groups) == ["noisy_labels_fitted"]
    groups = split.two_groups["noisy_labels_fitted"]
    assert groups.unit == "tuning run" and set(groups.upper) == {2, 5}
    fitted = [value for seed, value in split.noisy_labels_fitted.items() if split.tuning_run_by_seed[seed] == 5]
    assert groups.upper[5] == pytest.approx(sum(fitted) / len(fitted))
