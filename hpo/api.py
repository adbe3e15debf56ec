"""A study from definition to report, as the command line and notebooks run it; nothing is trained here."""

import dataclasses
import hashlib
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpo.errors import UsageError
from hpo.output_files import check_folder, writing
from hpo.storage import transactions
from hpo.storage.database import connect, connect_existing, is_read_only
from hpo.storage.ledger import Ledger, load_study, names, open_study
from hpo.storage.ledger.added_configurations import check_none_is_missing, find_added
from hpo.storage.ledger.definition_diff import describe_changes, describe_code_changes, same_definition
from hpo.storage.ledger.planning import PLANNED, words
from hpo.storage.url import exists
from hpo.study.study import Study
from hpo.study.validation import planned_tuning_runs
from hpo.trials import tunes

log = logging.getLogger(__name__)

OTHER_REPORTS = "give another --reports folder, or change its permissions"
MAX_FOLDER_NAME = 100  # characters of a comparison's folder


def storage_url(given: str | None) -> str:
    """The database's URL: `given`, else `HPO_STORAGE`, else `OPTUNA_STORAGE`, else a SQLite file in this folder."""
    return given or os.environ.get("HPO_STORAGE") or os.environ.get("OPTUNA_STORAGE") or "sqlite:///hpo.db"


def with_overrides(study: Study, name: str | None, epochs: int | None) -> Study:
    """The study with another name, or with other epochs for trials and reruns."""
    changes: dict[str, object] = {"name": name} if name else {}
    if epochs is not None:
        changes |= {"epochs": epochs, "tuning_epochs": None}
    return dataclasses.replace(study, **changes) if changes else study  # type: ignore[arg-type]


def open_ledger(
    study: Study,
    url: str,
    trials: int | None = None,
    seeds: int | None = None,
    tuning_runs: int | None = None,
    command: str = "",
    fresh: bool = False,
    accept_changed_code: bool = False,
) -> Ledger:
    """Opens the study in the database, or creates it.

    Args:
        trials, seeds, tuning_runs: planned numbers instead of the study's own. A study in the database keeps its
            numbers where none is given; they can only be raised.
        command: the command line for the report's section Reproduce; flags for earlier planned numbers are added.
        fresh: first delete everything that the database has under this name.
        accept_changed_code: keep results of the old code next to those of the new one; the report says so.

    Raises:
        UsageError: the study exists with a definition that differs in more than added configurations, or its code
            changed after the first trials.
    """
    from hpo.storage.ledger.changed_code import CODE
    from hpo.study.code_users import code_users
    from hpo.study.components import explanations
    from hpo.study.definition import describe, digest
    from hpo.study.directions import metric_directions
    from hpo.study.fingerprint import fingerprint

    if not study.name:
        raise UsageError("the study has no name; give Study(name=...)")
    engine = connect(url)
    exists = not fresh and study.name in names(engine)
    earlier = load_study(engine, study.name) if exists else None
    stored = earlier.planned if earlier else None
    flags = {"trials": trials, "seeds": seeds, "tuning_runs": tuning_runs}
    given = {key: number for key, number in flags.items() if number is not None}
    runs = planned_tuning_runs(study.tuning_runs, seeds or (stored or {}).get("seeds", study.seeds))
    file_numbers = {"trials": study.trials, "seeds": study.seeds, "tuning_runs": runs}
    planned = (stored or file_numbers) | given
    if not stored:
        dataclasses.replace(study, **planned)  # type: ignore[arg-type]  # checks the numbers before a deletion
    shown = _with_planned(command or f"hpo run {study.name}", planned, file_numbers)
    of_parts = {"methods": explanations(study), "directions": metric_directions(study)}
    text = {"title": study.title, "hypothesis": study.hypothesis, "command": shown, **of_parts}
    text[CODE] = code_users(study)
    description = describe(study)
    if trials is not None and all(entry["trials"] or not tunes(entry) for entry in description["configurations"]):
        raise UsageError(
            f"--trials {trials} has no effect: each configuration of {study.name} has its own number of trials, in its "
            "file or by its grid, or nothing to tune; leave --trials out"
        )
    identity = (description, digest(description), planned, text, fingerprint(study))
    if fresh:
        from hpo.storage.optuna.studies import delete_study

        delete_study(engine, study.name)
    ledger = open_study(engine, study.name, *identity, given, accept_changed_code)
    if earlier and stored:
        ledger.warnings += _added_hints(earlier, ledger)
        ledger.warnings += _raise_hints(study.name, stored, file_numbers, given)
        ledger.reopen_lost()
        if ledger.state() == "done":  # no worker will look for enqueued settings
            from hpo.storage.optuna.enqueued_settings import refuse_enqueued

            ledger.warnings += refuse_enqueued(ledger)
    return ledger


