"""`hpo export`: a study's tables as files, or the whole study as one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import Storage, StoredStudy, app
from hpo.output import write_line


class Format(StrEnum):
    """The kinds of files."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    STUDY = "study"


@app.command()
def export(
    study: StoredStudy,
    format: Annotated[
        Format, typer.Option("--format", help="The kind of files; study: everything in one file for `hpo import`.")
    ] = Format.CSV,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="PATH", help="The folder, or the file of a whole study; default: exports/STUDY."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Write trials, reruns, curves, verdicts and best settings as tables, or the whole study as one file."""
    from hpo import api, housekeeping, notebooks
    from hpo.report.export import export_tables
    from hpo.study.study_files import study_name

    if format is Format.STUDY:
        name = study_name(study)
        path = to or Path("exports") / f"{name}.hpo"
        housekeeping.export_file(api.storage_url(storage), name, path)
        write_line(str(path))
        return
    results = notebooks.results(study, storage)
    for path in export_tables(results, to or Path("exports") / results.name, format.value):
        write_line(str(path))
