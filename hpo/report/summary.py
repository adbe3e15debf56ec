"""A summary of a report for Optuna's dashboard: the verdicts, T1 and T2 as a note, and the figures as plots."""

from typing import Any, NamedTuple
from urllib.parse import quote

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.report.figure_plan import plan_summary_figures
from hpo.report.figures.plotly_layout import fit_panels
from hpo.report.page import render_template
from hpo.report.results_json import as_json
from hpo.report.tables import comparisons, results, tuned_so_far
from hpo.report.warnings import find_warnings
from hpo.report.wording import escape, short_verdicts, verdict_lines

CARD = (540, 450)  # pixels of optuna-dashboard's card for a plot on a page of 1280
TOP = 45  # pixels for the title
GREY = "#7f8791"  # readable on white and on black: a plot cannot know the background of the dashboard


class Summary(NamedTuple):
    """What the dashboard shows of a report.

    Attributes:
        note: Markdown.
        plots: identifier → data and layout for plotly.js; None while there is nothing to draw.
        verdicts: one for each planned comparison that has one, as plain text.
    """

    note: str
    plots: dict[str, dict[str, Any] | None]
    verdicts: list[str]


def summarise(record: Record, numbers: StudyNumbers | None = None) -> Summary:
    """The summary of a study at any stage of its life; `numbers` are those of the record, if they are known already."""
    numbers = numbers or compute_numbers(record)
    plots = {
        f"hpo-figure-{figure.number}": None
        if figure.chart is None
        else _add_title(figure.chart.draw_plotly(), f"Figure {figure.number}. {figure.title}")
        for figure in plan_summary_figures(record, numbers)
    }
    return Summary(_note(numbers), plots, short_verdicts(numbers))


def _note(numbers: StudyNumbers) -> str:
    phases = [[getattr(entry, phase) for entry in numbers.configurations] for phase in ("tuning", "reruns")]
    trials, reruns = (
        f"{sum(part.finished for part in parts)} of {sum(part.planned for part in parts)}" for parts in phases
    )
    text = render_template(
        "summary.md.jinja",
        title=escape(numbers.title),
        link=f"/reports/{quote(numbers.study['name'])}/",
        trials=trials,
        reruns=reruns,
        verdicts=verdict_lines(numbers),
        warnings=find_warnings(numbers),
        numbers=numbers,
        tuned=None if any(part.finished for part in phases[1]) else tuned_so_far(numbers),
        results=results(numbers),
        comparisons=comparisons(numbers),
    )
    return text.strip() + "\n"


def _add_title(drawing: dict[str, Any], title: str) -> dict[str, Any]:
    """The drawing with its title in it, as wide as the element that shows it."""
    layout = {key: value for key, value in drawing["layout"].items() if key not in ("width", "template", "meta")}
    layout["title"] = {"text": title, "x": 0, "xref": "container", "font": {"size": 15}}
    layout["margin"] = {**layout.get("margin", {}), "t": TOP}
    if "xaxis2" in layout:  # several panels: wider and higher than the card
        fit_panels(layout, *CARD, TOP)
    layout["font"] = {"color": GREY}
    return as_json({"data": drawing["data"], "layout": layout})
