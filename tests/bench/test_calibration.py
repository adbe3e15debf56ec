"""Verdicts are wrong as rarely as they claim, without a difference and with one of the size that is stated."""

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from typer.testing import CliRunner

from hpo import Mnist1d
from hpo.analysis import paired_tests
from hpo.analysis import verdicts as rules
from hpo.bench import calibration, verdicts
from hpo.bench.calibration import Pairs, calibrate, count_rate
from hpo.bench.simulated import families, repeated
from hpo.cli import app
from hpo.errors import HpoError
from hpo.training.recipe import Member, Recipe, Result
from hpo.worker.trainer import Trainer
from tests.bench.tables import check_table

CPU = torch.device("cpu")
TINY = Mnist1d(samples=200, label_noise=0.2)


def simulated(configurations: int, seeds: int, studies: int, planned: int = 0) -> list[Pairs]:
    return list(families(configurations, seeds, studies, np.random.default_rng([7, seeds]), planned))


@pytest.mark.parametrize(
    ("events", "total", "low", "high"), [(0, 3, 0, 0.70760), (3, 3, 0.29240, 1), (10, 200, 0.024234, 0.090028)]
)
def test_a_rate_has_the_exact_binomial_interval(events: int, total: int, low: float, high: float) -> None:
    rate = count_rate(number < events for number in range(total))
    assert rate == (events, total, pytest.approx(low, abs=5e-6), pytest.approx(high, abs=5e-6))
    assert rate.share == events / total


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_comparisons_without_a_difference(seeds: int) -> None:
    result = calibrate(simulated(2, seeds, 2000))
    assert result.false_positives.low <= 0.05 <= result.false_positives.high
    assert result.coverage.low <= 0.95 <= result.coverage.high
    assert result.power.low <= 0.8 <= result.power.high
    # What a study states varies with its own SD, and most where seeds are few.
    assert 0.78 < result.stated_power.share < 0.86
    assert result.other_false_positives is None and result.passes()


@pytest.mark.parametrize(("configurations", "studies", "planned"), [(3, 600, 0), (12, 200, 0), (4, 600, 1)])
def test_a_family_has_a_false_positive_in_one_study_of_twenty(configurations: int, studies: int, planned: int) -> None:
    result = calibrate(simulated(configurations, 10, studies, planned))
    assert result.false_positives.low <= 0.05
    assert result.other_false_positives is not None and result.other_false_positives.low <= 0.05
    assert result.power.low <= 0.8 <= result.power.high
    assert result.passes()


def test_tentative_verdicts_count_as_firm_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    tentative: list[bool] = []
    real = calibration.family_verdicts

    def verdicts_after(*args: Any, runs: int) -> dict[str, rules.Verdict]:
        verdicts = real(*args, tuning_runs=runs)
        tentative.extend(verdict.tentative for verdict in verdicts.values())
        return verdicts

    results = []
    for runs in (1, 10):
        tentative.clear()
        monkeypatch.setattr(calibration, "family_verdicts", functools.partial(verdicts_after, runs=runs))
        results.append(calibrate(simulated(3, 10, 100)))
        assert set(tentative) == {runs == 1}
    assert results[0] == results[1] and 0 < results[0].power.share < 1


def normal_test(differences: Any) -> float:
    """As if the SD were known."""
    numbers = np.asarray(differences)
    return float(2 * ndtr(-abs(numbers.mean()) / (numbers.std(ddof=1) / np.sqrt(numbers.size))))


def overstated_effect(*arguments: Any) -> float:
    return 1.5 * paired_tests.minimal_detectable_effect(*arguments)


