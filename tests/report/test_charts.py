"""What figures 3 to 8 are drawn from, by hand, and that the drawings show it; plotly takes every drawing."""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from synthetic_record import diverge, synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, Metric
from hpo.report import Record, make_record, tuning_frames
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.figures import matplotlib_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.forest_grid import ForestGrid
from hpo.report.figures.forest_plot import Forest, row_axis
from hpo.report.figures.history import mean_line
from hpo.report.figures.importance import Importances
from hpo.report.figures.slope_plot import Slopes
from hpo.report.figures.style import Style, assign_styles
from hpo.search_space import log_range

LOSS = Metric("test_loss", "minimize", share=False)
NAMES = ["AdamW", "GNVR", "ROGC"]
STYLES = assign_styles(NAMES, "AdamW")


def figures_of(record: Record) -> dict[str, Figure]:
    return {figure.slug: figure for figure in plan_figures(record, compute_numbers(record))}


def draw(chart: Chart | None) -> dict[str, Any]:
    """The drawing, as the page holds it."""
    assert chart is not None
    drawing: dict[str, Any] = json.loads(json.dumps(chart.draw_plotly(), allow_nan=False))
    return drawing


def named(drawing: dict[str, Any], name: str, mode: str) -> list[dict[str, Any]]:
    return [trace for trace in drawing["data"] if trace.get("name") == name and trace.get("mode") == mode]


def slopes(pairs: pd.DataFrame, metric: Metric, baseline: str = "AdamW", styles: dict[str, Style] = STYLES) -> Slopes:
    return Slopes(frame=pairs, metric=metric, baseline=baseline, unit="seed", styles=styles)


def forest(
    frame: pd.DataFrame, metric: Metric, margin: float, styles: dict[str, Style] = STYLES, baseline: str = "AdamW"
) -> Forest:
    return Forest(frame=frame, metric=metric, baseline=baseline, margin=margin, styles=styles)


def pairs() -> pd.DataFrame:
    rows = [("GNVR", 0, 0.4, 0.3), ("GNVR", 1, 0.5, 0.6), ("ROGC", 0, 0.4, 0.4)]
    return pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"])


def test_slopes_join_the_two_values_of_a_seed_and_show_which_is_ahead() -> None:
    drawing = draw(slopes(pairs(), ACCURACY))
    lines = [trace for trace in drawing["data"] if trace.get("hoverinfo") == "skip"]
    first = [trace for trace in lines if trace["xaxis"] == "x"]
    assert [trace["y"] for trace in first] == [[0.5, 0.6, None], [0.4, 0.3, None]]
    assert first[0]["line"]["color"] == "rgba(0,114,178,0.8)" and first[1]["line"]["color"] == "rgba(118,118,118,0.8)"
    points = next(trace for trace in drawing["data"] if trace["mode"] == "markers" and trace["x"] == [1, 1])
    assert points["customdata"] == [[0, 0.4, 0.3, "−10.00 points"], [1, 0.5, 0.6, "+10.00 points"]]
    sides = [trace["marker"]["color"] for trace in drawing["data"] if trace["mode"] == "markers"]
    assert sides == [STYLES[name].colour for name in ("AdamW", "GNVR", "AdamW", "ROGC")]
    means = [trace["y"] for trace in drawing["data"] if trace.get("hovertemplate", "").startswith("mean")]
    assert means == [pytest.approx([0.45, 0.45]), [0.4, 0.4]]
    assert drawing["layout"]["xaxis2"]["title"]["text"] == "AdamW → ROGC"


def test_slopes_of_a_loss_are_ahead_where_they_fall() -> None:
    chart = slopes(pairs(), LOSS)
    first, second = draw(chart)["data"][:2]
    assert first["y"] == [0.4, 0.3, None] and second["y"] == [0.5, 0.6, None]
    assert "tickformat" not in draw(chart)["layout"]["yaxis"]


