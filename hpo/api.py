"""A study from definition to report: what the command line and a notebook share.

PyTorch is imported where training is near, so that status and reports do without it.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, TrialCurve, Work, load_study, names, new_worker_id, open_study
from hpo.storage.ledger.definition_diff import describe_changes
from hpo.storage.ledger.studies import PLANNED, words
from hpo.study.study import Study
from hpo.study.validation import planned_tuning_runs

log = logging.getLogger(__name__)

LONGEST_FOLDER = 100  # letters of a comparison's folder


def storage_url(given: str | None) -> str:
    """The database: as given, else `HPO_STORAGE`, else `OPTUNA_STORAGE`, else a SQLite file here."""
    return given or os.environ.get("HPO_STORAGE") or os.environ.get("OPTUNA_STORAGE") or "sqlite:///hpo.db"


def with_overrides(study: Study, name: str | None, epochs: int | None) -> Study:
    """The study under another name or with other epochs (for tuning and rerunning alike)."""
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
    """Opens the study in the database, or makes it there.

    Args:
        trials, seeds, tuning_runs: planned numbers in place of the study's own. A study that exists keeps its numbers
            where none is given; they may only be raised.
        command: the command line that the report's Reproduce section shows; numbers planned before are added to it.
        fresh: delete what the database holds under this name first.
        accept_changed_code: let results of the old and the new code stand side by side, with a note in the report.

    Raises:
        UsageError: the study exists with another definition, or other code that something was trained with.
    """
    from hpo.study.definition import describe, digest
    from hpo.study.fingerprint import fingerprint

    if not study.name:
        raise UsageError("the study has no name; give Study(name=...)")
    engine = connect(url)
    definition = describe(study)
    stored = None if fresh else _stored(engine, study.name)
    flags = {"trials": trials, "seeds": seeds, "tuning_runs": tuning_runs}
    runs = planned_tuning_runs(study.tuning_runs, seeds or (stored or {}).get("seeds", study.seeds))
    own = {"trials": study.trials, "seeds": study.seeds, "tuning_runs": runs}
    given = {key: number for key, number in flags.items() if number is not None}
    planned = {key: (stored or own)[key] for key in own} | given
    # Flags may say what the file may say, and nothing is deleted for one that is refused.
    if not stored:
        dataclasses.replace(study, trials=planned["trials"], seeds=planned["seeds"], tuning_runs=planned["tuning_runs"])
    if fresh:
        from hpo.storage.optuna.studies import delete_study

        delete_study(engine, study.name)
    shown = _with_planned(command or f"hpo run {study.name}", planned, own)
    text = {"title": study.title, "hypothesis": study.hypothesis, "command": shown}
    whole = (definition, digest(definition), planned, text, fingerprint(study))
    ledger = open_study(engine, study.name, *whole, given, accept_changed_code)
    ledger.warnings += [
        f"{study.name} was planned with {stored[key]} {words(flag)} and its file now plans {own[key]}; "
        f"give {flag} {own[key]} to raise it"
        for key, flag in PLANNED.items()
        if stored and key not in given and own[key] > stored[key]
    ]
    return ledger


def join_ledger(study: Study, url: str, accept_changed_code: bool = False) -> Ledger:
    """Opens the study as a worker does: as it stands in the database, or made there if this one is the first.

    Raises:
        UsageError: the study in the database is another one than `study`, or has other code; see `open_ledger`.
    """
    from hpo.study.definition import describe, digest
    from hpo.study.fingerprint import fingerprint

    engine = connect(url)
    if study.name not in names(engine):
        return open_ledger(study, url)
    ledger, definition = load_study(engine, study.name), describe(study)
    if digest(definition) != ledger.digest:
        raise UsageError(
            f"study {study.name!r} exists with another definition ({describe_changes(ledger.definition, definition)}); "
            "use the same file and the same --epochs as `hpo run`, or another --name"
        )
    if fingerprint(study) != ledger.fingerprint:
        command = ledger.text.get("command", "")
        return open_ledger(study, url, command=command, accept_changed_code=accept_changed_code)
    return ledger


def work(
    study: Study,
    ledger: Ledger,
    device: str = "auto",
    population: int | None = None,
    threads: int = 1,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
    on_epoch: Callable[[Work, int, int], None] | None = None,
) -> None:
    """Works on the study in this process until it needs nothing more.

    Args:
        population: most models trained at once; by default as many as suit the network and the device.
        threads: of the CPU; the last digits of results may depend on them.

    Raises:
        Stopped: a signal came; the work in hand was given back.
    """
    from hpo.data import Source, identify
    from hpo.study.fingerprint import fingerprint
    from hpo.training import checkpoints
    from hpo.training.devices import choose_device, device_name, environment, prepare_process
    from hpo.worker.loop import run_worker
    from hpo.worker.trainer import Trainer

    chosen = choose_device(device)
    prepare_process(threads, chosen)
    worker_id = new_worker_id()
    ledger.register(worker_id, device_name(chosen), environment())
    identity = json.dumps([ledger.digest, sorted(fingerprint(study).items())])

    def earlier(begun: Work) -> dict[int, list[TrialCurve]]:
        return ledger.trial_curves(begun.configuration, {slot.tuning_run for slot in begun.slots}, begun.slots[0].batch)

    def loaded(source: Source) -> None:
        ledger.note_data(worker_id, identify(source))

    kept = checkpoints.from_environment(identity)
    trainer = Trainer(study, chosen, on_epoch, kept, population, earlier, loaded)

    def tell(kind: str, details: dict[str, Any]) -> None:
        if kind == "finished":
            stored = {outcome.id for outcome in details["outcomes"]}
            trainer.forget(details["work"].with_slots([slot for slot in details["work"].slots if slot.id in stored]))
        elif kind == "failed":
            trainer.forget(details["work"])
        if on_event:
            on_event(kind, details)

    run_worker(ledger, trainer, worker_id, trainer.size, on_event=tell, device=device_name(chosen))


def report(ledger: Ledger, reports: Path, analysis: Path | None = None, standalone: bool = False) -> Path:
    """Writes the study's report below `reports`, and its summary for the dashboard; returns its README.md."""
    from hpo.dashboard.study_note import publish
    from hpo.report import read_record, write_report

    record = read_record(ledger)
    own_words = analysis.read_text(encoding="utf-8") if analysis and analysis.is_file() else None
    command = record.study["text"]["command"]
    path = write_report(record, reports / ledger.study, ledger.study, [command], own_words, standalone)
    ledger.note_report()
    try:
        publish(ledger, record)
    except Exception as error:  # what Optuna's dashboard shows may be old; the report may not fail for it
        log.warning("Optuna's dashboard keeps its old summary of %s (%s)", ledger.study, error)
    return path


