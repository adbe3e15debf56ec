"""`hpo report`: reports and comparisons from the database."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.cli.options import Reports, Storage, app
from hpo.output import write_line


@app.command()
def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="Studies in the database: NAME or NAME:VARIANT.")
    ],
    storage: Storage = None,
    reports: Reports = Path("reports"),
    standalone: Annotated[bool, typer.Option("--standalone", help="Make report.html one self-contained file.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Write one page that compares these studies.")] = False,
) -> None:
    """Write reports from the database, also while a study runs."""
    from hpo import api
    from hpo.storage.database import existing_engine
    from hpo.storage.ledger import load_study
    from hpo.study import study_files

    engine = existing_engine(api.storage_url(storage))
    ledgers = [load_study(engine, name) for name in dict.fromkeys(map(study_files.study_name, studies))]
    if compare:
        path = api.compare(ledgers, reports, standalone)
        for name, verdicts in _results(path)["verdicts"].items():
            _print_lines(f"{name}: {verdict}" for verdict in verdicts)
        _print_paths(path, standalone)
        return
    for ledger in ledgers:
        path = api.report(ledger, reports, standalone)
        print_verdicts(path, standalone)


def print_verdicts(readme: Path, standalone: bool = False) -> None:
    """Prints a report's verdicts, a warning if there were few trials, and its path; of a standalone one both files."""
    from hpo.report.warnings import few_trials

    results = _results(readme)
    few = few_trials(results["study"]["definition"], results["study"]["trials"])
    _print_lines([*results["verdicts"], *([f"warning: {few}"] if few else [])])
    _print_paths(readme, standalone)


def _print_paths(readme: Path, standalone: bool) -> None:
    page = f", and in one file {readme.with_name('report.html')}" if standalone else ""
    write_line(f"report: {readme}{page}")


def _results(readme: Path) -> dict[str, Any]:
    return json.loads((readme.parent / "results.json").read_text(encoding="utf-8"))


def _print_lines(lines: Iterable[str]) -> None:
    """Prints lines of Markdown as plain text."""
    from hpo.report.wording import unescape

    for line in lines:
        write_line(unescape(line.replace("**", "")))