def test_equal_values_are_not_ahead_where_rounding_makes_them_differ() -> None:
    """A mean of 0.1, 0.2 and 0.3 is not exactly 0.2, and T2 counts the pair as tied."""
    rows = [("GNVR", 1, 0.2, float(np.mean([0.1, 0.2, 0.3]))), ("GNVR", 2, 0.5, 0.6)]
    tied = pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"])
    assert tied["rival"][0] > tied["baseline"][0]
    for metric, ahead in ((ACCURACY, [0.5, 0.6, None]), (LOSS, [])):
        assert draw(slopes(tied, metric))["data"][0]["y"] == ahead


def test_the_forest_shows_points_of_fractions_and_plain_numbers_of_losses() -> None:
    rows = [("GNVR", -0.01, 0.02, 0.01, 5, False), ("ROGC", -0.3, -0.1, -0.2, 4, True)]
    frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs", "found"])
    of_shares = forest(frame, ACCURACY, 0.01)
    drawing = draw(of_shares)
    assert [trace["x"] for trace in drawing["data"]] == [[1.0], [-20.0]]
    assert drawing["data"][0]["error_x"]["array"] == [1.0] and drawing["data"][0]["error_x"]["arrayminus"] == [2.0]
    assert "GNVR: +1.00 [−1.00, 2.00] points<br>5 pairs" in drawing["data"][0]["hovertemplate"]
    assert (drawing["layout"]["shapes"][0]["x0"], drawing["layout"]["shapes"][0]["x1"]) == (-1.0, 1.0)
    assert "±1 point." in of_shares.caption and "for each comparison on its own" in of_shares.caption
    assert drawing["layout"]["yaxis"]["ticktext"] == ["GNVR", "ROGC"]
    assert [trace["marker"]["symbol"] for trace in drawing["data"]] == ["circle-open", "circle"]
    of_losses = forest(frame[:1], LOSS, 0.5)
    assert draw(of_losses)["data"][0]["x"] == [0.01]
    words = [word in of_losses.caption for word in ("±0.5.", "lower is better", "on its own")]
    assert words == [True, True, False]
    assert frame["low"].tolist() == [-0.01, -0.3]


def test_a_long_name_takes_two_lines_of_a_row_and_only_a_longer_one_is_cut() -> None:
    names = ["Sample clipping over Adam", "Sample clipping over Adam against Adam", "a" * 30 + "b" * 30]
    lines = [text.split("<br>") for text in row_axis(names)["ticktext"]]
    assert lines[0] == ["Sample clipping", "over Adam"]
    assert lines[1] == [*lines[0], "against Adam"]
    assert len(lines[2]) == 2 and lines[2][0][0] == "a" and lines[2][1][-1] == "b"


def test_the_forests_of_several_studies_have_the_same_rows() -> None:
    rows = [("GNVR", -0.01, 0.02, 0.01, 5, False), ("ROGC", -0.3, -0.1, -0.2, 4, True)]
    frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs", "found"])
    styles = assign_styles([*NAMES, "SAM"], "AdamW")
    other = pd.concat([frame[:1], frame[:1].assign(configuration="SAM")])
    panels = {
        "noisy": forest(frame, ACCURACY, 0.01, styles),
        "clean": forest(other, LOSS, 0.5, styles, "ROGC"),
    }
    chart = ForestGrid(panels=panels, baselines={"noisy": "AdamW", "clean": "ROGC"}, styles=styles)
    drawing = draw(chart)
    marks = {(trace["xaxis"], trace["name"]): (trace["x"], trace["y"]) for trace in drawing["data"]}
    assert marks == {
        ("x", "AdamW"): ([0], [0]), ("x", "GNVR"): ([1.0], [1]), ("x", "ROGC"): ([-20.0], [2]),
        ("x2", "GNVR"): ([0.01], [1]), ("x2", "ROGC"): ([0], [2]), ("x2", "SAM"): ([0.01], [3]),
    }  # fmt: skip
    assert drawing["layout"]["yaxis"]["ticktext"] == drawing["layout"]["yaxis2"]["ticktext"] == [*NAMES, "SAM"]
    assert drawing["layout"]["xaxis"]["title"]["text"] == "noisy: Δ in points"
    assert drawing["layout"]["xaxis2"]["title"]["text"] == "clean: Δ" and "matches" not in drawing["layout"]["xaxis2"]
    bands = [(shape["xref"], shape["x1"]) for shape in drawing["layout"]["shapes"] if shape["type"] == "rect"]
    assert bands == [("x", 1.0), ("x2", 0.5)]


