"""Whole numbers, choices and conditions in a report: tables, figures, CSV, LaTeX, warnings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.report import Results, make_record, write_report
from hpo.report.figure_plan import plan_figures
from hpo.report.sampler_words import sampler_words
from hpo.report.tuning_frames import importance_frame, scored_trials
from hpo.report.wording import setting
from hpo.search_space import choice, integers, linear_range, log_range, when
from hpo.space import as_json

SPACE = {
    "learning_rate": as_json(log_range(1e-4, 1e-1)), "batch_size": as_json(choice(32, 64, 128)),
    "nesterov": as_json(choice(True, False)), "kind": as_json(choice("a_b", "c")),
    "rank": as_json(integers(1, 64, log=True)), "only": as_json(when("kind", "c", linear_range(0, 1), otherwise=0.0)),
    "momentum": 0.9, "model.width": 256,
}  # fmt: skip


def export(trials: int = 60, **options: Any) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """GNVR tunes every kind; its score is the batch size's place, plus a little noise."""
    exported, curves = synthetic_export(trials=trials, seeds=4, **options)
    exported["study"]["definition"]["configurations"][1]["space"] = SPACE
    generator = np.random.default_rng(0)
    for row in exported["slots"]:
        if row["configuration"] == "GNVR" and row["setting"]:
            size, kind = int(generator.choice([32, 64, 128])), str(generator.choice(["a_b", "c"]))
            row["setting"] = {
                "learning_rate": float(10 ** generator.uniform(-4, -1)), "batch_size": size,
                "nesterov": bool(generator.integers(2)), "kind": kind, "rank": int(generator.integers(1, 65)),
                **({"only": float(generator.random())} if kind == "c" else {}),
            }  # fmt: skip
            if row["phase"] == "tune":
                row["value"] = size / 200 + float(generator.random()) / 100
    return exported, curves


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(make_record(*export()), folder / "s", "s", ["hpo run s"]).parent


def test_the_csv_has_every_value_with_its_type(written: Path) -> None:
    table = pd.read_csv(written / "trials.csv", dtype=str, keep_default_na=False)
    rows = [row for row in export()[0]["slots"] if row["phase"] == "tune" and row["configuration"] == "GNVR"]
    shown = table[table["configuration"] == "GNVR"]
    for name, elsewhere in {
        "model.width": 256,
        "batch_size": "",
        "nesterov": "",
        "rank": "",
        "kind": "",
    }.items():
        assert shown[f"setting/{name}"].tolist() == [str(row["setting"].get(name, elsewhere)) for row in rows]
    assert shown["setting/only"].astype(float).tolist() == [row["setting"].get("only", 0.0) for row in rows]
    assert set(table.loc[table["configuration"] == "AdamW", "setting/batch_size"]) == {""}


def test_figure_7_has_words_beside_a_range_in_its_caption_only() -> None:
    exported, curves = export()
    exported["study"]["definition"]["configurations"][0]["space"] |= {"rank": as_json(choice("full", 8))}
    for number, row in enumerate(exported["slots"]):
        if row["configuration"] == "AdamW" and row["setting"]:
            row["setting"] = row["setting"] | {"rank": "full" if number % 2 else 8}
    record = make_record(exported, curves)
    [figure] = [each for each in plan_figures(record, compute_numbers(record)) if each.slug == "slices"]
    assert figure.chart is not None
    assert "Not shown, since no numbers: rank full of AdamW." in figure.caption
    traces = figure.chart.draw_plotly()["data"]
    [ranks] = [each for each in traces if "AdamW" in each.get("hovertemplate", "") and "rank" in each["hovertemplate"]]
    assert set(ranks["x"]) == {8} and len(ranks["x"]) == 30


def test_numbers_of_settings_have_the_type_of_numbers() -> None:
    table = Results(make_record(*export())).trials
    types = {"learning_rate": "float64", "only": "float64", "model.width": "Int64", "batch_size": "Int64"}
    assert {name: str(table[f"setting/{name}"].dtype) for name in types} == types
    assert all(table[f"setting/{name}"].dtype == object for name in ("nesterov", "kind"))


