"""Figure 5: how many of the clean and of the changed training labels are fitted, by epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.curves import band_traces, draw_bands, epoch_axis


@dataclass(frozen=True, kw_only=True)
class LabelsFitted(Chart):
    """Shares of labels fitted by epoch.

    Attributes:
        frames: "clean" and "noisy" → as `band_over_seeds` returns it; without a kind that no run has reported.
    """

    number: int = 5
    slug: str = "labels-fitted"
    title: str = "Clean and noisy labels fitted"
    frames: dict[str, pd.DataFrame]

    @property
    def caption(self) -> str:
        unchanged = " and of as many unchanged ones" if "clean" in self.frames else ""
        return (
            f"Labels fitted by epoch: the share of all changed training labels{unchanged} that are predicted as given; "
            "mean over the rerun seeds; the band is ± one SD."
        )

    def draw_png(self, path: Path) -> None:
        figure = matplotlib_layout.new_figure(3.4)
        panels = figure.subplots(1, len(self.frames), squeeze=False)[0]
        for axes, (kind, frame) in zip(panels, self.frames.items(), strict=True):
            draw_bands(self, frame, axes, f"{kind} labels fitted")
            matplotlib_layout.percent_ticks(axes.yaxis)
        matplotlib_layout.legend(figure, self.styles, marks=False)
        matplotlib_layout.save(figure, path)

    def draw_plotly(self) -> dict[str, Any]:
        traces, panels = [], []
        for index, (kind, frame) in enumerate(self.frames.items()):
            traces += band_traces(self, frame, True, index)
            panels.append((epoch_axis(frame), {"title": {"text": f"{kind} labels fitted"}, "tickformat": ".0%"}))
        return plotly_layout.draw(
            traces, panels, list(self.styles), 300, columns=2, hovermode="x unified", hoverdistance=-1
        )
