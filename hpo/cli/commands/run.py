"""`hpo run`: a study from its file to its report."""

import importlib
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.confirmation import Yes, confirm_deletion
from hpo.cli.options import (
    AcceptChangedCode,
    Device,
    Epochs,
    KeepWeights,
    LiveCurves,
    Log,
    MaxTime,
    Name,
    PopulationSize,
    Reports,
    Seeds,
    StepTimes,
    Storage,
    StudyName,
    Trials,
    TuningRuns,
    Workers,
    app,
    set_weights_folder,
)
from hpo.errors import HpoError, UsageError
from hpo.output import write_line
from hpo.processor import cpu_cores
from hpo.study.study_files import flag_words, run_command

if TYPE_CHECKING:
    from hpo.storage.ledger import Ledger
    from hpo.study.study import Study
    from hpo.worker.early_start import EarlyWorkers

# One core is left for this process, which is to be ready first; many at once would slow it down.
EARLY_WORKERS = 4
REPORT_MODULES = ("hpo.report", "matplotlib.figure", "matplotlib.backends.backend_agg")


@app.command()
def run(
    context: typer.Context,
    study: StudyName,
    trials: Trials = None,
    seeds: Seeds = None,
    tuning_runs: TuningRuns = None,
    epochs: Epochs = None,
    name: Name = None,
    storage: Storage = None,
    device: Device = "auto",
    population: PopulationSize = None,
    workers: Workers = None,
    live_curves: LiveCurves = True,
    step_times: StepTimes = True,
    log: Log = None,
    reports: Reports = Path("reports"),
    max_time: MaxTime = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the study's results and start again.")] = False,
    yes: Yes = False,
    accept_changed_code: AcceptChangedCode = False,
    keep_weights: KeepWeights = False,
) -> None:
    """Tune, rerun and report a study; resumes an interrupted one."""
    from hpo.worker.early_start import EarlyWorkers

    flags = {"--name": name, "--epochs": epochs, "--population": population}
    flags |= {"--no-live-curves": not live_curves, "--no-step-times": not step_times}
    command = [sys.executable, "-m", "hpo", "worker", study, "--messages", *flag_words(flags)]
    early = context.with_resource(EarlyWorkers(command, min(workers or EARLY_WORKERS, EARLY_WORKERS, cpu_cores() - 1)))

    from hpo import api
    from hpo.cli.commands.report import print_verdicts
    from hpo.study import loading
    from hpo.trackers import check_installed
    from hpo.trackers.process import following
    from hpo.training.devices import choose_device, worker_devices
    from hpo.worker.signals import stop_after

    if max_time:
        stop_after(max_time)
    if log:
        check_installed(log)
    if keep_weights:
        set_weights_folder()
    definition = api.with_overrides(loading.load(study, name), name, epochs)
    chosen_device = choose_device(device)
    api.check_reports(reports, definition.name)
    url = api.storage_url(storage)
    if fresh:
        _confirm_fresh(url, definition.name, yes)
    elif name is None:
        _offer_results(url, study, definition)
    planned = {"--trials": trials, "--seeds": seeds, "--tuning-runs": tuning_runs}
    shown_command = run_command(study, planned | {"--epochs": epochs, "--name": name})
    numbers = (trials, seeds, tuning_runs)
    ledger = api.open_ledger(definition, url, *numbers, shown_command, fresh, accept_changed_code)
    for warning in ledger.warnings:
        write_line(f"hpo: {warning}", error=True)

    if keep_weights and ledger.state() == "done":
        write_line("hpo: all reruns are finished, so that --keep-weights has no effect", error=True)
    if ledger.state() != "done":
        tuned = len(definition.configurations) * ledger.planned["tuning_runs"]
        _train(ledger, url, worker_devices(chosen_device, workers, tuned), early, log)
        _refuse_late(ledger)
    elif log:
        with following(ledger.study, log, url, lambda message: write_line(f"hpo: {message['text']}", error=True)):
            pass
    early.keep(0)
    print_verdicts(api.report(ledger, reports))
    if any(entry["failed"] for entry in ledger.counts().values()):
        raise HpoError(
            "some runs failed for good; see `hpo status`, fix the cause and run the same command again: other results "
            "are kept"
        )


def _refuse_late(ledger: "Ledger") -> None:
    """Refuses what was enqueued after the workers' last look, if the study is done."""
    from hpo.storage.optuna.enqueued_settings import refuse_enqueued

    for sentence in refuse_enqueued(ledger) if ledger.state() == "done" else ():
        write_line(f"hpo: {sentence}", error=True)


def _confirm_fresh(url: str, name: str, yes: bool) -> None:
    """Asks before the results of an existing study are deleted."""
    from hpo import housekeeping
    from hpo.storage.database import connect
    from hpo.storage.ledger import names

    if name in names(connect(url)) and (contents := housekeeping.contents(url, name)) != housekeeping.NO_RESULTS:
        confirm_deletion(name, contents, yes)


def _offer_results(url: str, reference: str, study: "Study") -> None:
    """Offers the results of a study that is new under this name and has results under that of a file that is gone.

    Raises:
        UsageError: nobody can be asked, since standard input is no terminal.
    """
    from hpo import housekeeping
    from hpo.study.definition import describe

    found = housekeeping.find_renamed(url, study.name, describe(study))
    if not found:
        return
    old = found[0]
    ways = f"`hpo rename {old} {reference}` adopts its results, `--name {study.name}` trains anew"
    contents = f"{old} has the same definition and {housekeeping.contents(url, old)}, and its file is gone"
    if not sys.stdin.isatty():
        raise UsageError(f"{contents}; {ways}")
    write_line(f"{contents}.")
    if typer.confirm(f"Adopt its results as {study.name}?", default=True):
        for sentence in housekeeping.rename(url, old, study.name):
            write_line(sentence)


def _train(ledger: "Ledger", url: str, devices: list[str], early: "EarlyWorkers", log: str | None) -> None:
    """Runs one worker process per device and shows their progress until the study is done.

    Args:
        early: the workers that have been started. log: the tracker that gets every trial and rerun, if any.
    """
    from hpo.cli.terminal.messages import stop_reason
    from hpo.cli.terminal.progress import Display
    from hpo.storage.url import redacted
    from hpo.trackers.process import following
    from hpo.training.devices import describe_workers
    from hpo.worker.processes import run_workers
    from hpo.worker.signals import Stopped
    from hpo.worker.slurm_job import let_preempted_job_be_requeued

    early.keep(len(devices))
    commands = [[*early.command, "--device", device] for device in devices]
    # The report's modules load while the workers train.
    threading.Thread(target=lambda: list(map(importlib.import_module, REPORT_MODULES)), daemon=True).start()
    try:
        display = Display(ledger, describe_workers(devices), redacted(url))
        with display, following(ledger.study, log, url, partial(display.show, -1)):
            run_workers(ledger, commands, {"HPO_STORAGE": url}, display.show, early.start)
    except Stopped as stopped:
        write_line(f"hpo: {stop_reason(stopped)}; run the same command to resume", error=True)
        let_preempted_job_be_requeued()
        raise
