"""Chart: what all figures have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.report.figures.style import Style


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What a figure shows, ready to draw.

    Attributes:
        number, slug, title: fixed by the kind of chart, mostly; the PNG is `figures/{number}-{slug}.png`.
        styles: configuration → style, in the order of the legend or, from the top, of the rows.
    """

    number: int = 0
    slug: str = ""
    title: str = ""
    styles: dict[str, Style]

    @property
    def caption(self) -> str:
        """What the figure shows, in one sentence or two."""
        raise NotImplementedError

    def by_configuration(self, frame: pd.DataFrame) -> Iterator[tuple[str, Style, pd.DataFrame]]:
        """(configuration, its style, its rows of `frame`) in the order of `styles`, without those that have no row."""
        groups = {str(name): rows for name, rows in frame.groupby("configuration")}
        return ((name, style, groups[name]) for name, style in self.styles.items() if name in groups)

    def draw_plotly(self) -> dict[str, Any]:
        """Draws for plotly: data and layout as the JSON-able dict that `Plotly.newPlot` takes.

        `layout.meta` holds "wide" and "narrow", each an argument for `Plotly.relayout` that fits such a page.
        """
        raise NotImplementedError

    def draw_png(self, path: Path) -> None:
        """Draws with matplotlib; the same numbers give the same bytes."""
        raise NotImplementedError
