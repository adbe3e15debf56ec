"""`hpo delete`: a study with all its results."""

import shlex

from hpo.cli.confirmation import Yes, confirm_deletion
from hpo.cli.options import Storage, StoredStudy, app
from hpo.output import write_line


@app.command()
def delete(study: StoredStudy, storage: Storage = None, yes: Yes = False) -> None:
    """Delete a study with all its results from the database."""
    from hpo import api, housekeeping
    from hpo.study.study_files import study_name
    from hpo.study.study_folders import study_folders

    url, name = api.storage_url(storage), study_name(study)
    folders = study_folders(name)
    kept, stay = " ".join(shlex.quote(str(folder)) for folder in folders), "stays" if len(folders) == 1 else "stay"
    confirm_deletion(name, housekeeping.contents(url, name) + (f"; {kept} {stay}" if kept else ""), yes)
    housekeeping.delete(url, name)
    write_line(f"deleted {name}" + (f"; its files stay, and `rm -r {kept}` deletes them" if kept else ""))
