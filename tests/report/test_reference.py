"""The verdicts of the kept reports follow from their CSV files by scipy alone, without any of hpo's statistics.

From results.json come only the study's definition (what is compared, margin, direction) and what is checked.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import load, old
from scipy import stats
from synthetic_record import synthetic_export, synthetic_record

from hpo.analysis.record import Record, make_record
from hpo.report import write_report, writer
from tests.report.moments import diverged, record_of

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"
ALPHA = 0.05
Verdicts = dict[tuple[str, str], dict[str, Any]]


def recomputed(folder: Path) -> Verdicts:
    """(configuration, what it is compared with) → label, mean and interval of the differences, p, and Holm's p."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    definition, several = results["study"]["definition"], results["study"]["tuning_runs"] > 1
    planned, unusable = comparisons(definition), failed_tuning(folder)
    values = metric_by_seed(folder, results["metric"], {name for names in planned for name in names})
    pairs = {names: differences(*(values[name] for name in names), several) for names in planned}
    p_values: dict[tuple[str, str], float] = {}
    for names, paired in pairs.items():
        undecided = len(paired) < 3 or paired.isna().any() or unusable.intersection(names)
        p_values[names] = (
            math.nan if undecided else 1.0 if equal(paired) else float(stats.ttest_1samp(paired, 0).pvalue)
        )
    adjusted = holm(p_values)
    return {
        names: {
            "label": label(pairs[names], adjusted[names], len(planned), definition, several),
            "mean": float(pairs[names].mean()),
            "interval": interval(paired) if p_values[names] < 1 else None,
            "p_t": p_values[names],
            "p_holm": adjusted[names],
        }
        for names, paired in pairs.items()
    }


def comparisons(definition: dict[str, Any]) -> list[tuple[str, str]]:
    entries, baseline = definition["configurations"], definition["baseline"]
    with_baseline = [(entry["name"], baseline) for entry in entries if entry["name"] != baseline]
    return [*with_baseline, *((entry["name"], other) for entry in entries for other in entry.get("against", {}))]