def test_studies_with_little_in_common_have_separate_rows() -> None:
    def panel(*names: str) -> Forest:
        rows = [(name, -0.01, 0.02, 0.01, 5, True) for name in names]
        frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs", "found"])
        return forest(frame, ACCURACY, 0.01, styles)

    styles = assign_styles(["AdamW", "A", "B", "C", "SGD", "D", "E"], "")
    panels = {"one": panel("A", "B", "C"), "other": panel("AdamW", "D", "E"), "third": panel("B", "E")}  # 2 of 4
    chart = ForestGrid(panels=panels, baselines={"one": "AdamW", "other": "SGD", "third": "A"}, styles=styles)
    blocks = [(block.studies, block.rows) for block in chart.blocks]
    assert blocks == [(["one", "third"], ["AdamW", "A", "B", "C", "E"]), (["other"], ["AdamW", "SGD", "D", "E"])]
    layout = draw(chart)["layout"]
    titles = [layout[f"xaxis{end}"]["title"]["text"].partition(":")[0] for end in ("", "2", "3")]
    assert titles == ["one", "third", "other"]
    assert layout["yaxis2"]["ticktext"] == blocks[0][1] and layout["yaxis3"]["ticktext"] == blocks[1][1]
    assert [line.studies for line in chart.blocks[0].split(1)] == [["one"], ["third"]]
    for order in (("large", "small"), ("small", "large")):
        sizes = {"large": panel("A", "B", "C", "D", "E"), "small": panel("A")}
        apart = ForestGrid(
            panels={name: sizes[name] for name in order}, baselines=dict.fromkeys(order, "AdamW"), styles=styles
        )
        assert [block.studies for block in apart.blocks] == [[name] for name in order]


