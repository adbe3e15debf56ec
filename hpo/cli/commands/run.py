"""Commands on a study in a database: run, worker, report, status."""

import importlib
import json
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from hpo.cli.options import (
    AcceptChangedCode,
    AsJson,
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
    TuningRepeats,
    Workers,
    app,
)
from hpo.errors import HpoError

WATCH_SECONDS = 2
REPORTS_NEED = ("hpo.report", "matplotlib.figure", "matplotlib.backends.backend_agg")


class WatchCommand(TyperCommand):
    """A command whose `--watch` may stand without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in [place for place, word in enumerate(args) if word == "--watch"]:
            if not args[place + 1 : place + 2] or not re.fullmatch(r"[\d.]+", args[place + 1]):
                args[place] = f"--watch={WATCH_SECONDS}"
        return super().parse_args(ctx, args)


@app.command()
def run(
    study: StudyName,
    trials: Trials = None,
    seeds: Seeds = None,
    tuning_repeats: TuningRepeats = None,
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
    from hpo.training.devices import choose_device, worker_places, workers_in_words
    from hpo.worker.processes import run_workers
    from hpo.worker.signals import Stopped, stop_after

    if max_time:
        stop_after(max_time)
    definition = api.with_overrides(loading.load(study), name, epochs)
    url = api.storage_url(storage)
    chosen = _given(
        {"--trials": trials, "--seeds": seeds, "--tuning-repeats": tuning_repeats, "--epochs": epochs, "--name": name}
    )
    place = choose_device(device)
    command = shlex.join(["hpo", "run", study, *chosen])
    numbers = (trials, seeds, tuning_repeats)
    ledger = api.open_ledger(definition, url, *numbers, command, fresh, accept_changed_code)
    for warning in ledger.warnings:
        print(f"hpo: {warning}", file=sys.stderr)

    if ledger.state() != "done":
        places = worker_places(place, workers, len(definition.configurations) * ledger.planned["repeats"])
        flags = {"--name": name, "--epochs": epochs, "--population": population}
        commands = _worker_commands(study, places, flags)
        # The report's packages load while the workers train.
        threading.Thread(target=_load, args=(REPORTS_NEED,), daemon=True).start()
        try:
            with Display(ledger, workers_in_words(places), redacted(url)) as display:
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


@app.command()
def worker(
    study: StudyName,
    storage: Storage = None,
    device: Device = "auto",
    name: Name = None,
    epochs: Epochs = None,
    population: PopulationSize = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; give all workers of a study as many.")] = 1,
    max_time: MaxTime = None,
    accept_changed_code: AcceptChangedCode = False,
    messages: Annotated[bool, typer.Option("--messages", hidden=True)] = False,
) -> None:
    """Work on a study beside any other workers, as the first one too; ends when nothing is left. No report."""
    from hpo import api
    from hpo.cli.terminal.messages import Messenger
    from hpo.storage.database import redacted
    from hpo.study import loading
    from hpo.worker.processes import stop_with_parent
    from hpo.worker.signals import Stopped, stop_after

    if messages:
        stop_with_parent()
    if max_time:
        stop_after(max_time)
    messenger = Messenger(as_json=messages)
    try:
        definition = api.with_overrides(loading.load(study), name, epochs)
        ledger = api.join_ledger(definition, api.storage_url(storage), accept_changed_code)
        for warning in ledger.warnings:
            messenger.send("warning", text=warning)
        if not messages:
            print(f"hpo: working on {ledger.study} in {redacted(api.storage_url(storage))}", flush=True)
        api.work(definition, ledger, device, population, threads, messenger.on_event, messenger.on_epoch)
    except Stopped as stopped:
        if not messages:
            why = "the time is over" if stopped.number == signal.SIGALRM else "stopped"
            print(f"hpo: {why}; the work in hand was given back", file=sys.stderr)
        raise
    except HpoError as error:
        if not messages:
            raise
        messenger.send("error", text=str(error))
        raise SystemExit(error.exit_code) from None


@app.command(cls=WatchCommand)
def status(
    study: Annotated[Optional[str], typer.Argument(metavar="[STUDY]", help="All studies if left out.")] = None,  # noqa: UP045
    storage: Storage = None,
    watch: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="[SECONDS]",
            min=0.2,
            help=f"Show it anew every {WATCH_SECONDS} seconds, or as many as given, until STUDY is done or Ctrl-C.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trials, reruns, workers, and failures by cause."""
    from hpo import api
    from hpo.cli.terminal.status import status as read_status
    from hpo.cli.terminal.status import status_text
    from hpo.storage.database import connect
    from hpo.storage.url import check_folder, exists, read
    from hpo.study import loading

    url, name = api.storage_url(storage), loading.study_name(study) if study else None
    if not watch and not study and not exists(url):  # a look makes no database, but says where none could be made
        check_folder(read(url))
        typer.echo(json.dumps({}) if as_json else status_text({}))
        return
    engine = connect(url)
    if watch is not None:
        from hpo.cli.terminal.watch import watch as show_again

        show_again(engine, name, watch, as_json)
        return
    found = read_status(engine, name)
    typer.echo(json.dumps(found, indent=1) if as_json else status_text(found))


def _worker_commands(study: str, places: list[str], flags: dict[str, Any]) -> list[list[str]]:
    """The command line of one worker for each place."""
    command = [sys.executable, "-m", "hpo", "worker", study, "--messages", *_given(flags)]
    return [[*command, "--device", place] for place in places]


def _given(flags: dict[str, Any]) -> list[str]:
    """The flags that have a value, as words of a command line."""
    return [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