def read_csv(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    table = pd.read_csv(path if path.exists() else f"{path}.gz")
    table["configuration"] = table["configuration"].astype(str).str.removeprefix("'")
    return table


def metric_by_seed(folder: Path, metric: dict[str, Any], names: set[str]) -> dict[str, pd.DataFrame]:
    """Configuration → its reruns by seed, with columns tuning_run and metric; diverged ones are untrained networks."""
    table = read_csv(folder, "reruns")
    table = table[(table["state"] == "done") & ~table["superseded"]].set_index("seed")
    measured = table[f"result/{metric['name']}"]
    lost = table["cause"] == "diverged"
    table["metric"] = table["value"] if (table["value"] == measured)[~lost].all() else measured
    return {name: table.loc[table["configuration"] == name, ["tuning_run", "metric"]] for name in names}


def failed_tuning(folder: Path) -> set[str]:
    trials = read_csv(folder, "trials")
    return set(trials.loc[trials["state"] == "failed", "configuration"])


def differences(one: pd.DataFrame, other: pd.DataFrame, several: bool) -> "pd.Series[float]":
    """By seed, or with several tuning runs between the means of each."""
    shared = one.index.intersection(other.index)
    paired = one.loc[shared, "metric"] - other.loc[shared, "metric"]
    if several:
        paired = paired.groupby(one.loc[shared, "tuning_run"]).agg(lambda values: values.mean(skipna=False))
    return paired.mask(paired.abs() <= 2e-7, 0.0)  # below are rounding errors of float32


def equal(paired: "pd.Series[float]") -> bool:
    return bool(np.ptp(paired) <= 2e-7)


def interval(paired: "pd.Series[float]") -> tuple[float, float]:
    return stats.t.interval(0.95, len(paired) - 1, paired.mean(), paired.sem())


def holm(p_values: dict[Any, float]) -> dict[Any, float]:
    """The smallest p times m, the next one times m − 1, …, each at least the one before it."""
    adjusted, largest, left = {}, 0.0, len(p_values)
    for name, p in sorted(p_values.items(), key=lambda item: 1.0 if math.isnan(item[1]) else item[1]):
        largest, left = max(largest, min(1.0, left * (1.0 if math.isnan(p) else p))), left - 1
        adjusted[name] = math.nan if math.isnan(p) else largest
    return adjusted


def label(paired: "pd.Series[float]", p_holm: float, family: int, definition: dict[str, Any], several: bool) -> str:
    if math.isnan(p_holm):
        return "no verdict"
    if equal(paired):
        return "identical"
    if p_holm < ALPHA:
        word = "better" if (paired.mean() > 0) == (definition["direction"] == "maximize") else "worse"
        return word if several and len(paired) >= 5 else f"tentatively {word}"
    one_sided = [  # two one-sided tests: is the mean above −margin, and below margin?
        stats.ttest_1samp(paired, -definition["margin"], alternative="greater").pvalue,
        stats.ttest_1samp(paired, definition["margin"], alternative="less").pvalue,
    ]
    word = "equivalent" if max(one_sided) < ALPHA / family else "no detectable difference"
    return word if several else f"tentatively {word}"


def check(folder: Path) -> int:
    """Compares every verdict with the recomputed one, in results.json and in README.md; returns how many there are."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    stored = {(rival["name"], rival["against"]): rival["verdict"] for rival in results["rivals"] + results["planned"]}
    computed = recomputed(folder)
    assert computed.keys() == stored.keys()
    for names, verdict in stored.items():
        own, paired = computed[names], verdict["comparison"]
        assert own["label"] == verdict["label"], names
        if verdict["label"] == "no verdict":
            continue
        assert own["mean"] == pytest.approx(paired["mean"], abs=1e-6), names
        if not paired["identical"]:
            assert own["interval"] == pytest.approx(tuple(paired["interval"].values()), abs=1e-6), names
        assert own["p_t"] == pytest.approx(paired["p_t"], rel=1e-4, abs=1e-9), names
        assert own["p_holm"] == pytest.approx(verdict["p_holm"], rel=1e-4, abs=1e-9), names
    rows = (folder / "README.md").read_text(encoding="utf-8").partition("\n## ")[0].splitlines()
    cells = [row.split(" | ") for row in rows if row.startswith("| ")]
    shown = [verdict.replace("*", "") for names, verdict, *_ in cells if " against " in names]
    for text, verdict in zip(shown, stored.values(), strict=True):
        assert verdict["rule"] == 2 or text.startswith(verdict["label"]), text
    return len(stored)


def five_tuning_runs() -> Record:
    """Three rivals, one of them compared with another: better, equivalent, and nothing."""
    export, curves = synthetic_export(names=("AdamW", "GNVR", "SAM", "ROGC"), seeds=20, tuning_runs=5)
    export["study"]["definition"]["configurations"][2]["against"] = {"GNVR": "worse"}
    shifts = {"AdamW": 0.0, "GNVR": 0.05, "SAM": 0.001, "ROGC": 0.0}
    generator = np.random.default_rng(1)
    noise = {name: generator.normal(0, 0.002 if name != "ROGC" else 0.03, 20) for name in shifts}
    for row in export["slots"]:
        if row["phase"] == "rerun":
            name, at = row["configuration"], row["slot"]
            accuracy = round(0.5 + shifts[name] + noise[name][at] + 0.02 * (at % 7), 6)
            row["value"] = row["result"]["test_accuracy"] = accuracy
    return make_record(export, curves)


MADE: dict[str, Callable[[], Record]] = {
    "five tuning runs": five_tuning_runs,
    "ten seeds": lambda: synthetic_record(seeds=10),
    "three tuning runs": lambda: synthetic_record(seeds=9, tuning_runs=3),
    "a diverged rerun": lambda: diverged(lambda row: row["seed"] == 1002 and row["configuration"] == "GNVR"),
    "equal": lambda: synthetic_record(accuracies={key: [0.5, 0.6, 0.7, 0.5, 0.6] for key in ("AdamW", "GNVR")}),
    "lower is better": lambda: record_of("custom metric, one seed diverged"),
    "failed": lambda: record_of("one configuration failed"),
    "superseded": lambda: record_of("two rounds of reruns"),
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_draw_pngs", lambda *_: None)


def made(name: str, folder: Path) -> Path:
    return write_report(MADE[name](), folder / "made", "made", ["hpo run made"]).parent


@pytest.mark.parametrize("name", MADE)
def test_made_reports_follow_from_their_csv_files(name: str, tmp_path: Path) -> None:
    assert check(made(name, tmp_path)) > 0


def test_every_kind_of_verdict_is_recomputed(tmp_path: Path) -> None:
    labels = {name: verdict["label"] for name, verdict in recomputed(made("five tuning runs", tmp_path)).items()}
    assert labels == {
        ("GNVR", "AdamW"): "better", ("SAM", "AdamW"): "equivalent", ("ROGC", "AdamW"): "no detectable difference",
        ("SAM", "GNVR"): "worse",
    }  # fmt: skip


@pytest.mark.parametrize("file", ["reruns.csv", "results.json", "README.md"])
def test_a_report_that_does_not_follow_from_its_csv_files_is_noticed(file: str, tmp_path: Path) -> None:
    folder = made("five tuning runs", tmp_path)
    text = (folder / file).read_text(encoding="utf-8")
    if file == "reruns.csv":
        table = pd.read_csv(folder / file)
        table.loc[table["configuration"] == "GNVR", ["value", "result/test_accuracy"]] -= 0.05
        text = table.to_csv(index=False)
    text = text.replace('"label": "equivalent"', '"label": "better"').replace("| equivalent within", "| better within")
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        check(folder)


@pytest.mark.parametrize("name", load())
def test_kept_reports_follow_from_their_csv_files(name: str) -> None:
    assert check(REFERENCE / name) > 0
    for picture in (REFERENCE / name / "figures").glob("*.png"):
        assert f"(figures/{picture.name})" in (REFERENCE / name / "README.md").read_text(encoding="utf-8")


def test_the_list_of_old_reports_is_right_and_shrinks() -> None:
    """Code that wrote them did not name tuning runs; a new report of a study takes it off the list."""
    found = {path.parent.name: json.loads(path.read_text()) for path in REFERENCE.glob("*/results.json")}
    earlier = {name for name, each in found.items() if "study" in each and "tuning_runs" not in each["study"]}
    assert set(old()) == earlier
