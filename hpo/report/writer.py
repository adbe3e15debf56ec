"""write_report: a record becomes a folder of text, pictures and tables."""

from collections.abc import Sequence
from pathlib import Path

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers
from hpo.report.csv_file import write_csv
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.latex import latex
from hpo.report.page import html, markdown
from hpo.report.record_tables import TABLES, record_table
from hpo.report.report_page import report_page
from hpo.report.results_json import as_json, write_results
from hpo.report.standalone import write_page
from hpo.report.warnings import find_warnings
from hpo.report.wording import verdict_lines


def write_report(
    record: Record,
    folder: Path,
    study_name: str,
    commands: Sequence[str],
    analysis: str | None = None,
    standalone: bool = False,
    numbers: StudyNumbers | None = None,
) -> Path:
    """Writes README.md, report.html, figures/, the record as CSV, results.json and results.tex.

    Args:
        record: the study, at any stage of its life. The same record gives the same bytes.
        folder: created if needed; files of an earlier report are replaced.
        study_name: the report's title where the author gave none.
        commands: command lines for the section Reproduce.
        analysis: the author's Markdown, put after the generated analysis.
        standalone: whether report.html contains everything that it shows; otherwise it needs the plotly.min.js that is
            put next to `folder`, where all reports share it.
        numbers: those of the record, if they are known already.

    Returns:
        The path of README.md.
    """
    record = record._replace(study={**record.study, "name": study_name})
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    numbers = numbers or compute_numbers(record)
    figures = plan_figures(record, numbers)
    _draw_pngs(figures, folder)
    page = report_page(numbers, figures, commands, analysis)
    readme = folder / "README.md"
    readme.write_text(markdown(page), encoding="utf-8", newline="\n")
    write_results({"verdicts": verdict_lines(numbers), "warnings": find_warnings(numbers), **as_json(numbers)}, folder)
    (folder / "results.tex").write_text(latex(numbers), encoding="utf-8", newline="\n")
    _write_csv_files(record, folder)
    write_page(html(page), folder, standalone)
    return readme


def _draw_pngs(figures: Sequence[Figure], folder: Path) -> None:
    """Draws the figures, and deletes those of an earlier report that have no chart now."""
    for figure in figures:
        if figure.chart is not None:
            figure.chart.draw_png(folder / figure.path)
        else:
            (folder / figure.path).unlink(missing_ok=True)


def _write_csv_files(record: Record, folder: Path) -> None:
    for name in TABLES:  # one at a time: they may be large
        write_csv(record_table(record, name), folder / f"{name}.csv")
