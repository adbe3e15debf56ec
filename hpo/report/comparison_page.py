"""write_comparison: several studies become one page, with the verdicts of each and an overview of all."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpo.analysis.performance_profiles import profile_steps
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.analysis.study_comparison import StudyComparison, compare_studies
from hpo.diagnostics import described_words
from hpo.errors import plural
from hpo.output import visible
from hpo.report import page
from hpo.report.comparison_tables import TABLES
from hpo.report.effort_tables import best_scores, diagnostics, effort
from hpo.report.figure_plan import Figure, figure_of, forest_of
from hpo.report.figures.forest_grid import ForestGrid
from hpo.report.figures.profiles import Profiles
from hpo.report.figures.style import assign_styles
from hpo.report.results_json import as_json, write_results
from hpo.report.standalone import write_page
from hpo.report.warnings import find_warnings
from hpo.report.wording import escape, listed, verdict_lines

STUDY_TABLES = {table.__name__: table for table in (best_scores, effort, diagnostics)}


def write_comparison(records: Sequence[Record], folder: Path, command: str, standalone: bool = False) -> Path:
    """Writes README.md, report.html, results.json and figures/ for one study or more; returns README.md's path.

    Args:
        records: the studies, each at any stage of its life and each with its name in `study["name"]`.
        folder: created if needed; the page links the studies' reports next to it.
        command: the command line that reproduces the page. standalone: as in `write_report`.
    """
    comparison = compare_studies(records)
    figures = list(_figures(comparison))
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for earlier in (folder / "figures").glob("*.png"):
        earlier.unlink()
    for figure in figures:
        assert figure.chart is not None
        figure.chart.draw_png(folder / figure.path)
    contents = _page(comparison, figures, folder, command)
    readme = folder / "README.md"
    readme.write_text(page.markdown(contents), encoding="utf-8", newline="\n")
    verdicts = {numbers.study["name"]: verdict_lines(numbers) for numbers in comparison.studies}
    write_results({"verdicts": verdicts, **as_json(comparison)}, folder)
    write_page(page.html(contents), folder, standalone)
    return readme


def _figures(comparison: StudyComparison) -> Iterator[Figure]:
    baselines = {numbers.study["name"]: numbers.baseline.name for numbers in comparison.studies}
    grey = next(iter(baselines.values())) if len(set(baselines.values())) == 1 else ""
    styles = assign_styles([entry.name for entry in comparison.overall], grey)
    panels = {numbers.study["name"]: forest_of(numbers, styles) for numbers in comparison.studies}
    shown = {study: panel for study, panel in panels.items() if panel is not None}
    if shown:
        absent = [study for study in panels if study not in shown]
        addition = f" Not shown because they have no interval yet: {listed(absent)}." if absent else ""
        baselines = {study: baselines[study] for study in shown}
        names = {name for panel in shown.values() for name in panel.frame["configuration"]} | set(baselines.values())
        every = {**styles, **{name: style for panel in shown.values() for name, style in panel.styles.items()}}
        rows = {name: style for name, style in every.items() if name in names}
        yield figure_of(ForestGrid(panels=shown, baselines=baselines, styles=rows), "results", addition)
    if comparison.profiles:
        shared = {name: style for name, style in styles.items() if name in comparison.shared}
        yield figure_of(Profiles(frame=profile_steps(comparison.profiles), styles=shared), "analysis")


def _page(comparison: StudyComparison, figures: Sequence[Figure], folder: Path, command: str) -> page.Page:
    names = [numbers.study["name"] for numbers in comparison.studies]
    parts = [_part(numbers, folder) for numbers in comparison.studies]
    values = {
        "comparison": comparison,
        "studies": comparison.studies,
        "parts": parts,
        "shown": [name for name in STUDY_TABLES if any(part["tables"][name].rows for part in parts)],
        **_captions(comparison.studies),
        "notes": list(_notes(comparison)),
        "tables": {table.__name__: table(comparison) for table in TABLES},
        "command": visible(command),
    }
    heading = names[0] if len(names) == 1 else f"{listed(names)} side by side"
    return page.Page(heading, "comparison.md.jinja", values, figures)


def _part(numbers: StudyNumbers, folder: Path) -> dict[str, Any]:
    """The values that the page shows of one study."""
    name = numbers.study["name"]
    has_report = (folder.parent / name / "README.md").is_file()
    return {
        "name": escape(name),
        "title": escape(numbers.title),
        "link": f"../{name}/README.md" if has_report else "",
        "numbers": numbers,
        "verdicts": verdict_lines(numbers),
        "warnings": find_warnings(numbers),
        "tables": {name: table(numbers) for name, table in STUDY_TABLES.items()},
    }


def _captions(studies: Sequence[StudyNumbers]) -> dict[str, Any]:
    """What the captions of the studies' own tables have to say."""
    measured = [each for numbers in studies for each in numbers.definition.get("diagnostics", ())]
    return {
        "several_runs": any(numbers.study["tuning_runs"] > 1 for numbers in studies),
        "scheduled": any(numbers.definition["schedule"]["kind"] != "Constant" for numbers in studies),
        "diagnostics": list(dict.fromkeys(escape(described_words(each)) for each in measured)),
    }


