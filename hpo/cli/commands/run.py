"""`hpo run`: a study from its file to its report."""

import importlib
import shlex
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.cli.options import (
    AcceptChangedCode,
    Device,
    Epochs,
    MaxTime,
    Name,
    PopulationSize,
    Reports,
    Seeds,
    Storage,
    StudyName,
    Trials,
    TuningRuns,
    Workers,
    app,
)
from hpo.errors import HpoError

REPORTS_NEED = ("hpo.report", "matplotlib.figure", "matplotlib.backends.backend_agg")


@app.command()
def run(
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
    reports: Reports = Path("reports"),
    max_time: MaxTime = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the study's earlier results first.")] = False,
    accept_changed_code: AcceptChangedCode = False,
) -> None:
    """Tune, rerun and report a study; goes on where it stopped."""
    from hpo import api
    from hpo.cli.commands.report import print_verdicts
    from hpo.cli.terminal.progress import Display
    from hpo.storage.database import redacted
    from hpo.study import loading
    from hpo.training.devices import choose_device, describe_workers, worker_devices
    from hpo.worker.processes import run_workers
    from hpo.worker.signals import Stopped, stop_after

    if max_time:
        stop_after(max_time)
    definition = api.with_overrides(loading.load(study), name, epochs)
    url = api.storage_url(storage)
    chosen = _given(
        {"--trials": trials, "--seeds": seeds, "--tuning-runs": tuning_runs, "--epochs": epochs, "--name": name}
    )
    place = choose_device(device)
    command = shlex.join(["hpo", "run", study, *chosen])
    numbers = (trials, seeds, tuning_runs)
    ledger = api.open_ledger(definition, url, *numbers, command, fresh, accept_changed_code)
    for warning in ledger.warnings:
        print(f"hpo: {warning}", file=sys.stderr)

    if ledger.state() != "done":
        places = worker_devices(place, workers, len(definition.configurations) * ledger.planned["tuning_runs"])
        flags = {"--name": name, "--epochs": epochs, "--population": population}
        commands = _worker_commands(study, places, flags)
        # The report's packages load while the workers train.
        threading.Thread(target=_load, args=(REPORTS_NEED,), daemon=True).start()
        try:
            with Display(ledger, describe_workers(places), redacted(url)) as display:
                run_workers(ledger, commands, {"HPO_STORAGE": url}, display.show)
        except Stopped:
            print("hpo: stopped; the same command goes on from here", file=sys.stderr)
            raise
    path = api.report(ledger, reports, loading.study_path(study).with_suffix(".md"))
    print_verdicts(path)
    typer.echo(f"report: {path}")
    if any(entry["failed"] for entry in ledger.counts().values()):
        raise HpoError(
            "some work failed for good; `hpo status` says why; mend it and run the same command again, "
            "with --accept-changed-code to keep the other results"
        )


def _load(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def _worker_commands(study: str, places: list[str], flags: dict[str, Any]) -> list[list[str]]:
    """The command line of one worker for each place."""
    command = [sys.executable, "-m", "hpo", "worker", study, "--messages", *_given(flags)]
    return [[*command, "--device", place] for place in places]


def _given(flags: dict[str, Any]) -> list[str]:
    """The flags that have a value, as words of a command line."""
    return [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
