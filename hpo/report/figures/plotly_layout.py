"""What all figures drawn by plotly share, as the plain data that `Plotly.newPlot` takes.

A figure is a grid of panels. `layout.meta` holds how the grid is laid out on a wide and on a narrow page, each as an
argument for `Plotly.relayout`; the layout itself is the wide one.
"""

import math
from collections.abc import Sequence
from typing import Any

from hpo.report.figures.style import markup

Dict = dict[str, Any]

WIDE, NARROW = 1080, 340  # pixels that a page has for a figure, about
COLUMN_GAP, ROW_GAP = 72, 74  # pixels for the labels between panels
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 56  # margins; the legend's lines come below them
LEGEND_LINE, LEGEND_KEY, CHARACTER = 20, 52, 7.5  # a legend's line, its keys and its letters
GRID = "rgba(128,128,128,0.25)"
RULE = "rgba(128,128,128,0.9)"  # lines at 0 and at the margin, visible on a light and on a dark page


def draw(
    traces: list[Dict],
    panels: Sequence[tuple[Dict, Dict]],
    names: Sequence[str] = (),
    panel_height: int = 340,
    columns: int = 1,
    **layout: Any,
) -> Dict:
    """A figure of traces over a grid of panels, filled row by row.

    Args:
        panels: the x and the y axis of each. names: what stands in the legend; none where there is no legend.
        columns: panels side by side on a wide page; on a narrow one they are below each other.
    """
    result: Dict = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yanchor": "bottom", "yref": "container",
        },
        "showlegend": bool(names),
        "hovermode": "closest",
        **layout,
    }  # fmt: skip
    for index, (x, y) in enumerate(panels):
        suffix = axis_suffix(index)
        result[f"xaxis{suffix}"] = {"anchor": f"y{suffix}", **_axis(x)}
        result[f"yaxis{suffix}"] = {"anchor": f"x{suffix}", **_axis(y)}
    wide = _arrange(len(panels), columns, panel_height, names, WIDE)
    for path, value in wide.items():
        name, _, key = path.partition(".")
        if key:
            result[name][key] = value
        else:
            result[name] = value
    result["meta"] = {"wide": wide, "narrow": _arrange(len(panels), 1, panel_height, names, NARROW)}
    return {"data": traces, "layout": result}


def scatter(panel: int, mode: str, x: Sequence[Any], y: Sequence[Any], **keys: Any) -> Dict:
    """A trace of points or lines on a panel."""
    suffix = axis_suffix(panel)
    return {"type": "scatter", "mode": mode, "x": x, "y": y, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", **keys}


def axis_suffix(panel: int) -> str:
    """The suffix of plotly's names of a panel's axes: nothing, 2, 3, …"""
    return "" if panel == 0 else str(panel + 1)


def hover_format(share: bool) -> str:
    """The format of a value in hover text, appended to the name of its variable in plotly's template."""
    return ":.2%" if share else ":.4g"


def log_ticks(low: float, high: float) -> Dict:
    """A logarithmic y axis from `low` to `high`, both above 0, with plain numbers at 1, 2 and 5.

    By default plotly also writes 6 to 9, one over the other, where there is more than one decade.
    """
    decades = math.log10(high / low)
    ticks = {"nticks": min(9, max(2, int(decades / 0.31)))} if decades > 0.9 else {}
    return {"type": "log", "tickformat": "~g", **ticks}


def fit_panels(layout: Dict, width: int, height: int, top: int) -> None:
    """Arranges the panels of a figure in a box of fixed size, such as a card of optuna-dashboard.

    Panels of one row share the labels of their y axis, and an x axis says only what differs: "SAM" of "AdamW → SAM".

    Args:
        layout: of at least two panels; it is changed. width, height: of the box. top: pixels for a title.
    """
    count = sum(name.startswith("xaxis") for name in layout)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    layout.pop("height", None)  # that of the box
    inner_width, inner_height = width - LEFT - RIGHT, height - top - BOTTOM / 2
    panel_width = (inner_width - (columns - 1) * RIGHT) / columns
    panel_height = inner_height / rows - BOTTOM / 2
    layout["margin"] = {"l": LEFT, "r": RIGHT, "t": top, "b": BOTTOM / 2}
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = (layout[f"{axis}axis{axis_suffix(index)}"] for axis in "xy")
        x["domain"] = _domain(column * (panel_width + RIGHT), panel_width, inner_width)
        bottom = inner_height - row * inner_height / rows - panel_height
        y["domain"] = _domain(bottom, panel_height, inner_height)
        name = x["title"]["text"].rpartition(" → ")[2]
        letters = max(4, int(panel_width / CHARACTER))
        short = name if len(name) <= letters else f"{name[: letters - 1]}…"
        x["title"] = {"text": short, "font": {"size": 12}, "standoff": 4}
        y["title"] = {"text": ""}
        y["showticklabels"] = column == 0
        x["automargin"] = y["automargin"] = False


def _axis(axis: Dict) -> Dict:
    defaults = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticklabelstandoff": 5, "exponentformat": "e"}
    title = {"title": {"standoff": 10, "font": {"size": 14}, **axis["title"]}} if "title" in axis else {}
    return {**defaults, **axis, **title}


def _arrange(count: int, columns: int, panel_height: int, names: Sequence[str], width: int) -> Dict:
    """Height, margins and the panels' positions in a grid, as `Plotly.relayout` takes them.

    plotly.subplots computes the same positions, but importing it takes a quarter of a second.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    inner_width = width - LEFT - RIGHT
    inner_height = rows * panel_height + (rows - 1) * ROW_GAP
    panel_width = (inner_width - (columns - 1) * COLUMN_GAP) / columns
    bottom = BOTTOM + _legend_lines(names, inner_width) * LEGEND_LINE
    arranged: Dict = {
        "height": inner_height + TOP + bottom,
        "margin": {"l": LEFT, "r": RIGHT, "t": TOP, "b": bottom},
    }
    for index in range(count):
        row, column = divmod(index, columns)
        left, top = column * (panel_width + COLUMN_GAP), row * (panel_height + ROW_GAP)
        suffix = axis_suffix(index)
        arranged[f"xaxis{suffix}.domain"] = _domain(left, panel_width, inner_width)
        arranged[f"yaxis{suffix}.domain"] = _domain(inner_height - top - panel_height, panel_height, inner_height)
    return arranged


def _legend_lines(names: Sequence[str], width: int) -> int:
    """How many lines the legend takes: plotly gives all of its keys the width of the longest."""
    if not names:
        return 0
    longest = max(len(markup(name)) for name in names) * CHARACTER + LEGEND_KEY
    return math.ceil(len(names) / max(1, int(width / longest)))


def _domain(start: float, length: float, total: float) -> list[float]:
    return [round(max(0.0, start / total), 5), round(min(1.0, (start + length) / total), 5)]
