"""`hpo merge`: the configurations of one study in another."""

from typing import Annotated

import typer

from hpo.cli.options import Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def merge(
    study: StoredStudy,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The study whose configurations are added.")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="The database of OTHER; default: the same.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Add the configurations of another study with the same data, model, budget and seeds, with their results."""
    from hpo import api, housekeeping
    from hpo.study.study_files import study_name

    name, other_name = study_name(study), study_name(other)
    added = housekeeping.merge(api.storage_url(storage), name, other_name, source)
    if not added:
        write_line(f"{name} has all configurations of {other_name} already")
        return
    write_line(f"added to {name}: {', '.join(added)}; add them to its file as well before the next `hpo run {study}`")
