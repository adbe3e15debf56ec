"""What a report says about failures, diverged trials, short names and single things."""

import re

import numpy as np
import pytest
from markdown_it import MarkdownIt
from synthetic_record import diverge, fail, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.report import Record, formatting, make_record
from hpo.report.page import Page, markdown
from hpo.trials import CAUSES


def text_of(record: Record) -> str:
    return markdown(Page(compute_numbers(record), [], ["hpo run synthetic"], None))


def part(text: str, first: str, last: str) -> str:
    return text[text.index(first) : text.index(last)]


def every_cause() -> Record:
    """GNVR: a trial and a rerun diverge, and attempts of both end for each of the other causes; one rerun is lost."""
    export, curves = synthetic_export(names=("AdamW", "GNVR", "ROGC"))
    trials, reruns = (
        [row for row in export["slots"] if row["configuration"] == "GNVR" and row["phase"] == phase]
        for phase in ("tune", "rerun")
    )
    diverge(trials[0], curves)
    diverge(reruns[0], curves)
    for number, cause in enumerate(CAUSES[1:], start=1):
        for attempt in range(number):  # one of the first cause, two of the next, …
            failure = {"attempt": attempt + 1, "cause": cause, "message": "no", "setting": None, "time": 1.7e9}
            export["failures"].append(failure | {"slot_id": trials[number].get("id")})
    fail(export, reruns[1], "lost worker")
    return make_record(export, curves)


def test_all_five_causes_stand_in_the_table_of_failures() -> None:
    table = part(text_of(every_cause()), "T6. Failures by cause.", "## Conclusion")
    assert table.splitlines()[2:] == [
        "| configuration | runs | diverged | out of memory | exception | lost worker | timeout | failed for good |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
        "| GNVR | trials | 1 | 1 | 2 | 3 | 4 | 0 |",
        "| GNVR | reruns | 1 | 0 | 0 | 2 | 0 | 1 |",
        "",
    ]


def test_all_causes_stand_in_the_warnings() -> None:
    warnings = part(text_of(every_cause()), "> Warnings:", "## Hypothesis")
    for sentence in (
        "GNVR: attempts of trials failed and were made again (out of memory × 1, exception × 2, lost worker × 3, "
        "timeout × 4).",
        "GNVR: 1 of 8 trials diverged.",
        "GNVR: 1 rerun diverged (seed 1000) and counted with the value of an untrained network.",
        "GNVR: 1 rerun failed for good (lost worker × 2), so that seed 1001 left every pair.",
    ):
        assert f"> - {sentence}\n" in warnings
    assert "ROGC: " not in warnings


def test_attempts_of_reruns_that_were_made_again_are_told() -> None:
    export, curves = synthetic_export()
    failure = {"attempt": 1, "cause": "timeout", "message": "late", "setting": None, "time": 1.7e9}
    export["failures"].append(failure | {"slot_id": export["slots"][-1]["id"]})
    text = text_of(make_record(export, curves))
    assert "> - GNVR: attempts of reruns failed and were made again (timeout × 1).\n" in text
    assert "| GNVR | reruns | 0 | 0 | 0 | 0 | 1 | 0 |" in text


def test_without_failures_a_sentence_says_so() -> None:
    text = text_of(synthetic_record())
    assert "No run diverged and no attempt failed." in text and "T6." not in text


def test_a_configuration_whose_trials_all_diverged_has_no_best_setting() -> None:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["configuration"] == "GNVR" and row["phase"] == "tune":
            diverge(row, curves)
    text = text_of(make_record(export, curves))
    assert re.search(r"\| none: every trial diverged \(rerun with LR [^|]+\) \|", part(text, "T1.", "T2."))
    row = next(line for line in part(text, "## Tuning", "T6.").splitlines() if line.startswith("| GNVR |"))
    assert row == "| GNVR | 8 of 8 | 8 | 0 | – | none: every trial diverged | – |"
    assert "> - GNVR: every trial diverged, so that no score chose its setting.\n" in text


def test_where_every_rerun_diverged_there_is_no_verdict() -> None:
    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["phase"] == "rerun":
            diverge(row, curves)
    text = text_of(make_record(export, curves))
    assert "> - GNVR against AdamW: no verdict: every rerun of both diverged; Δ = 0.00 points" in text
    assert "identical" not in text and "Whether it is better, as predicted, is undecided." in text


def test_a_configuration_that_was_given_up_is_told_once() -> None:
    export, curves = synthetic_export(trials=30)
    for row in export["slots"]:
        if row["configuration"] == "GNVR":
            fail(export, row)
    warnings = part(text_of(make_record(export, curves)), "> Warnings:", "## Hypothesis")
    assert warnings.count("GNVR") == 1
    assert "GNVR: tuning was given up, 30 trials failed for good (exception × 60)." in warnings


def test_every_warning_begins_with_a_capital() -> None:
    export, curves = synthetic_export(
        names=("AdamW", "GNVR"), finished_reruns=2, tuning_epochs=1, score_epoch="best", seeds=5
    )
    export["study"]["definition"]["configurations"][1]["trials"] = 20
    export["study"]["tuning_runs"] = 2
    export["study"]["notes"] = [{"time": 1.0, "event": "the code of study.model changed"}]
    text = text_of(make_record(export, curves))
    warnings = [line[4:] for line in part(text, "> Warnings:", "## Hypothesis").splitlines() if line.startswith("> - ")]
    assert len(warnings) >= 7
    assert not [warning for warning in warnings if not warning[0].isupper()]


