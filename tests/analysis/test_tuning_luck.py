"""The luck of tuning: with repeated tuning the intervals cover it, without the report says that they do not."""

from typing import Any

import numpy as np
import pytest
from synthetic_record import diverge, synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.paired_tests import t_interval
from hpo.analysis.verdicts import by_tuning_run, tuning_run_means
from hpo.report import Record, make_record
from hpo.report.summary import summarise
from tests.report.test_report_words import part, text_of

SEEDS = 12
# What one tuning run of GNVR gained over one of AdamW, in three tuning runs; the seeds of a tuning run hardly differ.
LUCK = (0.10, 0.01, 0.03)
NOISE = np.array([0.002, -0.001, 0.003, -0.002, 0.001, -0.003, 0.0, 0.002, -0.001, 0.001, -0.002, 0.0])
CONDITIONAL = "Conditional on one tuning run"


def export_of(tuning_runs: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    baseline = 0.5 + 0.01 * (np.arange(SEEDS) % 5)
    gain = np.array([LUCK[seed % 3] for seed in range(SEEDS)]) + NOISE
    accuracies = {"AdamW": baseline.tolist(), "GNVR": (baseline + gain).tolist()}
    return synthetic_export(seeds=SEEDS, accuracies=accuracies, tuning_runs=tuning_runs)


def record_of(tuning_runs: int) -> Record:
    return make_record(*export_of(tuning_runs))


def verdict_line(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("> - GNVR against AdamW"))


def test_one_tuning_run_is_said_to_be_a_condition() -> None:
    text = text_of(record_of(1))
    assert (
        f"> - {CONDITIONAL}: another one may choose other settings, so every verdict is tentative; tune three times "
        f"(--tuning-runs 3 --seeds {3 * SEEDS}).\n"
    ) in text
    assert (
        "- The intervals cover the luck of the seeds on one test set and are conditional on one tuning run: another "
        "one could choose other settings, and no interval here covers that, so every verdict is tentative.\n"
    ) in text
    assert "tuning runs" not in text
    assert (
        ": tentatively better; " in verdict_line(text)
        and "**" not in verdict_line(text)
        and "; 12 paired seeds; " in verdict_line(text)
    )


def test_three_tuning_runs_are_the_units_and_their_luck_is_covered() -> None:
    """The same accuracies: what one tuning run would have shown for certain is not certain over three."""
    text, numbers = text_of(record_of(3)), compute_numbers(record_of(3))
    assert CONDITIONAL not in text and "conditional" not in text and "Only" not in part(text, "> Warn", "## Hyp")
    assert (
        "- The intervals of T1 and T2 are over the means of 3 tuning runs, each with settings and seeds of its own: "
        "they cover the luck of tuning and of the seeds, on one test set.\n"
    ) in text
    assert "; mean and interval are those of the means of the 3 tuning runs. The final" in part(text, "T1.", "T2.")
    assert "tuning run by tuning run" in part(text, "T2.", "T4.")
    assert ": no detectable difference (" in verdict_line(text) and "; 3 paired tuning runs; " in verdict_line(text)
    compared = numbers.rivals[0].verdict.comparison
    gains = [LUCK[tuning_run] + NOISE[tuning_run::3].mean() for tuning_run in range(3)]
    assert compared.n == 3 and compared.mean == pytest.approx(np.mean(gains))
    assert compared.interval == pytest.approx(t_interval(gains))
    assert compared.interval.low < 0, "the smallest gain of a tuning run is a tenth of the largest"


def test_the_interval_of_a_configuration_covers_the_luck_of_its_tuning_as_well() -> None:
    one, three = (compute_numbers(record_of(tuning_runs)).configurations[1].reruns for tuning_runs in (1, 3))
    assert one.metric_values == three.metric_values and one.metric_summary.sd == three.metric_summary.sd
    means = [
        np.mean([one.metric_values[1000 + seed] for seed in range(tuning_run, SEEDS, 3)]) for tuning_run in range(3)
    ]
    assert three.metric_summary.interval == pytest.approx(t_interval(means))
    assert three.metric_summary.mean == pytest.approx(np.mean(means))
    assert one.metric_summary.interval == pytest.approx(t_interval(list(one.metric_values.values())))


def test_every_seed_is_shown_with_the_tuning_run_that_it_is_averaged_in() -> None:
    rows = [
        line.split(" | ") for line in part(text_of(record_of(3)), "T4.", "</details>").splitlines() if "| 1" in line
    ]
    assert [(row[0].strip("| "), int(row[1])) for row in rows][:5] == [
        ("1", 1000), ("1", 1003), ("1", 1006), ("1", 1009), ("2", 1001),
    ]  # fmt: skip
    assert "| seed | AdamW | GNVR |" in text_of(record_of(1))


def test_the_summary_says_what_its_intervals_are_over() -> None:
    note = summarise(record_of(3)).note
    assert "reruns that finished; mean and interval are those of the means of the 3 tuning runs.\n" in note
    assert "T2. Differences of test accuracy, tuning run by tuning run.\n" in note
    assert "T2. Differences of test accuracy, seed by seed.\n" in summarise(record_of(1)).note


def test_few_tuning_runs_are_warned_of_and_not_their_many_seeds() -> None:
    warned = 'find only large differences; "better" and "worse" are tentative with fewer than 5.\n'
    assert f"> - Fewer than 10 tuning runs (3) {warned}" in text_of(record_of(3))
    assert "> - Fewer than 10 tuning runs (5) find only large differences.\n" in text_of(record_of(5))
    assert all("Fewer than" not in part(text_of(record_of(tuning_runs)), "> Warn", "## Hyp") for tuning_runs in (1, 2))


def test_a_budget_is_that_of_one_tuning_run() -> None:
    export, curves = export_of(3)
    export["study"]["definition"]["configurations"][1]["trials"] = 5
    warned = text_of(make_record(export, curves))
    assert f"> - Unequal trial budgets: AdamW {export['study']['trials']}, GNVR 5.\n" in warned


def test_settings_and_learning_rates_of_several_runs_are_listed_once() -> None:
    export, curves = export_of(3)
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["setting"] = {**row["setting"], "learning_rate": (row["tuning_run"] + 1) * 1e-3}
    text = text_of(make_record(export, curves))
    row = next(line for line in part(text, "T1.", "T2.").splitlines() if line.startswith("| GNVR |"))
    assert row.endswith("| one a tuning run |")
    assert "Confounded with the learning rate: 1.00e-3, 2.00e-3 and 3.00e-3 against" in text


def test_two_tuning_runs_give_no_verdict() -> None:
    text = text_of(record_of(2))
    assert ": no verdict: 2 paired tuning runs, 3 are needed; Δ = " in verdict_line(text)
    assert "> - Only 2 tuning runs: fewer than three give no verdict.\n" in text
    assert CONDITIONAL not in text and "are over the means of 2 tuning runs" in text


def test_before_a_second_tuning_run_has_reruns_there_is_no_interval() -> None:
    export, curves = export_of(3)
    for row in export["slots"]:
        if row["phase"] == "rerun" and row["tuning_run"] > 0:
            row.update(state="open", value=None, result=None, cause=None, seconds=None)
    text = text_of(make_record(export, curves))
    assert ": no verdict: 1 paired tuning run, 3 are needed; Δ = " in verdict_line(text)
    row = next(line for line in part(text, "T1.", "T2.").splitlines() if line.startswith("| GNVR |"))
    assert row.split("|")[2].strip() == "4" and "[" not in row.split("|")[3] and "–" not in row.split("|")[3]


def test_all_diverged_reruns_are_counted_though_they_are_of_one_repeat() -> None:
    export, curves = export_of(3)
    export["study"]["definition"] |= {"score": "validation_loss", "direction": "minimize"}
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "rerun" and row["tuning_run"] == 1:
            diverge(row, curves, bounded=False)
    assert ": no verdict: 4 diverged; Δ = " in verdict_line(text_of(make_record(export, curves)))


def test_means_of_repeats_are_over_the_seeds_that_both_sides_have() -> None:
    rival, baseline = {1: 0.5, 2: 0.7, 3: 0.9, 5: 0.1}, {1: 0.4, 2: 0.4, 3: 0.6, 4: 0.0}
    tuning_runs = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2}
    assert by_tuning_run(rival, baseline, tuning_runs) == (
        {0: pytest.approx(0.6), 1: pytest.approx(0.9)},
        {0: pytest.approx(0.4), 1: pytest.approx(0.6)},
    )
    assert tuning_run_means({}, tuning_runs) == {}
