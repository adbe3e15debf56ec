"""The setting to use: by the reruns' validation scores against the mean of the configurations, whatever diverged."""

import math
from typing import Any

import numpy as np
import pytest
from synthetic_record import diverge, fail, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import make_record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.setting_choice import SettingChoice, choose_settings
from tests.report.moments import rows_of

RUNS, SEEDS = 4, 12
RUN_OF = {1000 + seed: 1 + seed % RUNS for seed in range(SEEDS)}
Export = tuple[dict[str, Any], dict[str, list[Any]]]


def study(**options: Any) -> Export:
    return synthetic_export(names=("AdamW", "GNVR", "SAM"), tuning_runs=RUNS, seeds=SEEDS, trials=3, **options)


def numbers(export: Export) -> StudyNumbers:
    return compute_numbers(make_record(*export))


def choices(export: Export) -> dict[str, SettingChoice]:
    return {entry.name: entry.choice for entry in numbers(export).configurations}


def plant(export: Export, value: Any, phase: str = "rerun") -> None:
    """Sets the validation accuracy of each trial or rerun: value(configuration, tuning run, seed), runs from 1."""
    for row in export[0]["slots"]:
        if row["phase"] == phase:
            score = value(row["configuration"], row["tuning_run"] + 1, row["seed"])
            row["result"]["validation_accuracy"] = score
            row["value"] = score if phase == "tune" else row["value"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("epoch", ["last", "best"])
def test_the_choice_is_that_of_plain_loops(direction: str, epoch: str) -> None:
    export, curves = study(direction=direction, score_epoch=epoch)
    score = "validation_loss" if direction == "minimize" else "validation_accuracy"
    best = min if direction == "minimize" else max
    scores: dict[str, dict[int, float]] = {}
    for row in export["slots"]:
        if row["phase"] == "rerun":
            of_row = zip(*curves.values(), strict=True)
            curve = [value for slot, _, metric, value in of_row if (slot, metric) == (row["id"], score)]
            scores.setdefault(row["configuration"], {})[row["seed"]] = curve[-1] if epoch == "last" else best(curve)
    for name, choice in choices((export, curves)).items():
        differences = {}
        for run in range(1, RUNS + 1):
            seeds = [seed for seed in RUN_OF if RUN_OF[seed] == run]
            own = sum(scores[name][seed] for seed in seeds) / len(seeds)
            everyone = sum(scores[other][seed] for other in scores for seed in seeds) / len(seeds) / len(scores)
            differences[run] = own - everyone
        assert choice.scores == pytest.approx(differences, abs=1e-9)
        assert choice.tuning_run == best(differences, key=lambda run: differences[run])
        assert (choice.compared, choice.relative, set(choice.lost.values())) == ("reruns", True, {0.0})


def test_an_easy_split_does_not_choose() -> None:
    """Run 3 is easy for all configurations, in tuning and in the reruns; each has its best setting elsewhere."""
    export, good = study(), {"AdamW": 1, "GNVR": 2, "SAM": 4}
    easy = {1: 0.0, 2: 0.02, 3: 0.1, 4: -0.05}
    for phase in ("tune", "rerun"):
        plant(export, lambda name, run, _: 0.5 + easy[run] + 0.03 * (run == good[name]), phase)
    for entry in numbers(export).configurations:
        assert max(entry.tuning.best, key=lambda best: best.score).tuning_run == 3, "the best score is that of run 3"
        assert entry.choice.tuning_run == good[entry.name]
        assert entry.setting_to_use is not None and entry.setting_to_use.tuning_run == good[entry.name]


def test_random_studies_choose_better_settings_than_by_the_best_scores() -> None:
    """Quality of the chosen setting in SDs above that of a random one; splits differ more than settings do."""
    generator, gains, old_gains = np.random.default_rng(0), [], []
    names, runs, seeds = "ABCD", range(1, 11), range(40)
    run_of = {seed: 1 + seed % 10 for seed in seeds}
    for _ in range(100):
        quality = {name: dict(zip(runs, generator.normal(size=10), strict=True)) for name in names}
        easy, of_trial = generator.normal(0, 2, 40), generator.normal(0, 2, 11)
        reruns = {
            name: {seed: quality[name][run_of[seed]] + easy[seed] + generator.normal(0, 0.5) for seed in seeds}
            for name in names
        }
        trials = {
            name: {run: quality[name][run] + of_trial[run] + generator.normal(0, 0.5) for run in runs} for name in names
        }
        for name, choice in choose_settings(trials, reruns, run_of, "maximize").items():
            assert choice.tuning_run is not None
            gains.append(quality[name][choice.tuning_run])
            old_gains.append(quality[name][max(trials[name], key=trials[name].__getitem__)])
    assert np.mean(gains) > 1.1 > 0.8 > np.mean(old_gains)


def test_a_diverged_or_failed_rerun_does_not_win() -> None:
    """The other reruns of its tuning run are by far the best."""
    for lose in (diverge, fail):
        export = study()
        plant(export, lambda name, run, _: 0.5 + 0.1 * (name == "GNVR" and run == 2) + 0.01 * (run == 3))
        assert choices(export)["GNVR"].tuning_run == 2
        row = rows_of(export[0], "GNVR", "rerun")[1]
        assert row["tuning_run"] == 1
        lose(row, export[1]) if lose is diverge else lose(export[0], row)
        choice = choices(export)["GNVR"]
        assert choice.tuning_run not in (2, None) and choice.lost == pytest.approx({1: 0, 2: 1 / 3, 3: 0, 4: 0})


def test_a_configuration_that_diverges_does_not_change_the_ranking_of_the_others() -> None:
    """SAM is bad, so that its reruns lower the mean where they have a score."""
    ranking = {"AdamW": {1: 0.03, 2: 0.0, 3: 0.02, 4: 0.01}, "GNVR": {1: 0.0, 2: 0.03, 3: 0.01, 4: 0.02}}
    export = study()
    plant(export, lambda name, run, _: 0.3 if name == "SAM" else 0.5 + ranking[name][run])
    for row in [row for row in rows_of(export[0], "SAM", "rerun") if row["tuning_run"] in (0, 1)]:
        diverge(row, export[1])
    found = choices(export)
    for name, other in (("AdamW", "GNVR"), ("GNVR", "AdamW")):
        halves = {run: (ranking[name][run] - ranking[other][run]) / 2 for run in ranking[name]}
        assert found[name].scores == pytest.approx(halves, abs=1e-9)
    assert (found["AdamW"].tuning_run, found["GNVR"].tuning_run) == (1, 2)
    assert found["SAM"].tuning_run in (3, 4), "of those whose reruns have scores"


def test_without_finished_reruns_the_best_trials_decide_against_the_mean_of_their_tuning_run() -> None:
    scores = {"AdamW": [0.5, 0.6, 0.7, 0.8], "GNVR": [0.5, 0.7, 0.7, 0.8], "SAM": [0.8, 0.6, 0.7, 0.8]}
    for finished in (0, SEEDS - 1):
        export = study(finished_reruns=finished)
        plant(export, lambda name, run, _: scores[name][run - 1], "tune")
        for name, choice in choices(export).items():
            relative = np.array(scores[name]) - np.mean(list(scores.values()), axis=0)
            assert choice.compared == "trials" and list(choice.scores.values()) == pytest.approx(relative.tolist())
            assert choice.tuning_run == {"AdamW": 3, "GNVR": 2, "SAM": 1}[name]


def test_a_configuration_in_progress_does_not_change_how_the_others_are_compared() -> None:
    export = study()
    for row in rows_of(export[0], "SAM", "rerun")[5:]:
        row.update(state="open", value=None, result=None)
    found = choices(export)
    assert {name: choice.compared for name, choice in found.items()} == {
        "AdamW": "reruns", "GNVR": "reruns", "SAM": "trials"
    }  # fmt: skip
    assert [choice.relative for choice in found.values()] == [True] * 3
    export[0]["study"]["trials"] += 1  # a better trial may still change the settings that the reruns train
    assert {choice.compared for choice in choices(export).values()} == {"trials"}


def test_with_a_single_complete_configuration_nothing_is_subtracted() -> None:
    scores = {seed: 0.1 * run for seed, run in RUN_OF.items()}
    incomplete = scores | {1000: math.nan}
    for reruns in ({"A": scores}, {"A": scores, "B": incomplete}):
        trials = {name: dict.fromkeys(range(1, RUNS + 1), 0.5) for name in reruns}
        for name, choice in choose_settings(trials, reruns, RUN_OF, "maximize").items():
            assert not choice.relative and choice.tuning_run == 4
            assert choice.scores == pytest.approx({run: 0.1 * run for run in range(1, RUNS + 1)}), name


def test_the_first_of_equal_tuning_runs_is_chosen_and_only_those_with_a_score() -> None:
    equal = {seed: 0.1 * seed for seed in RUN_OF}
    trials = {name: {2: 0.5, 3: 0.6} for name in "AB"}  # in the others no trial has a score
    assert choose_settings(trials, {"A": equal, "B": equal}, RUN_OF, "maximize")["A"].tuning_run == 2
    assert choose_settings({"A": {}}, {"A": equal}, RUN_OF, "maximize")["A"].tuning_run is None
    lost = dict.fromkeys(RUN_OF, math.nan)
    assert choose_settings(trials, {"A": lost, "B": lost}, RUN_OF, "minimize")["A"].compared == "trials"


def test_test_data_choose_nothing() -> None:
    before, export = choices(study()), study()
    for row in export[0]["slots"]:
        if row["phase"] == "rerun":
            row["value"] = row["result"]["test_accuracy"] = float(row["seed"] % 7)
    assert choices(export) == before
