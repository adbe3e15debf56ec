"""Performance profiles: the share of studies in which a configuration is at most τ times as slow as the fastest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.style import Style, markup, rounded

if TYPE_CHECKING:
    import pandas as pd


class Profiles(NamedTuple):
    """Profiles, ready to draw.

    Attributes:
        frame: columns configuration, ratio, share; steps to the right, ratios rising from 1.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    caption: str
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def performance_profiles(steps: "pd.DataFrame", styles: dict[str, Style]) -> Profiles:
    """The figure of a comparison of studies, from columns configuration, ratio, share."""
    caption = (
        "Performance profiles: the share of the studies in which a configuration reaches the target within τ times "
        "the epochs of the fastest one."
    )
    return Profiles(2, "performance-profiles", "Performance profiles", caption, steps, styles)


def draw_png(info: Profiles, path: Path) -> None:
    """Draws with matplotlib; the same info gives the same bytes."""
    figure = matplotlib_layout.new_figure(3.8)
    axes = figure.add_subplot()
    for name, style, rows in by_configuration(info.frame, info.styles):
        axes.step(
            rows["ratio"], rows["share"], where="post", label=matplotlib_layout.label(name), color=style.colour,
            linestyle=style.dash[0], marker=style.marker[0], markersize=4, linewidth=2,
        )  # fmt: skip
    axes.set(xlabel="τ, in times the epochs of the fastest", ylabel="share of the studies", ylim=(-0.04, 1.04))
    matplotlib_layout.percent_ticks(axes.yaxis)
    matplotlib_layout.tidy(axes)
    figure.legend(loc="outside right upper", frameon=False)
    matplotlib_layout.save(figure, path)


def draw_plotly(info: Profiles) -> dict[str, Any]:
    """Draws for plotly: hovering a corner tells τ and the share."""
    data = []
    for name, style, rows in by_configuration(info.frame, info.styles):
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": markup(name),
                "x": rounded(rows["ratio"]), "y": rounded(rows["share"]),
                "line": {"color": style.colour, "dash": style.dash[1], "width": 2, "shape": "hv"},
                "marker": {"color": style.colour, "symbol": style.marker[1], "size": 6},
                "hovertemplate": f"{markup(name)}: %{{y:.0%}} within τ = %{{x:.3g}}<extra></extra>",
            }
        )  # fmt: skip
    x = {"title": {"text": "τ, in times the epochs of the fastest"}}
    y = {"title": {"text": "share of the studies"}, "tickformat": ".0%", "range": [-0.04, 1.04]}
    return plotly_layout.draw(data, [(x, y)], list(info.styles))
