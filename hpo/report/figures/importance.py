"""Figure 8: how much of the score's variation each hyperparameter accounts for, relative to the others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo.report.figures import plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import Style, markup, rounded

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Importances(Chart):
    """Importances of hyperparameters.

    Attributes:
        frame: columns configuration, hyperparameter (in words), importance (a configuration's sum to 1), trials.
    """

    number: int = 8
    slug: str = "importances"
    title: str = "Importances"
    frame: "pd.DataFrame"

    def draw_plotly(self) -> dict[str, Any]:
        hyperparameters = [markup(name) for name in dict.fromkeys(self.frame["hyperparameter"])]
        traces = []
        for name, style, rows in self.by_configuration(self.frame):
            traces.append(
                {
                    "type": "bar", "orientation": "h", "name": markup(name), "legendgroup": name,
                    "y": [markup(hyperparameter) for hyperparameter in rows["hyperparameter"]],
                    "x": rounded(rows["importance"]), "customdata": rows["trials"].tolist(),
                    "marker": {"color": style.colour, "pattern": {"shape": style.pattern}},
                    "hovertemplate": f"{markup(name)}, %{{y}}: %{{x:.2f}} (%{{customdata}} trials)<extra></extra>",
                }
            )  # fmt: skip
        x_axis = {"title": {"text": "relative importance"}, "range": [0, 1.02]}
        y_axis = {"categoryorder": "array", "categoryarray": hyperparameters, "autorange": "reversed"}
        height = 40 + len(hyperparameters) * (16 + 12 * len(self.styles))
        return plotly_layout.draw(traces, [(x_axis, y_axis)], list(self.styles), height, barmode="group", bargap=0.25)


def importances(frame: "pd.DataFrame", styles: dict[str, Style], left_out: str = "") -> Importances:
    """Figure 8, from the columns of `Importances.frame`; `left_out` says which are not in it."""
    caption = (
        "Importance of each hyperparameter for reaching the best tenth of the trials, by PED-ANOVA: relative, summing "
        f"to 1 for each configuration.{' ' + left_out if left_out else ''}"
    )
    shown = {name: style for name, style in styles.items() if (frame["configuration"] == name).any()}
    return Importances(caption=caption, frame=frame, styles=shown)
