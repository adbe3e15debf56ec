"""Figure 8: how much of the score's variation each hyperparameter accounts for, relative to the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpo.report.figures import matplotlib_layout, plotly_layout
from hpo.report.figures.chart import Chart
from hpo.report.figures.style import markup, rounded


@dataclass(frozen=True, kw_only=True)
class Importances(Chart):
    """Importances of hyperparameters.

    Attributes:
        frame: columns configuration, hyperparameter (in words), importance (a configuration's sum to 1), trials.
        left_out: which configurations are not in it, in a sentence.
    """

    number: int = 8
    slug: str = "importances"
    title: str = "Importances"
    frame: pd.DataFrame
    left_out: str = ""

    @property
    def caption(self) -> str:
        return (
            "Importance of each hyperparameter for reaching the best tenth of the trials, by PED-ANOVA: relative, "
            f"summing to 1 for each configuration. {self.left_out}"
        ).rstrip()

    def draw_png(self, path: Path) -> None:
        hyperparameters = list(dict.fromkeys(self.frame["hyperparameter"]))
        groups = list(self.by_configuration(self.frame))
        height = 0.75 / len(groups)
        figure = matplotlib_layout.new_figure(1 + len(hyperparameters) * (0.2 + 0.15 * len(groups)))
        axes = figure.add_subplot()
        for number, (name, style, rows) in enumerate(groups):
            shift = (number - (len(groups) - 1) / 2) * height
            places = [hyperparameters.index(each) + shift for each in rows["hyperparameter"]]
            label = matplotlib_layout.label(name)
            axes.barh(
                places, rows["importance"], height, color=style.colour, label=label, linewidth=0, edgecolor="white",
                hatch=3 * style.pattern,
            )  # fmt: skip
        matplotlib_layout.name_rows(axes, [matplotlib_layout.label(each, 40) for each in hyperparameters])
        axes.set(xlabel="relative importance", xlim=(0, 1.02))
        matplotlib_layout.add_legend(figure)
        matplotlib_layout.save(figure, path)

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
        names = [trace["legendgroup"] for trace in traces]
        height = 40 + len(hyperparameters) * (16 + 12 * len(names))
        return plotly_layout.draw(traces, [(x_axis, y_axis)], names, height, barmode="group", bargap=0.25)
