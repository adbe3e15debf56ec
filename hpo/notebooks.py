"""What notebooks and scripts call: `hpo.run`, `hpo.results` and `hpo.load_model`.

PyTorch is imported only where something is trained, so that results are read without it.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.api import check_reports, open_ledger, report, storage_url, with_overrides
from hpo.errors import UsageError, check_configuration, require_whole
from hpo.storage.database import connect_existing, existing_engine
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.url import exists
from hpo.study.study import Study
from hpo.study.study_files import command_reference, flag_words, run_command, study_name, study_path
from hpo.study.study_folders import weights_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hpo.report import Results

logger = logging.getLogger(__name__)


def run(
    study: str | os.PathLike[str] | Study,
    storage: str | None = None,
    device: "str | torch.device" = "auto",
    population: int | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    tuning_runs: int | None = None,
    reports: str | Path = "reports",
    threads: int = 1,
    accept_changed_code: bool = False,
    *,
    epochs: int | None = None,
    name: str | None = None,
    workers: int = 1,
    log: str | None = None,
    keep_weights: bool = False,
    progress: bool = True,
) -> "Results":
    """Tunes, reruns and reports a study; resumes an interrupted study.

    Args:
        study: the study, or its name, NAME:VARIANT or file.
        threads: CPU threads; the default is that of each worker of `hpo run`, so that results are the same.
        accept_changed_code: continue although the code changed since the study's first trials.
        epochs: per trial and rerun; default: the study's. name: the study's name in the database.
        workers: 1 trains in this process. More are processes of their own, which need the study's name or file.
        log: "tensorboard", "wandb" or "mlflow": the tracker that gets each trial and rerun.
        keep_weights: keep the weights of reruns, in $HPO_WEIGHTS or weights/, for `load_model`.
        progress: show how far the study is: a table in a notebook, elsewhere lines on standard error.

    Returns:
        The results; their `report` is the report's README.md.
    """
    from hpo.report.shown_progress import shown_progress
    from hpo.study.loading import load
    from hpo.trackers import check_tracker
    from hpo.trackers.process import following

    study, device = _reference(study), str(device)
    require_whole("workers", workers)
    require_whole("threads", threads)
    optional = {"population": population, "trials": trials, "seeds": seeds, "tuning_runs": tuning_runs}
    for option, number in optional.items():
        if number is not None:
            require_whole(option, number)
    if log:
        check_tracker(log)
    if workers > 1 and not isinstance(study, str):
        raise UsageError(f"workers={workers} are processes that load the study; give the name of its file, not a Study")
    definition = with_overrides(load(study, name) if isinstance(study, str) else study, name, epochs)
    check_reports(Path(reports), str(definition.name))
    url = storage_url(storage)
    command = run_command(study, {"--epochs": epochs, "--name": name}) if isinstance(study, str) else ""
    ledger = open_ledger(definition, url, trials, seeds, tuning_runs, command, accept_changed_code=accept_changed_code)
    for warning in ledger.warnings:
        logger.warning(warning)
    shown = shown_progress(ledger) if progress else nullcontext()
    with _weights_folder(keep_weights), following(ledger.study, log, url, _show), shown:
        if workers > 1:
            flags = {"--name": name, "--epochs": epochs, "--population": population, "--threads": threads}
            _start_workers(str(study), ledger, url, device, workers, flags)
        else:
            from hpo.worker.work import work

            work(definition, ledger, device, population, threads)
    return _results(ledger, report(ledger, Path(reports)))


def results(
    study: str | os.PathLike[str] | Study, storage: str | None = None, reports: str | Path = "reports"
) -> "Results":
    """Reads a study's results from the database, at any stage of the study.

    Args:
        study: the study or its name in the database, such as "gnvr" or "rogc:noisy".
        storage: the database's URL; see `storage_url`. reports: the folder of reports.

    Raises:
        UsageError: there is no such database, or no study of this name in it.
    """
    study = _reference(study)
    name = study_name(study) if isinstance(study, str) else str(study.name)
    readme = Path(reports) / name / "README.md"
    return _results(load_study(existing_engine(storage_url(storage)), name), readme if readme.is_file() else None)


def load_model(
    study: str | os.PathLike[str] | Study,
    configuration: str,
    seed: int,
    folder: str | Path | None = None,
    storage: str | None = None,
) -> "nn.Module":
    """The network of a rerun whose weights were kept (`hpo run --keep-weights`), on the CPU and ready to evaluate.

    Weights are those that the rerun was evaluated with: an average of the weights where the configuration has one.

    Args:
        study: the study; or its name in the database, also one given by `--name` or `hpo rename`; or what `hpo run` was
            given.
        seed: of the rerun, such as 1000; see `Results.reruns`.
        folder: where the weights were kept; default: $HPO_WEIGHTS or weights/.
        storage: the database with the study; see `storage_url`. Where it has the study, the weights must be of the
            present rerun.

    Raises:
        UsageError: the study has no such configuration, there are no such weights, they are of a rerun with an earlier
            setting, or the study's network has other parameters by now.
    """
    from hpo.worker.weights import read_model

    study = _reference(study)
    ledger = _stored(study_name(study) if isinstance(study, str) else str(study.name), storage_url(storage))
    definition = _load_stored(study, ledger) if isinstance(study, str) else study
    check_configuration(str(definition.name), configuration, [entry.name for entry in definition.configurations])
    setting = None
    if ledger is not None:
        reruns = [row for row in ledger.export()["slots"] if row["phase"] == "rerun" and row["seed"] == seed]
        own = [row for row in reruns if row["configuration"] == configuration and row["setting"]]
        setting = max(own, key=lambda row: row["round"])["setting"] if own else None
    return read_model(definition, configuration, seed, folder or weights_folder(), setting)


def _reference(study: object) -> str | Study:
    """What a study is given as: a text, also of a path, or the study itself."""
    if not isinstance(study, str | os.PathLike | Study):
        raise UsageError(f"study is {study!r}; give the name of a study, its file or a Study")
    return study if isinstance(study, Study) else str(os.fspath(study))


def _stored(name: str, url: str) -> Ledger | None:
    """A study of the database, if there is one of this name."""
    engine = connect_existing(url) if exists(url) else None
    return load_study(engine, name) if engine is not None and name in names(engine) else None


def _load_stored(reference: str, ledger: Ledger | None) -> Study:
    """The study of a file, under its name in the database; the file is the one that `hpo run` was given."""
    from hpo.study.loading import load

    given = command_reference(ledger.text.get("command", "")) if ledger else ""
    try:
        study_path(given)
    except UsageError:  # a notebook created it, or its file has moved since
        given = reference
    return load(given, ledger.study if ledger else None)


def _start_workers(study: str, ledger: Ledger, url: str, device: str, workers: int, flags: Mapping[str, Any]) -> None:
    """Runs worker processes until the study is done."""
    from hpo.training.devices import choose_device, worker_devices
    from hpo.worker.processes import run_workers

    command = [sys.executable, "-m", "hpo", "worker", study, "--messages", *flag_words(flags)]
    devices = worker_devices(choose_device(device), workers, 1)
    commands = [[*command, "--device", each] for each in devices]
    run_workers(ledger, commands, {"HPO_STORAGE": url}, lambda _, message: _show(message))


def _show(message: Mapping[str, Any]) -> None:
    """Logs a message of a worker or tracker."""
    kind = message["kind"]
    if kind == "failed":
        logger.warning("%s: a run failed (%s): %s", message["configuration"], message["cause"], message["text"])
    elif kind in ("print", "logged", "warning", "error"):
        logger.log(logging.INFO if kind in ("print", "logged") else logging.WARNING, message["text"])


@contextmanager
def _weights_folder(kept: bool) -> Iterator[None]:
    """Names the folder of weights to this process and its workers during the block, unless the user has."""
    if not kept or os.environ.get("HPO_WEIGHTS"):
        yield
        return
    os.environ["HPO_WEIGHTS"] = str(Path("weights").absolute())
    try:
        yield
    finally:
        del os.environ["HPO_WEIGHTS"]


def _results(ledger: Ledger, readme: Path | None = None) -> "Results":
    from hpo.report import Results, read_record

    return Results(read_record(ledger), readme)
