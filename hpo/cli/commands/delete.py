"""`hpo delete`: a study with all its results."""

from hpo.cli.confirmation import Yes, confirm_deletion
from hpo.cli.options import Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def delete(study: StoredStudy, storage: Storage = None, yes: Yes = False) -> None:
    """Delete a study with all its results from the database."""
    from hpo import api, housekeeping
    from hpo.study.study_files import study_name

    url, name = api.storage_url(storage), study_name(study)
    confirm_deletion(name, housekeeping.contents(url, name), yes)
    housekeeping.delete(url, name)
    write_line(f"deleted {name}")