@pytest.mark.parametrize(("rivals", "metric"), [(1, ACCURACY), (2, LOSS), (11, ACCURACY)])
def test_any_number_of_rivals_can_be_drawn(rivals: int, metric: Metric, tmp_path: Path) -> None:
    names = ["base", *(f"rival number {number} with a long name" for number in range(rivals))]
    styles = assign_styles(names, "base")
    many = pd.DataFrame(
        [(name, seed, 0.5, 0.5 + 0.01 * seed) for name in names[1:] for seed in range(25)],
        columns=["configuration", "unit", "baseline", "rival"],
    )
    rows = [(name, -1e-3, 1e-3, 0.0, 25, False) for name in names[1:]]
    frame = pd.DataFrame(rows, columns=["configuration", "low", "high", "middle", "pairs", "found"])
    charts = (
        slopes(many, metric, "base", styles),
        (panel := forest(frame, metric, 0.01, styles, "base")),
        ForestGrid(panels=dict.fromkeys("abcd", panel), baselines=dict.fromkeys("abcd", "base"), styles=styles),
    )
    for chart in charts:
        chart.draw_png(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_thirty_configurations_can_be_told_apart_and_nothing_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pictures: the legend has a different key for each, and no label leaves the picture or covers another one."""
    names = ["AdamW", *(f"Configuration number {number}" for number in range(1, 30))]
    styles = assign_styles(names, "AdamW")
    assert len(set(styles.values())) == len(names)
    assert len({(style.colour, style.dash) for style in styles.values()}) == len(names)
    drawn: list[Any] = []
    monkeypatch.setattr(matplotlib_layout, "save", lambda figure, _: drawn.append(figure))
    figures = figures_of(synthetic_record(names=names, trials=2, epochs=4, seeds=2))
    shares = pd.DataFrame({"configuration": names, "hyperparameter": "learning rate", "importance": 0.5, "trials": 50})
    charts = {slug: figure.chart for slug, figure in figures.items() if figure.chart is not None}
    rows = [(name, seed, 0.5, 0.6) for name in names[1:4] for seed in range(2)]
    few = pd.DataFrame(rows, columns=["configuration", "unit", "baseline", "rival"])
    charts["paired-slopes"] = slopes(few, ACCURACY, styles=styles)  # 29 panels would take long
    charts["importances"] = Importances(frame=shares, styles=styles)
    for chart in charts.values():
        chart.draw_png(tmp_path / "not written")
    assert len(charts) == 8
    for slug, figure in zip(charts, drawn, strict=True):
        figure.canvas.draw()
        legends, width = [legend.get_window_extent() for legend in figure.legends], figure.bbox.width
        assert all(legend.y0 >= 0 and legend.y1 <= figure.bbox.height for legend in legends), slug
        labels = [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_visible()]
        assert all(label.x0 >= 0 and label.x1 <= width for label in labels), slug
        assert not any(one.overlaps(other) for one, other in itertools.combinations(labels, 2)), slug
    bars = drawn[-1].axes[0].containers
    assert len({(bar[0].get_facecolor(), bar[0].get_hatch()) for bar in bars}) == len(names)


def test_clean_and_noisy_labels_have_a_panel_each() -> None:
    figure = figures_of(synthetic_record())["labels-fitted"]
    drawing = draw(figure.chart)
    assert {trace["yaxis"] for trace in drawing["data"]} == {"y", "y2"}
    assert drawing["layout"]["yaxis"]["title"]["text"] == "clean labels fitted"
    assert drawing["layout"]["yaxis2"]["title"]["text"] == "noisy labels fitted"
    keyed = [trace["name"] for trace in drawing["data"] if trace.get("showlegend")]
    assert keyed == ["AdamW", "GNVR"]
    export, curves = synthetic_export()
    old = [metric != "clean_labels_fitted" for metric in curves["metric"]]
    kept = {name: [value for value, keep in zip(values, old, strict=True) if keep] for name, values in curves.items()}
    alone = figures_of(make_record(export, kept))["labels-fitted"]
    assert "unchanged" not in alone.caption and len(draw(alone.chart)["layout"]["meta"]["wide"]) == 4


def scores_of(export: dict[str, Any], name: str, values: list[float]) -> None:
    rows = [row for row in export["slots"] if row["configuration"] == name and row["phase"] == "tune"]
    for row, value in zip(rows, values, strict=True):
        row["value"] = value


def test_the_history_of_a_search_that_learns_is_the_best_so_far_of_one_run() -> None:
    export, curves = synthetic_export(trials=11)
    scores_of(export, "GNVR", [0.1, 0.3, 0.2, *[0.25] * 7, 0.9])
    figure = figures_of(make_record(export, curves))["tuning-history"]
    [line] = named(draw(figure.chart), "GNVR", "lines")
    assert line["y"] == [0.1, *[0.3] * 9, 0.9] and line["x"] == list(range(1, 12))
    assert line["line"]["shape"] == "hv" and "best after" in line["hovertemplate"]
    assert "best so far of one tuning run" in figure.caption


def test_the_history_of_a_random_search_is_the_expected_best_and_its_interval() -> None:
    export, curves = synthetic_export(trials=3, direction="minimize")
    scores_of(export, "GNVR", [3.0, 1.0, 2.0])
    figure = figures_of(make_record(export, curves))["tuning-history"]
    [line] = named(draw(figure.chart), "GNVR", "lines")
    assert line["y"] == pytest.approx([2.0, (5 * 1 + 3 * 2 + 3) / 9, (19 * 1 + 7 * 2 + 3) / 27], rel=1e-5)
    groups = [trace for trace in draw(figure.chart)["data"] if trace["legendgroup"] == "GNVR"]
    [band] = [trace for trace in groups if trace.get("fill")]
    assert (band["x"], band["y"]) == ([1, 2, 3, 3, 2, 1], [3, 3, 3, 1, 1, 1])
    assert "expected best" in figure.caption
    assert "lower is better" in figure.caption


def test_the_expected_best_counts_trials_without_a_score_and_leaves_out_settings_that_were_given() -> None:
    export, curves = synthetic_export(trials=14, direction="minimize", sampler="random")
    export["study"]["definition"]["configurations"][1]["first"] = [{"learning_rate": 0.01}] * 11
    scores_of(export, "GNVR", [*[0.0] * 11, 3.0, 1.0, 2.0])
    rows = [row for row in export["slots"] if row["configuration"] == "GNVR" and row["phase"] == "tune"]
    diverge(rows[-1], curves, bounded=False)
    figure = figures_of(make_record(export, curves))["tuning-history"]
    [line] = named(draw(figure.chart), "GNVR", "lines")
    assert line["x"] == [1, 2, 3] and line["y"][0] == pytest.approx((3 + 1 + 3) / 3, rel=1e-5)


def test_a_sequence_that_is_not_random_has_no_expected_best() -> None:
    record = make_record(*synthetic_export(trials=4, sampler="qmc"))
    assert "best so far" in figures_of(record)["tuning-history"].caption


def test_pruned_trials_have_no_point_and_leave_no_random_search() -> None:
    export, curves = synthetic_export(trials=3, pruner={"kind": "Halving"})
    scores_of(export, "GNVR", [0.2, 0.9, 0.3])
    next(row for row in export["slots"] if row["value"] == 0.9)["cause"] = "pruned"
    figure = figures_of(make_record(export, curves))["tuning-history"]
    [line] = named(draw(figure.chart), "GNVR", "lines")
    assert (line["x"], line["y"]) == ([1, 3], [0.2, 0.3]) and "best so far" in figure.caption


def test_trials_that_diverged_have_no_point_and_keep_their_number() -> None:
    export, curves = synthetic_export(trials=12)
    diverge(export["slots"][1], curves)
    drawing = draw(figures_of(make_record(export, curves))["tuning-history"].chart)
    points = next(trace for trace in drawing["data"] if trace["mode"] == "markers")
    assert points["x"] == [1, *range(3, 13)]
    assert points["customdata"][0].startswith("LR ")


def test_every_tuned_hyperparameter_has_a_panel_over_its_whole_range() -> None:
    drawing = draw(figures_of(synthetic_record(names=NAMES))["slices"].chart)
    titles = [drawing["layout"][f"xaxis{end}"]["title"]["text"] for end in ("", "2", "3")]
    assert titles == ["learning rate", "weight decay", "lambda"]
    assert drawing["layout"]["xaxis"]["type"] == "log" and drawing["layout"]["xaxis"]["range"] == [-4.1, -1.9]
    assert {trace["legendgroup"] for trace in drawing["data"] if trace["xaxis"] == "x3"} == {"GNVR", "ROGC"}
    assert sum(len(trace["x"]) for trace in drawing["data"] if trace["xaxis"] == "x" and "customdata" in trace) == 3 * 8


def test_importances_find_what_matters_and_need_fifty_trials() -> None:
    generator = np.random.default_rng(0)
    ranges = {"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 0.1)}
    rows = []
    for _ in range(60):
        position = generator.uniform(size=2)
        values = [
            bounds.low * (bounds.high / bounds.low) ** at for bounds, at in zip(ranges.values(), position, strict=True)
        ]
        setting = dict(zip(ranges, values, strict=True))
        rows.append((setting, -((position[0] - 0.5) ** 2)))
    trials = pd.DataFrame(rows, columns=["setting", "score"])
    shares = tuning_frames.importances(trials, ranges, "maximize")
    assert shares is not None and shares["learning_rate"] > 0.9 and sum(shares.values()) == pytest.approx(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuning_frames.importances(trials.assign(score=0.5), ranges, "maximize") is None
    figure = figures_of(synthetic_record(trials=50))["importances"]
    bars = draw(figure.chart)["data"]
    assert [(bar["name"], len(bar["x"])) for bar in bars] == [("AdamW", 2), ("GNVR", 3)]
    assert all(sum(bar["x"]) == pytest.approx(1, rel=1e-4) for bar in bars)


def test_below_fifty_trials_a_sentence_says_so() -> None:
    few = figures_of(synthetic_record(trials=49))["importances"]
    assert few.chart is None
    assert "50 full-length trials" in few.caption and few.caption.endswith("AdamW has 49, GNVR has 49.")
    export, curves = synthetic_export(trials=50)
    diverge(export["slots"][0], curves)
    one = figures_of(make_record(export, curves))["importances"]
    assert [bar["name"] for bar in draw(one.chart)["data"]] == ["GNVR"]
    assert one.caption.endswith("; AdamW has 49.")


def test_a_configuration_looks_the_same_in_every_figure() -> None:
    """The traces of figure 3 have no names; the test of the slopes has their colours."""
    figures, checked = figures_of(synthetic_record(names=NAMES, trials=50)), set()
    for slug, figure in figures.items():
        for trace in draw(figure.chart)["data"]:
            shown = {trace.get("line", {}).get("color"), trace.get("marker", {}).get("color")} - {None}
            name = trace.get("legendgroup") or trace.get("name")
            if name in NAMES:
                red, green, blue = (int(STYLES[name].colour[at : at + 2], 16) for at in (1, 3, 5))
                colours = (STYLES[name].colour, f"rgba({red},{green},{blue},")
                assert all(colour.startswith(colours) for colour in shown), (slug, trace)
                checked |= {slug} if shown else set()
    assert checked == figures.keys() - {"paired-slopes"}


@pytest.mark.parametrize("names", [["AdamW", "GNVR"], ["AdamW", *"abcdefghijk"]])
def test_plotly_takes_every_drawing_on_a_wide_and_a_narrow_page(names: list[str]) -> None:
    for figure in figures_of(synthetic_record(names=names, trials=50, seeds=3)).values():
        drawing = draw(figure.chart)
        plot = go.Figure(drawing)
        for kind in ("wide", "narrow"):
            arranged = drawing["layout"]["meta"][kind]
            plot.update_layout({path.replace(".", "_"): value for path, value in arranged.items()})
            domains = [value for path, value in arranged.items() if path.endswith("domain")]
            assert all(0 <= low < high <= 1 for low, high in domains)
            assert arranged["height"] > arranged["margin"]["b"] + arranged["margin"]["t"] + 80


@pytest.mark.parametrize("name", ["<b>x</b> & y", "$x$", "a|b", "%{y}odd", "n" * 200])
def test_any_name_can_stand_in_every_figure(name: str, tmp_path: Path) -> None:
    for figure in figures_of(synthetic_record(names=["AdamW", name], trials=50, seeds=3)).values():
        for trace in draw(figure.chart)["data"]:
            words = f"{trace.get('name')} {trace.get('hovertemplate', '').split('<br>')[0]}"
            assert "<b>" not in words and "%{y}odd" not in words and "n" * 30 not in words
        figure.chart.draw_png(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 3000


def test_the_mean_of_several_tuning_runs_begins_when_all_have_a_score_and_keeps_the_last_one() -> None:
    first = pd.DataFrame({"trial": [1, 2, 3], "best": [0.1, 0.3, 0.3]})
    second = pd.DataFrame({"trial": [2, 4], "best": [0.5, 0.7]})  # trials 1 and 3 diverged
    mean = mean_line([first, second])
    assert mean["trial"].tolist() == [2, 3, 4]
    assert mean["best"].tolist() == pytest.approx([0.4, 0.4, 0.5])
