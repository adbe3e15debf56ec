"""`hpo copy`: a study into another database."""

from typing import Annotated

import typer

from hpo.cli.options import Name, Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def copy(
    study: StoredStudy,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The database that gets the study.")],
    name: Name = None,
    storage: Storage = None,
) -> None:
    """Copy a study with all its results into another database."""
    from hpo import api, housekeeping
    from hpo.storage.url import redacted
    from hpo.study.study_files import study_name

    ledger = housekeeping.copy(api.storage_url(storage), study_name(study), to, name)
    write_line(f"copied {study_name(study)} to {redacted(to)} as {ledger.study}")
