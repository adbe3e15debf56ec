"""Figure 8: how much of the score's variation each hyperparameter accounts for, relative to the others."""

from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.report.figures import plotly_layout
from hpo.report.figures.curves import by_configuration
from hpo.report.figures.style import Style, markup, rounded

if TYPE_CHECKING:
    import pandas as pd


class Importances(NamedTuple):
    """Importances, ready to draw.

    Attributes:
        frame: columns configuration, hyperparameter (in words), importance (a configuration's sum to 1), trials.
        styles: configuration → style, in the order of the legend.
    """

    number: int
    slug: str
    title: str
    caption: str
    frame: "pd.DataFrame"
    styles: dict[str, Style]


def importances(frame: "pd.DataFrame", styles: dict[str, Style], left_out: str = "") -> Importances:
    """Figure 8, from the columns of `Importances.frame`; `left_out` says which are not in it."""
    caption = (
        "Importance of each hyperparameter for reaching the best tenth of the trials, by PED-ANOVA: relative, each "
        f"configuration's sum to 1.{' ' + left_out if left_out else ''}"
    )
    shown = {name: style for name, style in styles.items() if (frame["configuration"] == name).any()}
    return Importances(8, "importances", "Importances", caption, frame, shown)


def draw_plotly(info: Importances) -> dict[str, Any]:
    """Draws for plotly: bars, a group a hyperparameter and a bar in it a configuration."""
    hyperparameters = list(dict.fromkeys(info.frame["hyperparameter"]))
    data = []
    for name, style, rows in by_configuration(info.frame, info.styles):
        data.append(
            {
                "type": "bar", "orientation": "h", "name": markup(name), "legendgroup": name,
                "y": [markup(hyperparameter) for hyperparameter in rows["hyperparameter"]],
                "x": rounded(rows["importance"]), "customdata": rows["trials"].tolist(),
                "marker": {"color": style.colour, "pattern": {"shape": style.pattern}},
                "hovertemplate": f"{markup(name)}, %{{y}}: %{{x:.2f}} (%{{customdata}} trials)<extra></extra>",
            }
        )  # fmt: skip
    order = {"categoryorder": "array", "categoryarray": [markup(name) for name in hyperparameters]}
    axes = ({"title": {"text": "relative importance"}, "range": [0, 1.02]}, {**order, "autorange": "reversed"})
    height = 40 + len(hyperparameters) * (16 + 12 * len(info.styles))
    return plotly_layout.draw(data, [axes], list(info.styles), height, barmode="group", bargap=0.25)
