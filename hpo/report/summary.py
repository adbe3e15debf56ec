"""A summary of a report for Optuna's dashboard: the verdict, T1 and T2 as a note, and the figures as plots."""

from typing import Any, NamedTuple
from urllib.parse import quote

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.report import figures, formatting, page, tables
from hpo.report.figure_plan import plan_stills
from hpo.report.results_json import as_json
from hpo.report.warnings import cautions

GREY = "#7f8791"  # readable on a white and on a black page: the dashboard does not tell a plot which it is on


class Summary(NamedTuple):
    """What the dashboard shows of a report.

    Attributes:
        note: Markdown.
        plots: identifier → data and layout for plotly.js; None while there is nothing to draw.
    """

    note: str
    plots: dict[str, dict[str, Any] | None]


def summarise(record: Record) -> Summary:
    """The summary of a study at any moment of its life."""
    numbers = compute_numbers(record)
    return Summary(_note(numbers), _plots(record, numbers))


def _note(numbers: StudyNumbers) -> str:
    entries, study = numbers.configurations, numbers.study
    parts = [[getattr(entry, phase) for entry in entries] for phase in ("tuning", "reruns")]
    trials, reruns = (f"{sum(p.finished for p in part)} of {sum(p.planned for p in part)}" for part in parts)
    text = page._environment().get_template("summary.md.jinja").render(
        title=formatting.escape(study["text"].get("title") or study["name"]),
        link=f"/reports/{quote(study['name'])}/",
        trials=trials,
        reruns=reruns,
        verdicts=page.verdict_lines(numbers),
        cautions=cautions(numbers),
        metric=numbers.metric.label,
        share=numbers.metric.share,
        tuning_runs=study["tuning_runs"],
        results=tables.results(numbers),
        comparisons=tables.comparisons(numbers),
    )  # fmt: skip
    return text.strip() + "\n"


def _plots(record: Record, numbers: StudyNumbers) -> dict[str, dict[str, Any] | None]:
    return {
        f"hpo-figure-{figure.number}": None
        if figure.info is None
        else _titled(figures.draw_plotly(figure.info), f"Figure {figure.number}. {figure.title}")
        for figure in plan_stills(record, numbers)
    }


def _titled(drawing: dict[str, Any], title: str) -> dict[str, Any]:
    """The drawing with its title in it, as wide as the place it is shown in."""
    layout = {key: value for key, value in drawing["layout"].items() if key not in ("width", "template", "meta")}
    layout["title"] = {"text": title, "x": 0, "xref": "container", "font": {"size": 15}}
    layout["margin"] = {**layout.get("margin", {}), "t": 45}
    layout["font"] = {"color": GREY}
    return as_json({"data": list(drawing["data"]), "layout": layout})
