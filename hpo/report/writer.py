"""write_report: a record becomes a folder of text, pictures and tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record
from hpo.analysis.selection import superseded
from hpo.report import figures, page
from hpo.report.figure_plan import Figure, plan_figures
from hpo.report.latex import latex
from hpo.report.results_json import as_json, write_results
from hpo.report.standalone import write_page
from hpo.report.warnings import cautions


def write_report(
    record: Record,
    folder: Path,
    study_name: str,
    reproduce: Sequence[str],
    analysis: str | None = None,
    standalone: bool = False,
) -> Path:
    """Writes README.md, report.html, figures/, the record as CSV, results.json and results.tex.

    Args:
        record: the study, at any moment of its life. The same record gives the same bytes.
        folder: made if needed; files of an earlier report are replaced.
        study_name: the report's title where the author gave none.
        reproduce: command lines for the Reproduce section.
        analysis: the author's own Markdown, put behind the generated analysis.
        standalone: report.html holds everything that it shows; else it needs the plotly.min.js that is put beside
            `folder`, where all reports share it.

    Returns:
        The path of README.md.
    """
    record = record._replace(study={**record.study, "name": study_name})
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    numbers = compute_numbers(record)
    planned = plan_figures(record, numbers)
    _draw_stills(planned, folder)
    whole = page.Page(numbers, planned, list(reproduce), analysis)
    readme = folder / "README.md"
    readme.write_text(page.markdown(whole), encoding="utf-8", newline="\n")
    write_results({"verdicts": page.verdict_lines(numbers), "warnings": cautions(numbers), **as_json(numbers)}, folder)
    (folder / "results.tex").write_text(latex(numbers), encoding="utf-8", newline="\n")
    _write_tables(record, folder)
    write_page(page.html(whole), folder, standalone)
    return readme


def _draw_stills(planned: Sequence[Figure], folder: Path) -> None:
    """Draws the PNGs of the figures that have one, and takes away those of an earlier report that no longer do."""
    for figure in planned:
        if figure.still and figure.info is not None:
            figures.draw_png(figure.info, folder / figure.path)
        else:
            (folder / figure.path).unlink(missing_ok=True)


def _write_tables(record: Record, folder: Path) -> None:
    """The record as CSV: trials and reruns by slot, the curves of each by epoch with one column a metric.

    The trials' curves are ten times as long as the rest, and no figure shows them: they have a file of their own.
    """
    wide = record.curves.pivot(index=["slot_id", "epoch"], columns="metric", values="value").reset_index("epoch")
    wide.columns.name = None
    for phase, name, curves in (("tune", "trials.csv", "trial_curves.csv"), ("rerun", "reruns.csv", "curves.csv")):
        slots = record.slots[record.slots.phase == phase]
        flat = _flat(slots)
        if phase == "rerun":
            flat.insert(list(flat).index("round") + 1, "superseded", superseded(slots))
        _write_csv(flat, folder / name)
        keys = slots.set_index("id")[["configuration", "phase", "tuning_run", "round", "slot", "seed"]]
        found = keys.join(wide, how="inner")
        unknown = [name for name in wide if len(found) and found[name].isna().all()]
        _write_csv(found.drop(columns=unknown), folder / curves)


def _flat(slots: pd.DataFrame) -> pd.DataFrame:
    """Slots with their settings and results spread over columns of their own.

    But for their seconds these follow from the plan: not from how often a worker was lost, nor from who came first.
    """
    plain = [
        "configuration",
        "tuning_run",
        "round",
        "slot",
        "seed",
        "state",
        "cause",
        "value",
        "seconds",
    ]
    spread = [
        pd.DataFrame([entry if isinstance(entry, dict) else {} for entry in slots[column]], index=slots.index)
        for column in ("setting", "result")
    ]
    spread = [
        frame.rename(columns=lambda key, prefix=prefix: f"{prefix}{key}")
        for frame, prefix in zip(spread, ("setting/", "result/"), strict=True)
    ]
    return pd.concat([slots[plain], *spread], axis="columns")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")
