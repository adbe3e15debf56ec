"""Styles: a configuration is drawn the same way in every figure."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from hpo.analysis.metric import Metric
from hpo.output import visible

BASELINE_COLOUR = "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, without yellow
LONG_DASHES = (0.0, (8.0, 3.0))  # for which matplotlib has no name
# (matplotlib's name, plotly's name); the next one is used when the colours start again
DASHES: tuple[tuple[Any, str], ...] = (
    ("solid", "solid"), ("dashed", "dash"), ("dotted", "dot"), ("dashdot", "dashdot"), (LONG_DASHES, "longdash"),
)  # fmt: skip
MARKERS = (("o", "circle"), ("s", "square"), ("D", "diamond"), ("^", "triangle-up"), ("v", "triangle-down"))
PATTERNS = ("", "/", "x", ".", "+")  # of bars, which both libraries know
LONGEST_LABEL = 28
MAX_LINEAR_RATIO = 50  # scores whose largest is more times the smallest are drawn on a log axis
MANY_POINTS = 200  # of a configuration, from here on drawn smaller


class Style(NamedTuple):
    """How a configuration is drawn; dash and marker: (matplotlib's name, plotly's name); pattern: of bars."""

    colour: str
    dash: tuple[Any, str]
    marker: tuple[str, str]
    pattern: str


def assign_styles(configurations: Sequence[str], baseline: str) -> dict[str, Style]:
    """Gives every configuration its style, in the study's order; the baseline is grey.

    Colour-blind readers can distinguish the six colours; dash, marker and pattern change when the colours start again.
    """
    rivals = [name for name in configurations if name != baseline]
    styles = {}
    for index, name in enumerate(rivals):
        cycle = index // len(COLOURS) % len(DASHES)
        styles[name] = Style(COLOURS[index % len(COLOURS)], DASHES[cycle], MARKERS[cycle], PATTERNS[cycle])
    grey = Style(BASELINE_COLOUR, DASHES[0], MARKERS[0], PATTERNS[0])
    return {name: styles.get(name, grey) for name in configurations}


def shorten(name: str, longest: int = LONGEST_LABEL) -> str:
    """A label of at most `longest` letters; the end of a long name stays, since variants differ there."""
    name = visible(" ".join(name.split()))
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-(longest - half) :]}"


def markup(name: str, longest: int = LONGEST_LABEL) -> str:
    """A label that plotly shows literally: none of it is read as HTML or as a variable of a template."""
    return shorten(name, longest).replace("&", "&amp;").replace("<", "&lt;").replace("%{", "%&#123;")


def translucent(colour: str, opacity: float = 0.15) -> str:
    """A colour `#rrggbb` as plotly's rgba."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def spans_decades(metric: Metric, scores: "pd.Series[float]") -> bool:
    """Whether scores are drawn on a logarithmic axis."""
    return not metric.share and bool(scores.min() > 0 and scores.max() > MAX_LINEAR_RATIO * scores.min())


def rounded(values: Iterable[float]) -> list[float]:
    """Numbers with six digits: the page holds thousands, and the eye needs no more."""
    return [float(f"{value:.6g}") for value in values]
