"""`hpo import`: a study from one file into the database."""

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import Name, Storage, app
from hpo.output import write_line


@app.command("import")
def import_study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by `hpo export STUDY --format study`.")],
    name: Name = None,
    storage: Storage = None,
) -> None:
    """Read a study from a file into the database."""
    from hpo import api, housekeeping

    ledger = housekeeping.import_file(file, api.storage_url(storage), name)
    write_line(f"imported {ledger.study}")
