"""`hpo export`: a study's tables as files."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import Storage, app
from hpo.output import write_line


class Format(StrEnum):
    """The kinds of files."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@app.command()
def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database: NAME or NAME:VARIANT.")],
    format: Annotated[Format, typer.Option("--format", help="The kind of files.")] = Format.CSV,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to write; default: exports/STUDY.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write trials, reruns, curves, verdicts and best settings as tables."""
    from hpo import api
    from hpo.report.export import export_tables

    results = api.results(study, storage)
    for path in export_tables(results, to or Path("exports") / results.name, format.value):
        write_line(str(path))
