"""The table of diagnostics, the gradient evaluations of a step, and their totals, recomputed from the reruns."""

import numpy as np
import pytest
from report_text import text_of
from scipy import stats
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.report.effort_tables import diagnostics

NAMES = ("AdamW", "SAM")


def record(with_diagnostics: bool = True, tuning_runs: int = 1) -> tuple[Record, dict[str, list[float]]]:
    export, curves = synthetic_export(names=NAMES, seeds=6, tuning_runs=tuning_runs)
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    generator = np.random.default_rng(0)
    for row in export["slots"]:
        if with_diagnostics and row["phase"] == "rerun":
            value = 0.5 - 0.2 * NAMES.index(row["configuration"]) + 0.1 * generator.random()
            row["result"] |= {"sharpness": value, "calibration_error": value / 10}
            values[row["configuration"]].append(value)
    if with_diagnostics:
        described = [{"kind": "Sharpness", "rho": 0.1, "samples": 200}, {"kind": "Calibration", "bins": 15}]
        export["study"]["definition"]["diagnostics"] = described
    return make_record(export, curves), values


def test_means_and_paired_differences_are_those_of_the_reruns() -> None:
    chosen, values = record()
    numbers = compute_numbers(chosen)
    sides = {name: np.array(each) for name, each in values.items()}
    paired = numbers.rivals[0].diagnostics["sharpness"]
    assert paired.mean == pytest.approx(float((sides["SAM"] - sides["AdamW"]).mean()))
    interval = stats.ttest_rel(sides["SAM"], sides["AdamW"]).confidence_interval(0.95)
    assert tuple(paired.interval) == pytest.approx(tuple(interval))
    table = diagnostics(numbers)
    assert [row[:3] for row in table.rows] == [
        [words, name, "6"] for words in ("sharpness", "calibration error") for name in NAMES
    ]
    assert table.rows[1][3] == f"{sides['SAM'].mean():.3f} ± {sides['SAM'].std(ddof=1):.3f}"
    assert table.rows[3][3] == f"{10 * sides['SAM'].mean():.2f}% ± {10 * sides['SAM'].std(ddof=1):.2f}%"


def test_with_several_tuning_runs_their_means_are_paired() -> None:
    chosen, values = record(tuning_runs=3)
    paired = compute_numbers(chosen).rivals[0].diagnostics["sharpness"]
    differences = np.array(values["SAM"]) - np.array(values["AdamW"])
    assert paired.n == 3 and paired.mean == pytest.approx(float(differences.mean()))


def test_a_report_has_the_table_and_its_settings_only_where_the_study_asks_for_them() -> None:
    text = text_of(record()[0])
    assert "length 0.1, on 200 training samples" in text and "15 bins" in text
    assert "T10." not in text_of(record(with_diagnostics=False)[0])


def test_gradient_evaluations_are_counted_over_all_runs() -> None:
    chosen, _ = record()
    numbers = compute_numbers(chosen)
    done = chosen.slots[chosen.slots.state == "done"]
    expected = sum(
        result["epochs"] * 40 * (1 if name == "AdamW" else 2)
        for name, result in zip(done.configuration, done.result, strict=True)
    )
    assert numbers.compute.gradient_evaluations == expected
    assert [entry.reruns.gradient_evaluations.mean for entry in numbers.configurations] == [1, 2]
