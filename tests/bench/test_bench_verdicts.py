"""The test of the tests: verdicts on comparisons without a difference, and with one of the size that is stated."""

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from hpo import Mnist1d
from hpo.analysis import paired_tests
from hpo.analysis import verdicts as rules
from hpo.bench import verdicts
from hpo.bench.calibration import Pairs, Rate, calibrate, rate
from hpo.bench.simulated import families, repeated
from hpo.training.loop import Member, Recipe, Result
from hpo.worker.trainer import Trainer
from tests.cli.test_cli import hpo

CPU = torch.device("cpu")
TINY = Mnist1d(samples=200, label_noise=0.2)


def simulated(configurations: int, seeds: int, studies: int) -> list[Pairs]:
    return list(families(configurations, seeds, studies, np.random.default_rng([7, seeds])))


@pytest.mark.parametrize(("found", "of"), [(10, 200), (0, 200), (200, 200), (1, 3)])
def test_a_rate_has_the_exact_binomial_interval(found: int, of: int) -> None:
    expected = binomtest(found, of).proportion_ci(method="exact")
    assert rate(found, of) == (found, of, pytest.approx(expected.low), pytest.approx(expected.high))
    assert rate(found, of).share == found / of


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_thousand_comparisons_without_a_difference(seeds: int) -> None:
    found = calibrate(simulated(2, seeds, 2000))
    assert found.wrong.of == 2000 and found.wrong.low <= 0.05 <= found.wrong.high
    assert found.covers.low <= 0.95 <= found.covers.high
    assert found.found.low <= 0.8 <= found.found.high
    # What a study states varies with its own SD, and most where seeds are few.
    assert 0.78 < found.found_stated.share < 0.86
    assert found.wrong_beside is None and found.passes


@pytest.mark.parametrize(("configurations", "studies"), [(3, 600), (6, 300), (12, 200)])
def test_a_family_is_wrong_in_one_study_of_twenty(configurations: int, studies: int) -> None:
    found = calibrate(simulated(configurations, 10, studies))
    assert found.wrong.low <= 0.05 and found.wrong_beside is not None and found.wrong_beside.low <= 0.05
    assert found.found.low <= 0.8 <= found.found.high
    assert found.passes


def test_tentative_verdicts_count_as_firm_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpo.bench import calibration

    studies, seen = simulated(3, 10, 100), []
    real = calibration.family_verdicts

    def judge(*args: Any, runs: int) -> dict[str, rules.Verdict]:
        verdicts = real(*args, tuning_runs=runs)
        seen.extend(verdict.tentative for verdict in verdicts.values())
        return verdicts

    monkeypatch.setattr(calibration, "family_verdicts", functools.partial(judge, runs=1))
    tentative = calibrate(studies)
    assert all(seen)
    seen.clear()
    monkeypatch.setattr(calibration, "family_verdicts", functools.partial(judge, runs=10))
    assert calibrate(studies) == tentative and not any(seen)
    assert 0 < tentative.found.share < 1


def test_a_family_that_is_not_corrected_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "holm", np.asarray)
    found = calibrate(simulated(12, 10, 100))
    assert found.wrong.share > 0.2 and not found.passes


def test_a_test_that_takes_the_sd_for_known_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def normal(differences: Any) -> float:
        numbers = np.asarray(differences)
        from scipy.special import ndtr

        return float(2 * ndtr(-abs(numbers.mean()) / (numbers.std(ddof=1) / np.sqrt(numbers.size))))

    monkeypatch.setattr(paired_tests, "paired_t", normal)
    assert calibrate(simulated(2, 5, 500)).wrong.low > 0.05


def test_an_effect_that_is_overstated_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpo.bench import calibration

    real = calibration.minimal_detectable_effect
    monkeypatch.setattr(calibration, "minimal_detectable_effect", lambda *args: 1.5 * real(*args))
    found = calibrate(simulated(2, 10, 500))
    assert found.found.share > 0.9 and not found.passes


@pytest.mark.parametrize("tuning_runs", [3, 5, 10])
def test_repeated_tuning_covers_its_luck(tuning_runs: int) -> None:
    found = calibrate(list(repeated(tuning_runs, 10, 1000, np.random.default_rng(tuning_runs))))
    assert found.wrong.low <= 0.05 and found.covers.high >= 0.95
    assert found.passes


def test_one_tuning_run_does_not_cover_its_luck() -> None:
    """Why a report on one says that it is conditional on it."""
    found = calibrate(list(repeated(1, 10, 200, np.random.default_rng(1))))
    assert found.covers.high < 0.7 and not found.passes