def test_short_names_are_explained_where_they_are_used() -> None:
    text = text_of(synthetic_record())
    assert "In settings: LR: learning rate; WD: weight decay; λ: lambda." in part(text, "T1.", "T2.")
    used = set(re.findall(r"([A-Zα-ω′]+) [\d.]+", part(text, "| AdamW | 5 |", "T2.")))
    assert used == {"LR", "WD", "λ"}
    assert "g: Hedges' g" in part(text, "T2.", "T4.") and "MDE: the smallest" in part(text, "T2.", "T4.")


def test_a_legend_names_only_what_is_short() -> None:
    assert formatting.legend(["momentum", "clip", "k"]) == ""
    assert formatting.legend(["rho", "rho_prime", "lambda_"]) == "ρ: rho; ρ′: rho prime; λ: lambda"


@pytest.mark.parametrize("tuning_runs", [1, 3])
def test_how_often_the_rival_is_ahead_has_its_unit(tuning_runs: int) -> None:
    export, curves = synthetic_export(seeds=6, accuracies={"AdamW": [0.5] * 6, "GNVR": [0.6, 0.2, 0.7, 0.6, 0.7, 0.7]})
    export["study"]["tuning_runs"] = tuning_runs
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["tuning_run"] = row["slot"] % tuning_runs
    text = text_of(make_record(export, curves))
    assert f"it is ahead on {'5 of 6 seeds' if tuning_runs == 1 else '2 of 3 tuning runs'}." in text


def test_single_things_have_no_plural() -> None:
    text = text_of(synthetic_record(epochs=1, trials=1, seeds=3))
    assert "batches of 64; 1 epoch; learning-rate" in text
    assert "1 trial a configuration, 1 epoch each, 1 tuning run a configuration" in text
    assert "trained afresh on the training part for 1 epoch and tested after the last one, with 3 seeds" in text
    assert "Tuned for 1 epoch, rerun for 6." in text_of(synthetic_record(tuning_epochs=1))


@pytest.mark.parametrize("rounding", [0.0, 1e-17, -1e-17])
def test_a_difference_of_rounding_is_zero_without_a_sign(rounding: float) -> None:
    accuracies = {"AdamW": [0.5, 0.6, 0.7, 0.8], "GNVR": (np.array([0.5, 0.6, 0.7, 0.8]) + rounding).tolist()}
    text = text_of(synthetic_record(seeds=4, accuracies=accuracies))
    assert "identical on every seed: check that the setting takes effect; Δ = 0.00 points" in text
    for shown in (
        formatting.points(-1e-9),
        formatting.points(1e-9),
        formatting.percent(-1e-9),
        formatting.number(-0.0),
    ):
        assert shown.strip("%") in ("0.00", "0")
    assert (formatting.points(-0.00006), formatting.number(-1.5e-17)) == ("−0.01", "−1.50e-17")


def test_hedges_g_is_not_shown_for_two_pairs() -> None:
    text = text_of(synthetic_record(seeds=2, accuracies={"AdamW": [0.6, 0.7], "GNVR": [0.5, 0.5]}))
    row = next(line for line in part(text, "T2.", "T4.").splitlines() if line.startswith("| GNVR |"))
    assert row.split("|")[8].strip() == "–"


def test_the_number_of_pairs_is_said_once() -> None:
    text = text_of(synthetic_record(seeds=2, accuracies={"AdamW": [0.6, 0.7], "GNVR": [0.5, 0.5]}))
    line = next(line for line in text.splitlines() if line.startswith("> - GNVR against"))
    assert "no verdict: 2 paired seeds, 3 are needed; Δ = −15.00 points, 95% CI [" in line
    assert line.count("paired seed") == 1
    assert "; 3 paired seeds" in text_of(synthetic_record(seeds=3))


def test_a_difference_that_matters_may_have_been_missed() -> None:
    """Limits say so where the smallest detectable difference is above the margin, and nowhere else."""
    noise = np.array([-0.05, 0.01, 0.04, -0.02, 0.02])
    accuracies = {"AdamW": [0.5] * 5, "GNVR": (0.5 + noise).tolist(), "SAM": (0.5 + noise / 1000).tolist()}
    record = synthetic_record(names=("AdamW", "GNVR", "SAM"), seeds=5, accuracies=accuracies)
    mdes = {rival.name: rival.verdict.comparison.mde for rival in compute_numbers(record).rivals}
    assert mdes["SAM"] < record.study["definition"]["margin"] == 0.01 < mdes["GNVR"]
    told = "the smallest detectable one is above the margin of 1 point for GNVR.\n"
    assert told in part(text_of(record), "## Limits", "## Reproduce")
    assert "smallest detectable one" not in text_of(synthetic_record(names=("AdamW", "SAM"), accuracies=accuracies))


def test_what_a_seed_fixes_and_how_many_labels_were_changed() -> None:
    export, curves = synthetic_export()
    assert "the validation part is the same" not in text_of(make_record(export, curves))
    export["study"]["definition"]["data"]["split"] = "last"
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["changed_labels"] = 0
    text = text_of(make_record(export, curves))
    assert "are paired; here the validation part is the same for every seed. The test set" in text
    assert "- Label noise: none, no training label differs from the true one.\n" in text and "really differ" not in text


@pytest.mark.parametrize("name", ["1. SAM", "2) SAM", "- SAM", "+ SAM", "-5", "1.5 SAM", "GNVR 1.", "a|b_c *50%*"])
def test_any_name_stands_in_a_list_as_it_is(name: str) -> None:
    assert MarkdownIt().render(f"- {formatting.escape(name)} ahead") == f"<ul>\n<li>{name} ahead</li>\n</ul>\n"