def _notes(comparison: StudyComparison) -> Iterator[str]:
    """Whether the studies compare like with like, and where they do not."""
    if not any(entry.missing or entry.differs for entry in comparison.overall):
        yield "Every configuration is in every study, with the same definition"
    names_by_missing: dict[tuple[str, ...], list[str]] = {}
    for entry in comparison.overall:
        names_by_missing.setdefault(tuple(entry.missing), []).append(entry.name)
    for missing, names in names_by_missing.items():
        if missing:
            yield f"{_list(names)} {'is' if len(names) == 1 else 'are'} not in {_list(missing)}"
    names_by_difference: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for entry in comparison.overall:
        if entry.differs:
            names_by_difference.setdefault((tuple(entry.studies), tuple(entry.differs)), []).append(entry.name)
    for (studies, parts), names in names_by_difference.items():
        verb = "differs" if len(parts) == 1 else "differ"
        if len(names) == 1:
            words = f"{escape(names[0])} is not the same configuration"
        else:
            words = f"{_list(names)} are not the same configurations"
        yield f"{words} in {_list(studies)}: the {_list(parts)} {verb}"
    for same in comparison.same_runs:
        yield (
            f"The runs of {escape(same.name)} are the same ones in {_list(same.studies)} (equal settings, values and "
            "seeds), and the counts below count its verdict once"
        )
    shared = {frozenset(same.studies) for same in comparison.same_runs}
    for names in comparison.same_definition:
        if frozenset(names) in shared:
            continue
        yield f"{_list(names)} have the same definition, but the counts and profiles below count each of them"
    for names in comparison.same_data:
        again = list(_tuned_again(comparison, names))
        if names not in comparison.same_definition and again:
            verb = "was" if len(again) == 1 else "were"
            yield (
                f"{_list(names)} differ only in their configurations: {_list(again)} {verb} tuned and rerun in several "
                "of them, on the same data and seeds, which is no independent evidence"
            )
    for noun, values in (
        ("different baseline", [numbers.baseline.name for numbers in comparison.studies]),
        ("different metric", [numbers.metric.label for numbers in comparison.studies]),
    ):
        distinct = list(dict.fromkeys(values))
        if len(distinct) > 1:
            yield f"The studies have {plural(len(distinct), noun)}: {_list(distinct)}"


def _tuned_again(comparison: StudyComparison, names: Sequence[str]) -> Iterator[str]:
    """The configurations that several of these studies have and for which their runs differ."""
    for entry in comparison.overall:
        studies = {name for name in entry.studies if name in names}
        same = [set(group.studies) for group in comparison.same_runs if group.name == entry.name]
        if len(studies) > 1 and not any(studies <= group for group in same):
            yield entry.name


def _list(names: Sequence[str]) -> str:
    """A, B and C, as Markdown."""
    return listed([escape(name) for name in names])
