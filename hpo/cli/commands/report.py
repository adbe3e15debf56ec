"""The command that writes reports: `hpo report`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.cli.options import Reports, Storage, app


@app.command()
def report(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="Names of studies in the database.")],
    storage: Storage = None,
    reports: Reports = Path("reports"),
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Put everything that report.html shows into that one file.")
    ] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Write one page about all these studies.")] = False,
) -> None:
    """Rebuild reports from the database alone; works while a study runs."""
    from hpo import api
    from hpo.cli.terminal.status import open_known
    from hpo.errors import UsageError
    from hpo.storage.database import connect
    from hpo.storage.url import check_folder, exists, read, redacted
    from hpo.study import loading

    url = api.storage_url(storage)
    if not exists(url):  # reading makes no database
        check_folder(read(url))
        raise UsageError(f"there is no database {redacted(url)} yet; `hpo run STUDY` makes it, --storage names another")
    engine = connect(url)
    ledgers = [open_known(engine, name) for name in dict.fromkeys(map(loading.study_name, studies))]
    if compare:
        path = api.compare(ledgers, reports, standalone)
        for name, lines in json.loads((path.parent / "results.json").read_text(encoding="utf-8"))["verdicts"].items():
            _print_lines(f"{name}: {line}" for line in lines)
        typer.echo(f"report: {path}")
        return
    for ledger in ledgers:
        path = api.report(ledger, reports, loading.STUDIES / f"{ledger.study}.md", standalone)
        print_verdicts(path)
        typer.echo(f"report: {path}")


def print_verdicts(readme: Path) -> None:
    """The verdict lines at the top of a report, and a line where trials were few."""
    from hpo.report.warnings import few_trials

    results: dict[str, Any] = json.loads((readme.parent / "results.json").read_text(encoding="utf-8"))
    few = few_trials(results["study"]["definition"], results["study"]["trials"])
    _print_lines([*results["verdicts"], *([f"warning: {few}"] if few else [])])


def _print_lines(lines: Iterable[str]) -> None:
    """Lines of Markdown as plain ones."""
    for line in lines:
        typer.echo(line.replace("\\", "").replace("**", ""))
