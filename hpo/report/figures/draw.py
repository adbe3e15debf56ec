"""Drawing: every kind of info with the functions that draw it."""

from pathlib import Path
from typing import Any

from hpo.report.figures import (
    curves,
    fitted_labels,
    forest_grid,
    forest_plot,
    history,
    importance,
    profiles,
    slice_plot,
    slope_plot,
)
from hpo.report.figures.curves import Curves
from hpo.report.figures.fitted_labels import LabelsFitted
from hpo.report.figures.forest_grid import Forests
from hpo.report.figures.forest_plot import Forest
from hpo.report.figures.history import History
from hpo.report.figures.importance import Importances
from hpo.report.figures.profiles import Profiles
from hpo.report.figures.slice_plot import Slices
from hpo.report.figures.slope_plot import Slopes

Still = Curves | Slopes | Forest | Forests | Profiles
Info = Still | LabelsFitted | History | Slices | Importances

PNG: dict[type, Any] = {
    Curves: curves.draw_png,
    Slopes: slope_plot.draw_png,
    Forest: forest_plot.draw_png,
    Forests: forest_grid.draw_png,
    Profiles: profiles.draw_png,
}
PLOTLY: dict[type, Any] = {
    Curves: curves.draw_plotly,
    Slopes: slope_plot.draw_plotly,
    Forest: forest_plot.draw_plotly,
    Forests: forest_grid.draw_plotly,
    LabelsFitted: fitted_labels.draw_plotly,
    History: history.draw_plotly,
    Slices: slice_plot.draw_plotly,
    Importances: importance.draw_plotly,
    Profiles: profiles.draw_plotly,
}


def draw_png(info: Info, path: Path) -> None:
    """Draws a still with matplotlib; the same info gives the same bytes."""
    PNG[type(info)](info, path)


def draw_plotly(info: Info) -> dict[str, Any]:
    """Draws for plotly: data and layout as the JSON-able dict that `Plotly.newPlot` takes.

    `layout.meta` holds "wide" and "narrow", each an argument for `Plotly.relayout` that fits such a page.
    """
    drawn: dict[str, Any] = PLOTLY[type(info)](info)
    return drawn
