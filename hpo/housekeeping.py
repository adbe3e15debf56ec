"""Deleting, renaming, copying and merging the studies of databases: what `hpo delete` and its like call."""

import logging
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hpo.errors import UsageError, plural
from hpo.output_files import check_folder, writing
from hpo.storage.database import connect, existing_engine, is_read_only, writable_engine
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.ledger.definition_diff import same_definition
from hpo.storage.ledger.progress import duration
from hpo.storage.merging import merge_into
from hpo.storage.url import redacted
from hpo.storage.whole_study import read_whole, write_whole
from hpo.study.study_files import is_orphaned, renamed_command
from hpo.study.study_folders import rename_folders

NO_RESULTS = "no results"
OTHER_FILE = "give another file with --to"
SQLITE = b"SQLite format 3\0"  # the beginning of an exported study
log = logging.getLogger(__name__)


def contents(url: str, name: str) -> str:
    """What a study holds, in words: "24 trials, 9 reruns, about 3 minutes of training".

    Raises:
        UsageError: there is no such database or study.
    """
    counts = load_study(existing_engine(url), name).counts().values()
    trials, reruns = (sum(entry[f"{kind}_done"] for entry in counts) for kind in ("trials", "reruns"))
    if not trials and not reruns:
        return NO_RESULTS
    trained = duration(sum(entry["seconds"] for entry in counts)).removeprefix("about ")
    return f"{plural(trials, 'trial')} and {plural(reruns, 'rerun')} with their curves, about {trained} of training"


def delete(url: str, name: str) -> None:
    """Deletes a study with all its results, here and in Optuna's tables; reports stay.

    Raises:
        UsageError: there is no such study, or workers are training it.
    """
    from hpo.storage.optuna.studies import delete_study

    engine = writable_engine(url)
    load_study(engine, name)
    delete_study(engine, name)


def rename(url: str, name: str, new: str) -> list[str]:
    """Renames a study, the Optuna studies that show it, and its folders of weights and of TensorBoard's runs.

    Returns:
        What became of its files, a sentence each.

    Raises:
        UsageError: there is no such study, workers are training it, or the new name is taken or invalid.
    """
    from hpo.storage.optuna.studies import rename_study

    check_name(new)
    engine = writable_engine(url)
    load_study(engine, name)
    rename_study(engine, name, new, partial(renamed_command, new=new))
    return rename_folders(name, new)


def copy(url: str, name: str, to: str, new: str | None = None) -> Ledger:
    """Copies a study with all its results into a database, which is created if needed, and shows it in Optuna's tables.

    Raises:
        UsageError: there is no such study, workers are training it, or the name is taken there.
    """
    check_name(new or name)
    engine = existing_engine(url)
    load_study(engine, name)
    ledger = write_whole(connect(to), read_whole(engine, name), new or name)
    _show_in_optuna(ledger)
    return ledger


def merge(url: str, name: str, other: str, other_url: str | None = None) -> list[str]:
    """Adds the configurations that only the study `other` has to `name`, with their results; returns their names.

    Raises:
        UsageError: the studies differ in more than their configurations, or workers are training one of them.
    """
    from hpo.study.definition import digest

    engine = writable_engine(url)
    source = existing_engine(other_url) if other_url else engine
    ledger = load_study(engine, name)
    if ledger.id == load_study(source, other).id and engine.url == source.url:
        raise UsageError(f"{name} cannot be merged with itself; give another study")
    added = merge_into(engine, name, read_whole(source, other), digest)
    _show_in_optuna(load_study(engine, name))
    return added


def export_file(url: str, name: str, path: Path) -> None:
    """Writes a study with all its results into one file, a SQLite database with this study only.

    The file appears when it is complete: a process that is killed leaves none.

    Raises:
        UsageError: there is no such study, workers are training it, or the file exists.
        HpoError: the file cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists; give another --to, or delete it first")
    whole = read_whole(existing_engine(url), name)
    check_folder(path.parent, OTHER_FILE)
    with (
        writing(path, OTHER_FILE),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder,
    ):
        engine = connect(f"sqlite:///{Path(folder).absolute() / 'study.db'}")
        write_whole(engine, whole, name)
        engine.dispose()  # writes SQLite's log into the file
        (Path(folder) / "study.db").replace(path)


def import_file(path: Path, url: str, new: str | None = None) -> Ledger:
    """Reads a study from the file of `export_file` into a database.

    Raises:
        UsageError: the file is no such file, or the study's name is taken.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; `hpo export STUDY --format study` writes one")
    source = f"sqlite:///{path.absolute()}"
    with path.open("rb") as opened:
        if opened.read(len(SQLITE)) != SQLITE:
            raise UsageError(f"{path} is no exported study; `hpo export STUDY --format study` writes one")
    stored = names(existing_engine(source))
    if len(stored) != 1:
        raise UsageError(f"{path} holds {plural(len(stored), 'study', 'studies')}; use `hpo copy` for a whole database")
    return copy(source, stored[0], url, new)


def find_renamed(url: str, name: str, definition: Mapping[str, Any]) -> list[str]:
    """The studies with results, the definition of a study that is new, and a file that does not exist.

    The file of the new study may have been called like that before.
    """
    engine = connect(url)
    known = names(engine)
    ledgers = [] if name in known else [load_study(engine, other) for other in known]
    return [
        ledger.study
        for ledger in ledgers
        if is_orphaned(ledger.text.get("command", ""))
        and same_definition(ledger.definition, definition)
        and ledger.last_finished()
    ]


def check_name(name: str) -> None:
    """Raises UsageError unless a study may have this name."""
    from hpo.study.validation import check_study_name

    check_study_name(name)


def _show_in_optuna(ledger: Ledger) -> None:
    """Writes the trials, notes and figures of a study into Optuna's tables; its next worker repairs what is missing."""
    from hpo.dashboard.study_note import publish
    from hpo.report import read_record
    from hpo.storage.optuna.mirror import Mirror

    if is_read_only(ledger.engine):
        return
    try:
        Mirror(ledger).repair()
        publish(ledger, read_record(ledger))
    except Exception as error:  # the results are stored; only what Optuna shows of them is missing
        shown = redacted(ledger.engine.url.render_as_string(hide_password=True))
        log.warning("%s in %s is not shown in Optuna's dashboard yet (%s)", ledger.study, shown, error)
