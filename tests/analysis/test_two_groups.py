"""Two groups of values, and values apart, are found where there are any, and rarely where there are none."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, NOISY_LABELS, TRAIN_LOSS
from hpo.analysis.record import make_record
from hpo.analysis.rerun_metrics import MIN_GAP_OF_SHARES, smallest_gap
from hpo.analysis.two_groups import find_two_groups, groups_of_reruns
from hpo.bench.groups import (
    ONE_GROUP,
    SHARES,
    false_alarms,
    false_alarms_of_configurations,
    false_alarms_of_runs,
    power,
)

# Shares of the noisy labels that tuning runs fit, in percent, and how many of these memorise them.
MEMORISING: list[tuple[Sequence[float], int]] = [
    ((10.1, 10.2, 13.9, 15.0, 16.0, 18.8, 42.5, 96.7, 100.0, 100.0), 3),
    ((9.6, 10.7, 13.2, 14.6, 21.7, 25.4, 31.5, 92.8, 98.9, 99.9), 3),
    ((10.3, 10.8, 10.8, 12.1, 12.9, 14.9, 15.2, 37.7, 99.5, 100.0), 2),
    ((8.9, 9.8, 10.0, 11.3, 13.7, 16.9, 17.3, 17.6, 18.3, 92.8), 1),
    ((11.5, 12.0, 12.1, 13.6, 15.3, 15.3, 16.4, 20.5, 29.6, 100.0), 1),
    ((23.7, 29.6, 36.0, 94.6, 99.9, 100.0, 100.0, 100.0, 100.0, 100.0), 7),
    ((14.6, 15.5, 15.8, 17.2, 100.0), 1),
    ((36.5, 100.0, 100.0, 100.0, 100.0), 4),
]
ONE_CLOUD: list[Sequence[float]] = [
    (11.8, 13.0, 13.3, 14.0, 19.8, 23.9, 24.4, 45.1, 89.5, 100.0),  # too few and too wide to be sure
    (22.1, 30.9, 32.5, 34.4, 38.3, 42.8, 46.6, 53.1, 62.2, 66.7),
    (9.7, 19.4, 23.1, 23.4, 26.4, 27.1, 31.0, 34.2, 41.8, 68.3),
    (10.4, 10.9, 11.3, 11.5, 13.8, 13.9, 15.7, 18.8, 25.3, 45.1),
    (96.7, 100.0, 100.0, 100.0, 100.0),  # apart, but near
    (0.0, 0.0, 0.0, 0.0, 9.9),
]


def slow_rule(values: Mapping[int, float], smallest: float) -> tuple[set[int], set[int]] | None:
    """The rule by its definition: of all splits that with the widest gap, which has to exceed both limits."""
    splits = []
    for pivot in set(values.values()):
        below = {key for key, value in values.items() if value <= pivot}
        if above := values.keys() - below:
            splits.append((min(values[key] for key in above) - pivot, below, above))
    if len(values) < 5 or not splits:
        return None
    gap, below, above = max(splits, key=lambda split: split[0])
    squares = 0.0
    for side in (below, above):
        mean = statistics.fmean(values[key] for key in side)
        squares += sum((values[key] - mean) ** 2 for key in side)
    n, m = len(values), min(len(below), len(above))
    chance = (1 + 4 / m + 15 / (n - 4)) * (squares / (n - 2)) ** 0.5
    return (below, above) if gap > chance and gap > smallest else None


@pytest.mark.parametrize("n", [4, 5, 6, 9, 23, 60])
@pytest.mark.parametrize("distance", [0, 6, 15, 60])
def test_the_rule_is_the_one_that_reports_state(n: int, distance: int) -> None:
    generator = np.random.default_rng([n, distance])
    seen = set()
    for _ in range(20):
        upper = int(generator.integers(1, n))
        drawn = generator.permutation(generator.normal(size=n) + distance * (np.arange(n) < upper))
        values = dict(enumerate(drawn.tolist(), start=1000))
        expected, groups = slow_rule(values, 3.0), find_two_groups(values, 3.0)
        assert (groups is None) == (expected is None)
        if groups and expected:
            assert ({*groups.lower}, {*groups.upper}) == expected
            assert groups.gap == pytest.approx(min(groups.upper.values()) - max(groups.lower.values()))
            assert groups.gap > max(3.0, groups.threshold * groups.sd_within)
            assert {**groups.lower, **groups.upper} == values
            assert list(groups.lower.values()) == sorted(groups.lower.values())
            assert groups.has_single == (1 in map(len, expected))
        seen.add(groups is not None)
    assert n > 4 or seen == {False}
    assert n < 6 or distance not in (0, 60) or seen == {distance == 60}


@pytest.mark.parametrize(("shares", "memorising"), MEMORISING)
def test_tuning_runs_that_memorise_noisy_labels_are_found(shares: Sequence[float], memorising: int) -> None:
    values = {run: share / 100 for run, share in enumerate(reversed(shares))}
    groups = find_two_groups(values, MIN_GAP_OF_SHARES)
    assert groups and len(groups.upper) == memorising and set(groups.upper) == set(range(memorising))
    below = find_two_groups({run: 1 - value for run, value in values.items()}, MIN_GAP_OF_SHARES)
    assert below and below.lower.keys() == groups.upper.keys(), "the rule does not know which end is which"


@pytest.mark.parametrize("shares", ONE_CLOUD)
def test_shares_of_one_cloud_are_not_split(shares: Sequence[float]) -> None:
    assert find_two_groups({run: share / 100 for run, share in enumerate(shares)}, MIN_GAP_OF_SHARES) is None


@pytest.mark.parametrize("kind", [*ONE_GROUP, *SHARES])
@pytest.mark.parametrize("n", [5, 7, 10, 40])
def test_false_alarms_are_rare(kind: str, n: int) -> None:
    rates = false_alarms(kind, n, 400)
    assert rates.groups.share <= 0.1 and rates.apart.share <= 0.1
    assert kind != "normal" or rates.either.share <= 0.015  # at a rate of 0.55%, more than 6 of 400 would be rare


def test_several_quantities_of_a_configuration_seldom_give_a_false_alarm() -> None:
    assert 0 < false_alarms_of_configurations(0.0, 7, 400).either.share <= 0.04


@pytest.mark.parametrize(("runs", "seeds", "spread"), [(5, 20, 1), (5, 20, 10), (10, 40, 10)])
def test_tuning_runs_with_settings_of_their_own_are_not_two_groups(runs: int, seeds: int, spread: float) -> None:
    assert false_alarms_of_runs(runs, seeds, spread, 300).either.share <= 0.02


def test_two_clouds_are_found() -> None:
    assert power(40, 2, 5, 200).groups.share > 0.95
    assert power(8, 5, 10, 200).groups.share > 0.65 and power(8, 2, 10, 200).groups.share > 0.5
    assert power(20, 1, 10, 200).apart.share > 0.95
    assert power(8, 4, 20, 200).groups.share > 0.9


def test_values_that_are_equal_within_their_groups() -> None:
    groups = find_two_groups({1: 0.1, 2: 0.9, 3: 0.1, 4: 0.9, 5: 0.9})
    assert groups and list(groups.lower) == [1, 3] and list(groups.upper) == [2, 4, 5]
    assert groups.sd_within == pytest.approx(0) and groups.gap == pytest.approx(0.8)
    assert find_two_groups(dict.fromkeys(range(5), 0.3)) is None
    assert find_two_groups({1: 0.1, 2: 0.9, 3: 0.1, 4: 0.9}) is None, "too few values"
    near = {1: 0.5, 2: 0.509, 3: 0.5, 4: 0.509, 5: 0.509}
    assert find_two_groups(near, 0.01) is None and find_two_groups(near, 0.008), "too narrow to matter"


def test_a_gap_has_to_matter_in_the_unit_of_its_quantity() -> None:
    values = {1: 2.0, 2: -4.0, 3: math.nan}
    assert smallest_gap(values, ACCURACY, 0.02) == pytest.approx(0.1), "five margins"
    assert smallest_gap(values, NOISY_LABELS, None) == MIN_GAP_OF_SHARES
    assert smallest_gap(values, TRAIN_LOSS, None) == 1.5, "half the mean absolute value"
    assert smallest_gap({}, TRAIN_LOSS, None) == 0


def test_a_gap_between_seeds_counts_only_within_a_tuning_run() -> None:
    run_of = {seed: seed % 3 for seed in range(9)}
    between = {seed: 0.1 * run_of[seed] ** 3 + seed / 1e4 for seed in range(9)}
    assert find_two_groups(between) is not None and groups_of_reruns(between, run_of, 3, 0.01) is None
    within = {seed: (0.1 if seed in (2, 4, 6) else 0.9) + seed / 1e4 for seed in range(9)}
    groups = groups_of_reruns({**within, 9: math.nan}, {**run_of, 9: 0}, 3, 0.01)
    assert groups and groups.unit == "seed" and set(groups.lower) == {2, 4, 6}


def test_every_quantity_with_a_mean_is_tested() -> None:
    export, curves = synthetic_export(names=("AdamW", "GNVR"), tuning_runs=5, seeds=20)
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "rerun":
            memorises, result = row["tuning_run"] in (1, 4), row["result"]
            result["noisy_labels_fitted"] = (0.02, 0.71)[memorises] + row["slot"] / 1000
            result["train_loss"] = (1.3, 0.01)[memorises] + row["slot"] / 1000
            result["train_accuracy"] = result["test_accuracy"] + (0.5 if row["tuning_run"] == 3 else 0.02)
    plain, split = (entry.reruns for entry in compute_numbers(make_record(export, curves)).configurations)
    assert plain.two_groups == {}
    assert list(split.two_groups) == ["train_loss", "generalisation_gap", "noisy_labels_fitted"]
    losses, gaps, groups = split.two_groups.values()
    assert all(each.unit == "tuning run" for each in (losses, gaps, groups))
    assert set(losses.lower) == set(groups.upper) == {2, 5} and not groups.has_single
    assert gaps.has_single and gaps.upper == pytest.approx({4: 0.5})
    fitted = [value for seed, value in split.noisy_labels_fitted.items() if split.tuning_run_by_seed[seed] == 5]
    assert groups.upper[5] == pytest.approx(sum(fitted) / len(fitted))
