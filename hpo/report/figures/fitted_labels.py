"""Figure 5: how many clean and how many changed training labels are fitted, by epoch."""

from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.report.figures import plotly_layout
from hpo.report.figures.curves import band_traces, epoch_axis, share_over_seeds
from hpo.report.figures.style import Style

if TYPE_CHECKING:
    import pandas as pd

KINDS = {  # a panel and what it is of
    "clean": "clean labels fitted",
    "noisy": "noisy labels fitted",
}


class LabelsFitted(NamedTuple):
    """Shares of labels fitted by epoch, ready to draw.

    Attributes:
        frames: "clean" and "noisy" → columns configuration, epoch, low, middle, high, seeds; without a kind that no
            run has reported.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    caption: str
    frames: dict[str, "pd.DataFrame"]
    styles: dict[str, Style]


def labels_fitted(clean: "pd.DataFrame", noisy: "pd.DataFrame", styles: dict[str, Style]) -> LabelsFitted:
    """Figure 5, from the shares of clean and of noisy labels: columns configuration, seed, epoch, value each."""
    frames = {kind: share_over_seeds(curves) for kind, curves in (("clean", clean), ("noisy", noisy)) if len(curves)}
    of_clean = " and of as many unchanged ones" if "clean" in frames else ""
    caption = (
        f"Labels fitted by epoch: the share of all changed training labels{of_clean} that are predicted as given; "
        "mean over the reruns' seeds, band of ± one SD."
    )
    return LabelsFitted(5, "labels-fitted", "Clean and noisy labels fitted", caption, frames, styles)


def draw_plotly(info: LabelsFitted) -> dict[str, Any]:
    """Draws for plotly: a panel for clean and one for noisy labels."""
    data: list[dict[str, Any]] = []
    panels = []
    for index, (kind, frame) in enumerate(info.frames.items()):
        data += band_traces(frame, info.styles, True, plotly_layout.on_panel(index), keyed=index == 0)
        panels.append((epoch_axis(frame), {"title": {"text": KINDS[kind]}, "tickformat": ".0%"}))
    return plotly_layout.draw(data, panels, list(info.styles), 300, columns=2, hovermode="x unified", hoverdistance=-1)