def join_ledger(study: Study, url: str, accept_changed_code: bool = False, command: str = "") -> Ledger:
    """Opens the study for a worker, with the numbers planned in the database; the first worker creates it.

    Args:
        accept_changed_code, command: as for `open_ledger`.

    Raises:
        UsageError: the study in the database has another definition, or its code changed; see `open_ledger`.
    """
    from hpo.study.definition import describe
    from hpo.study.fingerprint import fingerprint

    engine = connect(url, transactions.RETRY_TIMEOUT)  # a worker may start during an outage
    if study.name not in names(engine):
        return open_ledger(study, url, command=command)
    ledger, definition = load_study(engine, study.name), describe(study)
    check_none_is_missing(study.name, ledger.definition, definition)
    added = find_added(ledger.definition, definition)
    if not added and not same_definition(ledger.definition, definition):
        raise UsageError(
            f"study {study.name!r} exists with another definition ({describe_changes(ledger.definition, definition)}); "
            "use the same file and the same --epochs as `hpo run`, or another --name"
        )
    if added or fingerprint(study) != ledger.fingerprint:
        command = ledger.text.get("command", "")
        return open_ledger(study, url, command=command, accept_changed_code=accept_changed_code)
    ledger.reopen_lost()
    return ledger


def find_ledger(study: Study, url: str) -> Ledger | None:
    """The study in the database as it is there, without any change; None if the database does not have it.

    Raises:
        UsageError: the study in the database has another definition or other code.
    """
    from hpo.study.definition import describe
    from hpo.study.fingerprint import fingerprint

    engine = connect_existing(url) if exists(url) else None
    if engine is None or study.name not in names(engine):
        return None
    ledger, definition = load_study(engine, study.name), describe(study)
    check_none_is_missing(study.name, ledger.definition, definition)
    changes = describe_changes(ledger.definition, definition)
    if not changes and fingerprint(study) != ledger.fingerprint:
        changes = describe_code_changes(ledger.fingerprint, fingerprint(study))
    if changes:
        raise UsageError(
            f"study {study.name!r} in the database differs from its file ({changes}); give the same --epochs as to "
            "`hpo run`, undo the change, or give another --storage"
        )
    return ledger


def report(ledger: Ledger, reports: Path, standalone: bool = False) -> Path:
    """Writes the study's report below `reports`, and its summary for the dashboard; returns the report's README.md.

    The author's own text is read from the file that `hpo.study.author_text.author_file` finds. A database that cannot
    be written stays as it is.

    Args:
        standalone: put everything into report.html.
    """
    from hpo.analysis.compute import compute_numbers
    from hpo.dashboard.study_note import publish
    from hpo.report import read_record, write_report
    from hpo.study.author_text import read_author_text

    record = read_record(ledger)
    numbers = compute_numbers(record)
    command = record.study["text"]["command"]
    text = read_author_text(ledger.study, command)
    folder = reports / ledger.study
    with writing(folder, OTHER_REPORTS):
        path = write_report(record, folder, ledger.study, [command], text, standalone, numbers)
    if is_read_only(ledger.engine):
        return path
    ledger.note_report()
    try:
        publish(ledger, record, numbers)
    except Exception as error:  # an old summary in Optuna's dashboard does no harm; a failed report would
        log.warning("the summary of %s in Optuna's dashboard was not updated (%s)", ledger.study, error)
    return path


def compare(ledgers: Sequence[Ledger], reports: Path, standalone: bool = False) -> Path:
    """Writes one page about several studies below `reports`; returns its README.md."""
    from hpo.report import read_record, write_comparison

    names = [ledger.study for ledger in ledgers]
    folder = f"compare-{'-'.join(names)}"
    if len(folder) > MAX_FOLDER_NAME:
        digest = hashlib.sha256("/".join(names).encode()).hexdigest()[:8]
        folder = f"compare-{names[0]}-and-{len(names) - 1}-more-{digest}"
    command = shlex.join(["hpo", "report", *names, "--compare"])
    records = [read_record(ledger) for ledger in ledgers]
    with writing(reports / folder, OTHER_REPORTS):
        return write_comparison(records, reports / folder, command, standalone)


def check_reports(reports: Path, name: str) -> None:
    """Raises HpoError if the report of a study cannot be written below `reports`, which is created if needed."""
    for folder in (reports, reports / name):
        if folder == reports or folder.exists():
            check_folder(folder, OTHER_REPORTS)


def _with_planned(command: str, planned: Mapping[str, int], file_numbers: Mapping[str, int]) -> str:
    """The command with a flag for each planned number that differs from the study file's."""
    missing = [key for key in PLANNED if planned[key] != file_numbers[key] and PLANNED[key] not in command.split()]
    return " ".join([command, *(f"{PLANNED[key]} {planned[key]}" for key in missing)])


def _added_hints(earlier: Ledger, ledger: Ledger) -> list[str]:
    """A sentence if the study's file has further configurations."""
    added = [name for name in ledger.configurations if name not in earlier.configurations]
    if not added:
        return []
    return [f"{', '.join(added)} added to {ledger.study}; the results of the other configurations are kept"]


def _raise_hints(
    study: str, stored: Mapping[str, int], file_numbers: Mapping[str, int], given: Mapping[str, int]
) -> list[str]:
    """A sentence for each planned number that the study's file has raised since."""
    return [
        f"{study} was planned with {stored[key]} {words(flag)}, but its file now plans {file_numbers[key]}; "
        f"give {flag} {file_numbers[key]} to raise it"
        for key, flag in PLANNED.items()
        if key not in given and file_numbers[key] > stored[key]
    ]