@pytest.mark.parametrize(
    ("module", "name", "wrong", "configurations", "seeds"),
    [
        (rules, "holm", np.asarray, 12, 10),
        (paired_tests, "paired_t", normal_test, 2, 5),
        (calibration, "minimal_detectable_effect", overstated_effect, 2, 10),
    ],
)
def test_wrong_statistics_do_not_pass(
    module: Any, name: str, wrong: Any, configurations: int, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = simulated(configurations, seeds, 500 if configurations == 2 else 100)
    assert calibrate(studies).passes()
    monkeypatch.setattr(module, name, wrong)
    assert not calibrate(studies).passes()


@pytest.mark.parametrize("tuning_runs", [3, 10])
def test_repeated_tuning_covers_its_chance(tuning_runs: int) -> None:
    result = calibrate(list(repeated(tuning_runs, 10, 1000, np.random.default_rng(tuning_runs))))
    assert result.false_positives.low <= 0.05 and result.coverage.high >= 0.95
    assert result.passes()


def test_one_tuning_run_does_not_cover_its_chance() -> None:
    """Why a report on one says that it is conditional on it."""
    result = calibrate(list(repeated(1, 10, 200, np.random.default_rng(1))))
    assert result.coverage.high < 0.7 and not result.passes()


def test_pairs_of_repeats_are_means_over_their_seeds() -> None:
    study = next(repeated(3, 10, 1, np.random.default_rng(0)))["rival 1"]
    seeds = next(repeated(1, 10, 1, np.random.default_rng(0)))["rival 1"]
    assert [sorted(side) for side in study] == [[0, 1, 2]] * 2 and [len(side) for side in seeds] == [10, 10]


def test_simulated_accuracies_are_those_of_whole_samples_and_share_their_baseline() -> None:
    study = simulated(4, 5, 1)[0]
    baselines = [baseline for _, baseline in study.values()]
    assert len(study) == 3 and baselines[0] == baselines[1] == baselines[2]
    accuracies = np.array([[*rival.values(), *baseline.values()] for rival, baseline in study.values()])
    assert accuracies * 800 == pytest.approx(np.round(accuracies * 800))


@pytest.mark.usefixtures("one_thread")
def test_a_configuration_against_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Member] = []
    real = verdicts.train

    def train(recipe: Recipe, members: list[Member], *arguments: Any, **options: Any) -> list[Result]:
        trained.extend(members)
        return real(recipe, members, *arguments, **options)

    monkeypatch.setattr(verdicts, "train", train)
    rows: list[Any] = []
    result = verdicts.measure(verdicts.aa_study(TINY, epochs=1), 8, [5, 3], 20, CPU, rows.append)
    check_table(verdicts, result, rows[2])
    assert result["rows"] == rows and result["passes"] == all(row["passes"] is not False for row in rows)
    kinds = [(row["kind"], row["seeds"], row.get("configurations"), row.get("tuning_runs")) for row in rows]
    assert kinds == [
        *(("trained", seeds, None, None) for seeds in (5, 3)),
        *(("simulated", seeds, size, None) for seeds in (5, 3) for size in (2, 3, 6, 12, 4, 6)),
        *(("simulated", 10, None, tuning_runs) for tuning_runs in (1, 3, 5, 10)),
    ]
    assert [row["passes"] is None for row in rows] == [row.get("tuning_runs") == 1 for row in rows]
    salts: dict[int, list[int]] = {}
    for member in trained:
        salts.setdefault(member.seed, []).append(member.salt)
    assert list(salts.values()) == [[0, 1]] * 8 * (5 + 3), "no seed is in two comparisons"
    assert len({tuple(member.hyperparameters.items()) for member in trained}) == 1
    for row in rows[:2]:
        assert row["false_positives"]["total"] == row["coverage"]["total"] == row["power"]["total"] == 8
        assert row["false_positives"]["events"] + row["coverage"]["events"] == 8 and row["effect"] > 0


def test_planned_comparisons_of_two_rivals_are_between_the_values_of_both() -> None:
    [study] = simulated(6, 4, 1, planned=2)
    assert list(study)[5:] == ["rival 3 against 2", "rival 5 against 4"]
    assert study["rival 5 against 4"] == (study["rival 5"][0], study["rival 4"][0])


@pytest.mark.usefixtures("one_thread")
def test_the_salted_side_trains_differently_and_the_population_size_changes_nothing() -> None:
    trainer = Trainer(verdicts.aa_study(TINY, epochs=2), CPU)
    pairs = verdicts.train_pairs(trainer, range(7, 11), 32)
    assert list(pairs) == [7, 8, 9, 10] and any(plain != salted for plain, salted in pairs.values())
    for seed, accuracies in verdicts.train_pairs(trainer, range(7, 11), 3).items():
        assert accuracies == pytest.approx(pairs[seed], abs=0.051), "more than rounding: two of 40 test samples"
    halves = list(verdicts.in_comparisons(pairs, 2))
    assert halves[1]["salted"] == ({9: pairs[9][1], 10: pairs[10][1]}, {9: pairs[9][0], 10: pairs[10][0]})
    assert len(halves) == 2


def test_the_command_fails_if_a_row_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["bench", "verdicts", "--comparisons", "0", "--seeds", "3", "--simulated", "20", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["passes"] is True
    monkeypatch.setattr(rules, "holm", lambda p_values: np.zeros(len(p_values)))
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, HpoError) and "False" in result.stdout