def test_the_pages_tell_every_kind(written: Path) -> None:
    readme = (written / "README.md").read_text(encoding="utf-8")
    for words in (
        "32, 64 or 128", "yes or no", "a_b or c", "1 to 64, integer, log", "0 to 1 where kind is c, else 0",
        "which batch size and model width the configurations have instead", "256, fixed",
    ):  # fmt: skip
        assert words in readme.replace("\\", ""), words
    assert "batch size is at the high end of its range" in readme and "kind is at" not in readme
    results = json.loads((written / "results.json").read_text(encoding="utf-8"))
    best = results["configurations"][1]["tuning"]["best"][0]["setting"]
    assert best["batch_size"] == 128 and isinstance(best["nesterov"], bool) and isinstance(best["rank"], int)
    assert r"\begin{tabular}" in (written / "results.tex").read_text(encoding="utf-8")


def test_a_slice_of_choices_has_a_place_for_each() -> None:
    record = make_record(*export())
    [figure] = [each for each in plan_figures(record, compute_numbers(record)) if each.slug == "slices"]
    drawing = figure.chart.draw_plotly() if figure.chart else {}
    axes = {axis["title"]["text"]: axis for key, axis in drawing["layout"].items() if key.startswith("xaxis")}
    assert axes["batch size"]["ticktext"] == ["32", "64", "128"] and axes["kind"]["ticktext"] == ["a_b", "c"]
    assert axes["nesterov"]["ticktext"] == ["yes", "no"] and "ticktext" not in axes["rank"]
    assert axes["rank"]["type"] == "log" and "only" in axes
    traces = [trace for trace in drawing["data"] if "batch size" in trace.get("hovertemplate", "")]
    [trace] = traces
    for place, (_, words) in zip(trace["x"], trace["customdata"], strict=True):
        assert ["32", "64", "128"][round(place)] == words and abs(place - round(place)) <= 0.25


def test_importances_rank_choices_and_leave_conditional_hyperparameters_out() -> None:
    record = make_record(*export())
    frame = importance_frame(record, scored_trials(record))
    shares = frame[frame["configuration"] == "GNVR"].set_index("hyperparameter")["importance"]
    assert set(shares.index) == {"learning rate", "batch size", "nesterov", "kind", "rank"}
    assert shares.idxmax() == "batch size" and shares.sum() == pytest.approx(1)


def test_positions_of_choices_and_whole_numbers() -> None:
    sizes = choice(128, 32, 64)
    assert [sizes.position(value) for value in (32, 64, 128)] == [0, 0.5, 1]
    assert not choice(0.1, 0.2).ordered and not choice("a", "b", "c").ordered and not choice(True, False).ordered


def test_a_setting_in_words() -> None:
    values = {"learning_rate": 0.001, "batch_size": 1024, "nesterov": False}
    assert (
        setting({**values, "kind": "a", "norm": None, "model.width": 8})
        == "LR 1.00e-3, batch size 1,024, nesterov no, kind a, norm none, model width 8"
    )


SAMPLERS: list[tuple[Any, int, str]] = [
    ("tpe", 40, "Optuna's TPE sampler in batches"),
    ("tpe", 8, "learns only after 10"),
    ("random", 40, "random search"),
    ("gp", 40, "Gaussian-process"),
    ("qmc", 40, "Sobol"),
    ("cmaes", 40, "CMA-ES"),
    ({"grid": {"learning_rate": [0.1, 1]}}, 40, "learning rate 0.1, 1"),
    ({"kind": "mine"}, 40, "own sampler (mine)"),
]


@pytest.mark.parametrize(("sampler", "trials", "words"), SAMPLERS)
def test_the_methodology_says_which_sampler(sampler: Any, trials: int, words: str) -> None:
    entries = [{"name": "A_B", "first": [{"x": 1.0}]}, {"name": "C"}]
    text = sampler_words({"sampler": sampler, "configurations": entries}, trials)
    assert words in text and "A_B 1" in text.replace("\\", "") and "C 0" not in text
