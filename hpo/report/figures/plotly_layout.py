"""Interactive: what all figures drawn with plotly share, as the plain data that `Plotly.newPlot` takes.

A figure is a grid of panels. `layout.meta` holds how the grid is laid out on a wide and on a narrow page, each as an
argument for `Plotly.relayout`; the layout itself is the wide one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.report.figures.style import Style, markup

Drawing = dict[str, Any]

WIDE, NARROW = 1080, 340  # pixels that a page has for a figure, about
BESIDE, BETWEEN = 72, 74  # pixels for the labels between panels, sideways and downwards
LEFT, RIGHT, TOP, BELOW = 58, 14, 12, 56  # margins; the legend's lines come below them
LEGEND_LINE, LEGEND_KEY, CHARACTER = 20, 52, 7.5  # a legend's line, its keys and its letters
TITLE = 14  # pixels of an axis's name
GRID = "rgba(128,128,128,0.25)"
RULE = "rgba(128,128,128,0.9)"  # lines that mean something, on a light and on a dark page


def draw(
    data: list[Drawing],
    panels: Sequence[tuple[Drawing, Drawing]],
    names: Sequence[str],
    panel_height: int = 340,
    columns: int = 1,
    narrow_columns: int = 1,
    **layout: Any,
) -> Drawing:
    """A figure of traces over a grid of panels, filled row by row.

    Args:
        panels: the x and the y axis of each. names: what stands in the legend; none where there is no legend.
        columns, narrow_columns: panels side by side on a wide and on a narrow page.
    """
    made: Drawing = {
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
        end = axis_end(index)
        made[f"xaxis{end}"] = {"anchor": f"y{end}", **_axis(x)}
        made[f"yaxis{end}"] = {"anchor": f"x{end}", **_axis(y)}
    wide = _arranged(len(panels), columns, panel_height, _legend_lines(names, WIDE), WIDE)
    narrow = _arranged(len(panels), narrow_columns, panel_height, _legend_lines(names, NARROW), NARROW)
    for path, value in wide.items():
        where, _, key = path.partition(".")
        if key:
            made[where] = {**made.get(where, {}), key: value}
        else:
            made[where] = value
    made["meta"] = {"wide": wide, "narrow": narrow}
    return {"data": data, "layout": made}


def log_ticks(low: float, high: float) -> Drawing:
    """A logarithmic y axis from `low` to `high`, both above 0, with plain numbers at 1, 2 and 5.

    Left to itself plotly also writes out 6 to 9, one over the other, where there is more than one decade.
    """
    decades = math.log10(high / low)
    few = {"nticks": min(9, max(2, int(decades / 0.31)))} if decades > 0.9 else {}
    return {"type": "log", "tickformat": "~g", **few}


def axis_end(index: int) -> str:
    """What plotly writes behind the x or y of a panel's axes: nothing, 2, 3, …"""
    return "" if index == 0 else str(index + 1)


def on_panel(index: int) -> Drawing:
    """The axes that a trace of a panel is drawn on."""
    return {"xaxis": f"x{axis_end(index)}", "yaxis": f"y{axis_end(index)}"}


def keys(styles: Mapping[str, Style], kind: str = "lines") -> list[Drawing]:
    """A trace a configuration that draws nothing but its key in the legend."""
    return [
        {
            "type": "scatter", "x": [None], "y": [None], "mode": kind, "name": markup(name), "legendgroup": name,
            "line": {"color": style.colour, "dash": style.dash[1], "width": 2},
            "marker": {"color": style.colour, "symbol": style.marker[1], "size": 8},
            "hoverinfo": "skip",
        }
        for name, style in styles.items()
    ]  # fmt: skip


def _axis(own: Drawing) -> Drawing:
    made = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticklabelstandoff": 5, "exponentformat": "e"}
    title = {"title": {"standoff": 10, "font": {"size": TITLE}, **own["title"]}} if "title" in own else {}
    return {**made, **own, **title}


def _legend_lines(names: Sequence[str], width: int) -> int:
    """How many lines the legend takes: plotly gives all of its keys the width of the longest."""
    if not names:
        return 0
    longest = max(len(markup(name)) for name in names) * CHARACTER + LEGEND_KEY
    return math.ceil(len(names) / max(1, int((width - LEFT - RIGHT) / longest)))


def _arranged(count: int, columns: int, panel_height: int, legend_lines: int, width: int) -> Drawing:
    """Height, margins and the panels' places, in a grid of so many columns, as `Plotly.relayout` takes them."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    inner_width = width - LEFT - RIGHT
    inner_height = rows * panel_height + (rows - 1) * BETWEEN
    panel_width = (inner_width - (columns - 1) * BESIDE) / columns
    bottom = BELOW + legend_lines * LEGEND_LINE
    placed: Drawing = {
        "height": inner_height + TOP + bottom,
        "margin": {"l": LEFT, "r": RIGHT, "t": TOP, "b": bottom},
    }
    for index in range(count):
        row, column = divmod(index, columns)
        left, top = column * (panel_width + BESIDE), row * (panel_height + BETWEEN)
        end = axis_end(index)
        placed[f"xaxis{end}.domain"] = _share(left, left + panel_width, inner_width)
        placed[f"yaxis{end}.domain"] = _share(inner_height - top - panel_height, inner_height - top, inner_height)
    return placed


def _share(start: float, end: float, whole: float) -> list[float]:
    return [round(max(0.0, start / whole), 5), round(min(1.0, end / whole), 5)]
