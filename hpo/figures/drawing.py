"""Drawing: every kind of info with the functions that draw it."""

from pathlib import Path
from typing import Any

from hpo.figures import curves, differences, forests, history, importance, labels, profiles, slicing, slopes
from hpo.figures.curves import Curves
from hpo.figures.differences import Forest
from hpo.figures.forests import Forests
from hpo.figures.history import History
from hpo.figures.importance import Importances
from hpo.figures.labels import LabelsFitted
from hpo.figures.profiles import Profiles
from hpo.figures.slicing import Slices
from hpo.figures.slopes import Slopes

Still = Curves | Slopes | Forest | Forests | Profiles
Info = Still | LabelsFitted | History | Slices | Importances

PNG: dict[type, Any] = {
    Curves: curves.draw_png,
    Slopes: slopes.draw_png,
    Forest: differences.draw_png,
    Forests: forests.draw_png,
    Profiles: profiles.draw_png,
}
PLOTLY: dict[type, Any] = {
    Curves: curves.draw_plotly,
    Slopes: slopes.draw_plotly,
    Forest: differences.draw_plotly,
    Forests: forests.draw_plotly,
    LabelsFitted: labels.draw_plotly,
    History: history.draw_plotly,
    Slices: slicing.draw_plotly,
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