def test_pairs_of_repeats_are_means_over_their_seeds() -> None:
    study = next(repeated(3, 10, 1, np.random.default_rng(0)))["rival 1"]
    seeds = next(repeated(1, 10, 1, np.random.default_rng(0)))["rival 1"]
    assert [sorted(side) for side in study] == [[0, 1, 2]] * 2 and [len(side) for side in seeds] == [10, 10]


def test_simulated_accuracies_are_those_of_whole_samples_and_share_their_baseline() -> None:
    study = simulated(4, 5, 1)[0]
    baselines = [baseline for _, baseline in study.values()]
    assert len(study) == 3 and baselines[0] == baselines[1] == baselines[2]
    every = np.array([[*rival.values(), *baseline.values()] for rival, baseline in study.values()])
    assert every * 800 == pytest.approx(np.round(every * 800))


def test_a_configuration_against_itself(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:  # noqa: ARG001
    trained: list[Member] = []
    real = verdicts.train

    def train(recipe: Recipe, members: list[Member], *arguments: Any, **options: Any) -> list[Result]:
        trained.extend(members)
        return real(recipe, members, *arguments, **options)

    monkeypatch.setattr(verdicts, "train", train)
    lines: list[str] = []
    study = verdicts.aa_study(TINY, epochs=2)
    found = verdicts.measure_verdicts(study, 12, [5, 3], 0, CPU, show=lines.append)
    five, three = found["rows"]
    assert (five["kind"], five["seeds"], three["seeds"]) == ("trained", 5, 3) and len(lines) == 4
    assert len(trained) == 2 * 12 * (5 + 3)
    seeds = [member.seed for member in trained]
    assert len(set(seeds)) == 12 * 8, "no seed is in two comparisons"
    assert all({m.salt for m in trained if m.seed == seed} == {0, 1} for seed in set(seeds[:20]))
    assert len({tuple(member.hyperparameters.items()) for member in trained}) == 1
    for row in (five, three):
        assert row["wrong"]["of"] == row["covers"]["of"] == row["found"]["of"] == 12
        # More than five of twelve wrong ones would come by chance once in 100,000 times.
        assert row["wrong"]["found"] <= 5 and row["wrong"]["found"] + row["covers"]["found"] == 12
        assert row["effect"] > 0 and row["found"]["found"] >= 4


def test_the_salted_side_trains_otherwise_and_parts_of_a_population_change_nothing(one_thread: None) -> None:  # noqa: ARG001
    trainer = Trainer(verdicts.aa_study(TINY, epochs=2), CPU)
    pairs = verdicts.train_pairs(trainer, range(7, 11), 32)
    assert list(pairs) == [7, 8, 9, 10] and any(plain != salted for plain, salted in pairs.values())
    for seed, accuracies in verdicts.train_pairs(trainer, range(7, 11), 3).items():
        assert accuracies == pytest.approx(pairs[seed], abs=0.051), "rounded otherwise: two of 40 test samples"
    halves = list(verdicts.in_comparisons(pairs, 2))
    assert [sorted(half["salted"][0]) for half in halves] == [[7, 8], [9, 10]]
    assert halves[0]["salted"] == ({7: pairs[7][1], 8: pairs[8][1]}, {7: pairs[7][0], 8: pairs[8][0]})


def test_the_command_prints_json_and_ends_with_1_where_a_row_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,  # noqa: ARG001
) -> None:
    small = "bench verdicts --comparisons 3 --seeds 3 --epochs 1 --samples 200 --simulated 20 --threads 1 --device cpu"
    assert hpo(*small.split(), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passes"] is True and (found["comparisons"], found["epochs"], found["samples"]) == (3, 1, 200)
    kinds = [(row["kind"], row.get("configurations"), row.get("tuning_runs")) for row in found["rows"]]
    assert kinds[0] == ("trained", None, None) and kinds[1:5] == [("family", size, None) for size in (2, 3, 6, 12)]
    assert kinds[5:] == [("tuning_runs", None, tuning_runs) for tuning_runs in (1, 3, 5, 10)]
    assert [row["passes"] for row in found["rows"]].count(None) == 1 and found["rows"][5]["passes"] is None
    wrong = Rate(200, 200, 0.98, 1.0)
    real = verdicts.calibrate
    monkeypatch.setattr(verdicts, "calibrate", lambda studies: real(studies)._replace(wrong=wrong))
    assert hpo("bench", "verdicts", "--comparisons", "0", "--seeds", "3", "--simulated", "3") == 1
    said = capsys.readouterr()
    assert said.err == "hpo: verdicts are not as often right as they say; see the rows that do not pass\n"
    rows = said.out.splitlines()
    assert rows[-1].startswith("10 tuning runs, 10 seeds") and rows[-1].endswith("  no")
    assert any(row.endswith("  conditional on one tuning run") for row in rows)
    assert any(row.startswith("  beside it") for row in rows)
