"""write_report: a record becomes a folder of text, pictures and tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.selection import superseded
from hpo.output import visible
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.latex import latex
from hpo.report.page import html, markdown
from hpo.report.report_page import report_page
from hpo.report.results_json import as_json, write_results
from hpo.report.standalone import write_page
from hpo.report.warnings import find_warnings
from hpo.report.wording import verdict_lines

FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
    "'",
)  # how a formula begins, and the mark of a text


def write_report(
    record: Record,
    folder: Path,
    study_name: str,
    commands: Sequence[str],
    analysis: str | None = None,
    standalone: bool = False,
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

    Returns:
        The path of README.md.
    """
    record = record._replace(study={**record.study, "name": study_name})
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    numbers = compute_numbers(record)
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
    """Draws the figures that Markdown shows, and deletes those of an earlier report that have no chart now."""
    for figure in figures:
        if figure.in_markdown and figure.chart is not None:
            figure.chart.draw_png(folder / figure.path)
        else:
            (folder / figure.path).unlink(missing_ok=True)


def _write_csv_files(record: Record, folder: Path) -> None:
    """Writes trials and reruns by slot, and the curves of each by epoch with one column for each metric.

    The curves of trials have their own file: they are ten times as long as the rest, and no figure shows them.
    """
    by_metric = record.curves.pivot(index=["slot_id", "epoch"], columns="metric", values="value").reset_index("epoch")
    by_metric.columns.name = None
    for phase, name, curves in (("tune", "trials.csv", "trial_curves.csv"), ("rerun", "reruns.csv", "curves.csv")):
        slots = record.slots[record.slots.phase == phase]
        table = _slot_table(slots)
        if phase == "rerun":
            table.insert(list(table).index("round") + 1, "superseded", superseded(slots))
        _write_csv(table, folder / name)
        keys = slots.set_index("id")[["configuration", "phase", "tuning_run", "round", "slot", "seed"]]
        table = keys.join(by_metric, how="inner")
        unknown = [metric for metric in by_metric if len(table) and table[metric].isna().all()]
        _write_csv(table.drop(columns=unknown), folder / curves)


def _slot_table(slots: pd.DataFrame) -> pd.DataFrame:
    """Slots with a column for each entry of their settings and results.

    Except for their seconds these follow from the plan: not from lost workers, nor from which worker came first.
    """
    plain = slots[["configuration", "tuning_run", "round", "slot", "seed", "state", "cause", "value", "seconds"]]
    spread = []
    for column, kind in (("setting", object), ("result", None)):  # whole numbers and texts of settings stay as they are
        rows = [entry if isinstance(entry, dict) else {} for entry in slots[column]]
        spread.append(pd.DataFrame(rows, index=slots.index, dtype=kind).add_prefix(f"{column}/"))
    return pd.concat([plain, *spread], axis="columns")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table in which spreadsheets run no text as a formula: such a text has an apostrophe in front.

    So has one that begins with an apostrophe itself, so that taking one away gives every text back, except for control
    characters: they stand as escapes, since a carriage return would end the row for some readers.
    """
    safe = frame.rename(columns=_as_text)
    for column in safe.select_dtypes(exclude=["number", "bool"]):
        # As objects: pandas would make 64.0 of a 64 above an empty cell.
        safe[column] = pd.Series([_as_text(value) for value in safe[column]], index=safe.index, dtype=object)
    safe.to_csv(path, index=False, lineterminator="\n")


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value, keep="\n\t")
    return f"'{text}" if text.startswith(FORMULA) else text