def compare(ledgers: Sequence[Ledger], reports: Path, standalone: bool = False) -> Path:
    """Writes one page about several studies below `reports`; returns its README.md."""
    from hpo.report import read_record, write_comparison

    names = [ledger.study for ledger in ledgers]
    folder = f"compare-{'-'.join(names)}"
    if len(folder) > LONGEST_FOLDER:
        digest = hashlib.sha256("/".join(names).encode()).hexdigest()[:8]
        folder = f"compare-{names[0]}-and-{len(names) - 1}-more-{digest}"
    command = shlex.join(["hpo", "report", *names, "--compare"])
    return write_comparison([read_record(ledger) for ledger in ledgers], reports / folder, command, standalone)


def run(
    study: Study,
    storage: str | None = None,
    device: str = "auto",
    population: int | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    tuning_runs: int | None = None,
    reports: str | Path = "reports",
    threads: int = 1,
    accept_changed_code: bool = False,
) -> Path:
    """Tunes, reruns and reports a study in this process, as a notebook does; resumes where it stopped.

    Args:
        threads: of the CPU; by default as many as each worker of `hpo run` has, so that results are the same.
        accept_changed_code: continue although the code changed since the study's first trials.

    Returns:
        The report's README.md.
    """
    url = storage_url(storage)
    ledger = open_ledger(study, url, trials, seeds, tuning_runs, accept_changed_code=accept_changed_code)
    for warning in ledger.warnings:
        log.warning(warning)
    work(study, ledger, device, population, threads)
    return report(ledger, Path(reports))


def _with_planned(command: str, planned: Mapping[str, int], own: Mapping[str, int]) -> str:
    """The command with a flag for each planned number that the study's file has otherwise, from whichever run it is."""
    missing = [key for key in PLANNED if planned[key] != own[key] and PLANNED[key] not in command.split()]
    return " ".join([command, *(f"{PLANNED[key]} {planned[key]}" for key in missing)])


def _stored(engine: object, name: str) -> dict[str, int] | None:
    try:
        return load_study(engine, name).planned  # type: ignore[arg-type]
    except UsageError:
        return None
