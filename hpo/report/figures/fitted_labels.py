"""Figure 5: how many of the clean and of the changed training labels are fitted, by epoch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo.report.figures import plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.curves import band_over_seeds, band_traces, epoch_axis
from hpo.report.figures.style import Style

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class LabelsFitted(Chart):
    """Shares of labels fitted by epoch.

    Attributes:
        frames: "clean" and "noisy" → as `band_over_seeds` returns it; without a kind that no run has reported.
    """

    number: int = 5
    slug: str = "labels-fitted"
    title: str = "Clean and noisy labels fitted"
    frames: dict[str, "pd.DataFrame"]

    def draw_plotly(self) -> dict[str, Any]:
        traces, panels = [], []
        for index, (kind, frame) in enumerate(self.frames.items()):
            traces += band_traces(self, frame, True, index)
            panels.append((epoch_axis(frame), {"title": {"text": f"{kind} labels fitted"}, "tickformat": ".0%"}))
        return plotly_layout.draw(
            traces, panels, list(self.styles), 300, columns=2, hovermode="x unified", hoverdistance=-1
        )


def labels_fitted(clean: "pd.DataFrame", noisy: "pd.DataFrame", styles: dict[str, Style]) -> LabelsFitted:
    """Figure 5, from the shares of clean and of noisy labels: columns configuration, seed, epoch, value each."""
    kinds = {"clean": clean, "noisy": noisy}
    frames = {kind: band_over_seeds(curves, share=True) for kind, curves in kinds.items() if len(curves)}
    unchanged = " and of as many unchanged ones" if "clean" in frames else ""
    caption = (
        f"Labels fitted by epoch: the share of all changed training labels{unchanged} that are predicted as given; "
        "mean over the rerun seeds; the band is ± one SD."
    )
    return LabelsFitted(caption=caption, frames=frames, styles=styles)
