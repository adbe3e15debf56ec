"""Figures: the numbers that are drawn, and that both ways of drawing show them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpo.analysis.metric import ACCURACY
from hpo.report.figure_plan import TRAINING_LOSS
from hpo.report.figures.curves import Curves, band_over_seeds
from hpo.report.figures.style import BASELINE_COLOUR, COLOURS, Style, assign_styles


def tidy(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Configuration → seed → value by epoch, as the tidy frame that figures take."""
    rows = [
        (name, seed, epoch, value)
        for name, runs in values.items()
        for seed, run in enumerate(runs)
        for epoch, value in enumerate(run, start=1)
    ]
    return pd.DataFrame(rows, columns=["configuration", "seed", "epoch", "value"])


def training_loss(curves: pd.DataFrame, styles: dict[str, Style]) -> Curves:
    return Curves(frame=band_over_seeds(curves, log=True), metric=TRAINING_LOSS, log=True, styles=styles)


def accuracy(curves: pd.DataFrame) -> Curves:
    return Curves(frame=band_over_seeds(curves, share=True), metric=ACCURACY, styles=STYLES)


STYLES = assign_styles(["AdamW", "GNVR"], "AdamW")
LOSSES = {"AdamW": [[4.0, 1.0], [1.0, 1.0]], "GNVR": [[2.0, 0.5]]}


def test_the_loss_band_is_symmetric_in_the_logarithm_and_stays_positive() -> None:
    info = training_loss(tidy(LOSSES), STYLES)
    first = info.frame[(info.frame.configuration == "AdamW") & (info.frame.epoch == 1)].iloc[0]
    spread = math.sqrt(2) * math.log(2)  # SD of log 4 and log 1
    assert first["middle"] == pytest.approx(2.0) and first["seeds"] == 2
    assert first["low"] == pytest.approx(2 * math.exp(-spread)) and first["high"] == pytest.approx(2 * math.exp(spread))
    gnvr = info.frame[info.frame.configuration == "GNVR"]
    assert gnvr["low"].tolist() == gnvr["middle"].tolist() == gnvr["high"].tolist() == pytest.approx([2.0, 0.5])
    wild = training_loss(tidy({"AdamW": [[1e-9], [1e3], [0.0]]}), STYLES)
    assert (wild.frame["low"] > 0).all()


def test_the_accuracy_band_stays_between_none_and_all() -> None:
    info = accuracy(tidy({"AdamW": [[0.0, 0.9], [0.4, 1.0]]}))
    assert info.frame["middle"].tolist() == pytest.approx([0.2, 0.95])
    assert info.frame["low"].tolist() == pytest.approx([0.0, 0.95 - math.sqrt(0.005)])
    assert info.frame["high"].tolist() == pytest.approx([0.2 + math.sqrt(0.08), 1.0])


def test_a_configuration_keeps_its_style_and_the_baseline_is_grey() -> None:
    names = [f"rival {i}" for i in range(11)]
    styles = assign_styles([*names[:5], "base", *names[5:]], "base")
    assert list(styles) == [*names[:5], "base", *names[5:]]
    assert styles["base"].colour == BASELINE_COLOUR
    assert len(set(styles.values())) == 12
    assert {style.colour for style in styles.values()} == {BASELINE_COLOUR, *COLOURS}


def test_pngs_of_the_same_numbers_are_the_same_bytes(tmp_path: Path) -> None:
    info = training_loss(tidy(LOSSES), STYLES)
    for name in ("one.png", "two.png"):
        info.draw_png(tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["_hidden", "$x$ and $\\frac$", "a | b <i>", "実験 🚀", "n" * 200])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    frame = tidy({name: [[0.5, 0.25, 0.1, 0.1]], "AdamW": [[1.0, 0.5, 0.2, 0.1]]})
    info = training_loss(frame, assign_styles(["AdamW", name], "AdamW"))
    info.draw_png(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert len(info.draw_plotly()["data"]) == 4


@pytest.mark.parametrize("values", [[[0.5]], [[1e-12, 1e3]], [[0.5, 0.5]], [[1.0, 1.01, 1.02, 1.0]]])
def test_any_span_can_be_drawn(values: list[list[float]], tmp_path: Path) -> None:
    training_loss(tidy({"AdamW": values}), STYLES).draw_png(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_plotly_shows_the_same_numbers_and_colours() -> None:
    info = accuracy(tidy({"AdamW": [[0.2, 0.5]], "GNVR": [[0.3, 0.6], [0.3, 0.8]]}))
    drawing = info.draw_plotly()
    lines = {trace["name"]: trace for trace in drawing["data"] if trace.get("name")}
    assert list(lines) == ["AdamW", "GNVR"]
    assert lines["GNVR"]["y"] == pytest.approx([0.3, 0.7]) and lines["GNVR"]["x"] == [1, 2]
    assert lines["GNVR"]["customdata"] == [2, 2]
    assert lines["GNVR"]["line"]["color"] == STYLES["GNVR"].colour != lines["AdamW"]["line"]["color"]
    band = next(trace for trace in drawing["data"] if trace.get("legendgroup") == "GNVR")
    assert band["y"][:2] == pytest.approx([0.3, 0.7 + np.std([0.6, 0.8], ddof=1)]) and band["fill"] == "toself"
    assert drawing["layout"]["yaxis"].get("type") != "log"
    assert training_loss(tidy(LOSSES), STYLES).draw_plotly()["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize(("smallest", "most"), [(0.5, None), (0.05, 5), (8e-3, 7), (1e-6, 9)])
def test_a_log_axis_over_decades_has_no_label_over_another(smallest: float, most: int | None) -> None:
    """Plotly writes 1 to 9 where a tick has less than 0.3 decades, and 1, 2 and 5 from there on."""
    axis = training_loss(tidy({"AdamW": [[2.0, smallest]]}), STYLES).draw_plotly()["layout"]["yaxis"]
    assert axis["type"] == "log" and axis.get("nticks") == most
    assert most is None or np.log10(2 / smallest) / most > 0.3
