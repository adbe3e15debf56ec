"""`hpo rename`: another name for a study in the database."""

from typing import Annotated

import typer

from hpo.cli.options import Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def rename(
    study: StoredStudy,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    storage: Storage = None,
) -> None:
    """Rename a study in the database, such as after its file was renamed."""
    from hpo import api, housekeeping
    from hpo.study.study_files import study_name

    name, new_name = study_name(study), study_name(new)
    files = housekeeping.rename(api.storage_url(storage), name, new_name)
    write_line(f"renamed {name} to {new_name}; `hpo report {new}` writes its report anew")
    for sentence in files:
        write_line(sentence)
