"""write_comparison: several studies become one page, with a verdict for each and an overview of all."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hpo.analysis.performance_profiles import profile_steps
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.study_comparison import StudyComparison, compare_studies
from hpo.errors import plural
from hpo.report import comparison_tables, figures, formatting, page
from hpo.report.figure_plan import Figure, drawn, plan_differences
from hpo.report.formatting import escape
from hpo.report.results_json import as_json, write_results
from hpo.report.standalone import write_page
from hpo.report.warnings import cautions

TABLES = ("reached", "differences", "overall", "profiles", "times_to_target")


def write_comparison(records: Sequence[Record], folder: Path, command: str, standalone: bool = False) -> Path:
    """Writes README.md, report.html, results.json and figures/ for one study or more; returns README.md's path.

    Args:
        records: the studies, each at any moment of its life; each with its name in `study["name"]`.
        folder: made if needed; the studies' own reports are looked for beside it.
        command: the command line that remakes the page. standalone: as in `write_report`.
    """
    comparison = compare_studies(records)
    folder.mkdir(parents=True, exist_ok=True)
    planned = list(_figures(comparison))
    (folder / "figures").mkdir(exist_ok=True)
    for earlier in (folder / "figures").glob("*.png"):
        earlier.unlink()
    for figure in planned:
        figures.draw_png(figure.info, folder / figure.path)  # type: ignore[arg-type]
    body = _body(comparison, planned, folder, command)
    readme = folder / "README.md"
    readme.write_text(page.as_markdown(body), encoding="utf-8", newline="\n")
    verdicts = {numbers.study["name"]: page.verdict_lines(numbers) for numbers in comparison.studies}
    write_results({"verdicts": verdicts, **as_json(comparison)}, folder)
    write_page(page.as_html(_title(comparison), planned, body), folder, standalone)
    return readme


def _figures(comparison: StudyComparison) -> Iterator[Figure]:
    baselines = {numbers.study["name"]: numbers.baseline.name for numbers in comparison.studies}
    grey = next(iter(baselines.values())) if len(set(baselines.values())) == 1 else ""
    styles = figures.assign_styles([entry.name for entry in comparison.overall], grey)
    panels = {numbers.study["name"]: plan_differences(numbers, styles) for numbers in comparison.studies}
    found = {study: panel for study, panel in panels.items() if panel is not None}
    if found:
        absent = [study for study in panels if study not in found]
        ending = f" Not shown, for they have no interval yet: {formatting.listed(absent)}." if absent else ""
        info = figures.forests(found, {study: baselines[study] for study in found}, styles)
        yield drawn(info, "results", ending)
    if comparison.profiles:
        own = {name: style for name, style in styles.items() if name in comparison.shared}
        yield drawn(figures.performance_profiles(profile_steps(comparison.profiles), own), "results")


def _body(comparison: StudyComparison, planned: Sequence[Figure], folder: Path, command: str) -> page.Body:
    def body(author: Callable[[str], str], picture: Callable[[Figure], str]) -> str:
        template = page.environment(author, picture).get_template("comparison.md.jinja")
        text = template.render(
            comparison=comparison,
            studies=comparison.studies,
            title=escape(_title(comparison)),
            parts=[_part(numbers, folder) for numbers in comparison.studies],
            notes=list(_notes(comparison)),
            tables={name: getattr(comparison_tables, name)(comparison) for name in TABLES},
            figures={figure.slug: figure for figure in planned},
            command=command,
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

    return body


def _part(numbers: StudyNumbers, folder: Path) -> dict[str, Any]:
    name = numbers.study["name"]
    written = (folder.parent / name / "README.md").is_file()
    return {
        "name": escape(name),
        "title": escape(numbers.study["text"].get("title") or name),
        "link": f"../{name}/README.md" if written else "",
        "numbers": numbers,
        "verdicts": page.verdict_lines(numbers),
        "cautions": cautions(numbers),
    }


def _title(comparison: StudyComparison) -> str:
    names = [numbers.study["name"] for numbers in comparison.studies]
    return names[0] if len(names) == 1 else f"{formatting.listed(names)} side by side"


def _notes(comparison: StudyComparison) -> Iterator[str]:
    """Whether the studies are compared like with like, and what keeps them from it."""
    if not any(entry.missing or entry.differs for entry in comparison.overall):
        yield "Every configuration is in every study, and defined there alike"
    names_by_missing: dict[tuple[str, ...], list[str]] = {}
    for entry in comparison.overall:
        names_by_missing.setdefault(tuple(entry.missing), []).append(entry.name)
    for studies, names in names_by_missing.items():
        if studies:
            verb, what = ("is", "it has") if len(names) == 1 else ("are", "they have")
            yield f"{_listed(names)} {verb} not in {_listed(studies)}: {what} no numbers there"
    for entry in comparison.overall:
        if entry.differs:
            yield (
                f"{escape(entry.name)} is not the same configuration in {_listed(entry.studies)}: "
                f"its {_listed(entry.differs)} {'differs' if len(entry.differs) == 1 else 'differ'}"
            )
    for names in comparison.same_definition:
        taken = f"which the counts and profiles below take for {len(names)} studies"
        yield f"{_listed(names)} share one definition, {taken}"
    for names in comparison.same_data:
        if names not in comparison.same_definition:
            yield (
                f"{_listed(names)} differ in nothing but their configurations: what several of them have was tuned "
                "anew in each, on the same data and seeds, and is no independent evidence"
            )
    baselines = list(dict.fromkeys(numbers.baseline.name for numbers in comparison.studies))
    if len(baselines) > 1:
        yield f"The studies have {plural(len(baselines), 'different baseline')}: {_listed(baselines)}"
    metrics = list(dict.fromkeys(numbers.metric.label for numbers in comparison.studies))
    if len(metrics) > 1:
        yield f"The studies compare {plural(len(metrics), 'different metric')}: {_listed(metrics)}"


def _listed(names: Sequence[str]) -> str:
    """A, B and C, as Markdown."""
    return formatting.listed([formatting.escape(name) for name in names])
