"""The command line: `hpo run gnvr`. Heavy imports wait until a command needs them."""

import importlib
import json
import re
import shlex
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from hpo.errors import HpoError, UsageError


class WatchCommand(TyperCommand):
    """A command whose `--watch` may stand without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in [place for place, word in enumerate(args) if word == "--watch"]:
            if not args[place + 1 : place + 2] or not re.fullmatch(r"[\d.]+", args[place + 1]):
                args[place] = f"--watch={WATCH_SECONDS}"
        return super().parse_args(ctx, args)


WATCH_SECONDS = 2
app = typer.Typer(
    help="Fair, seed-averaged comparisons of optimizers and regularizers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A name in ./studies, NAME:VARIANT, or a .py file.")]
Storage = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Database URL; else HPO_STORAGE, OPTUNA_STORAGE, or sqlite:///hpo.db."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:NUMBER.")]
Trials = Annotated[Optional[int], typer.Option(min=1, help="Settings tried for each configuration.")]  # noqa: UP045
Seeds = Annotated[Optional[int], typer.Option(min=1, help="Reruns of each best setting.")]  # noqa: UP045
Epochs = Annotated[Optional[int], typer.Option(min=1, help="Epochs of every run.")]  # noqa: UP045
Name = Annotated[Optional[str], typer.Option(help="The study's name in the database.")]  # noqa: UP045
PopulationSize = Annotated[Optional[int], typer.Option(min=1, help="Most models trained at once.")]  # noqa: UP045
Workers = Annotated[Optional[int], typer.Option(min=1, help="Worker processes to start here.")]  # noqa: UP045
MaxTime = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Give work back and stop after a time such as 2h or 90m; exit code 142."),
]
Reports = Annotated[Path, typer.Option(help="The folder of reports.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Runs the command line; errors with a known mend are one sentence on stderr."""
    try:
        app()
    except HpoError as error:
        print(f"hpo: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.command()
def run(
    study: StudyName,
    trials: Trials = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    name: Name = None,
    storage: Storage = None,
    device: Device = "auto",
    population: PopulationSize = None,
    workers: Workers = None,
    reports: Reports = Path("reports"),
    max_time: MaxTime = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the study's earlier results first.")] = False,
) -> None:
    """Tune, rerun and report a study; goes on where it stopped."""
    from hpo import loading, workflow
    from hpo.database import redacted
    from hpo.devices import choose_device, cpu_cores, worker_places, workers_in_words
    from hpo.progress import Display
    from hpo.running import run_workers
    from hpo.signals import Stopped, stop_after

    if max_time:
        stop_after(max_time)
    definition = workflow.with_overrides(loading.load(study), name, epochs)
    url = workflow.storage_url(storage)
    flags = {"--trials": trials, "--seeds": seeds, "--epochs": epochs, "--name": name}
    chosen = [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
    place = choose_device(device)
    ledger = workflow.open_ledger(definition, url, trials, seeds, shlex.join(["hpo", "run", study, *chosen]), fresh)
    for warning in ledger.warnings:
        print(f"hpo: {warning}", file=sys.stderr)

    if ledger.state() != "done":
        places = worker_places(place, workers, len(definition.configurations))
        command = [sys.executable, "-m", "hpo", "worker", study, "--messages", "--share", str(len(places))]
        command += ["--threads", str(max(1, cpu_cores() // len(places)))]
        for flag, value in (("--name", name), ("--epochs", epochs), ("--population", population)):
            command += [flag, str(value)] if value is not None else []
        # The report's packages load while the workers train.
        threading.Thread(target=importlib.import_module, args=("hpo.report",), daemon=True).start()
        try:
            with Display(ledger, workers_in_words(places), redacted(url)) as display:
                commands = [[*command, "--device", own] for own in places]
                run_workers(ledger, commands, {"HPO_STORAGE": url}, display.show)
        except Stopped:
            print("hpo: stopped; the same command goes on from here", file=sys.stderr)
            raise
    path = workflow.report(ledger, reports, loading.study_path(study).with_suffix(".md"))
    _print_verdicts(path)
    typer.echo(f"report: {path}")
    if any(entry["failed"] for entry in ledger.counts().values()):
        raise HpoError("some work failed for good; `hpo status` says why; mend it and run the same command again")


@app.command()
def worker(
    study: StudyName,
    storage: Storage = None,
    device: Device = "auto",
    name: Name = None,
    epochs: Epochs = None,
    population: PopulationSize = None,
    threads: Annotated[Optional[int], typer.Option(min=1, help="CPU threads; default: all cores.")] = None,  # noqa: UP045
    share: Annotated[int, typer.Option(min=1, help="How many equal workers share this study.")] = 1,
    max_time: MaxTime = None,
    messages: Annotated[bool, typer.Option("--messages", hidden=True)] = False,
) -> None:
    """Work on a study beside any other workers, as the first one too; ends when nothing is left. No report."""
    from hpo import loading, workflow
    from hpo.messages import Messenger
    from hpo.running import stop_with_parent
    from hpo.signals import Stopped, stop_after

    if messages:
        stop_with_parent()
    if max_time:
        stop_after(max_time)
    messenger = Messenger(as_json=messages)
    try:
        definition = workflow.with_overrides(loading.load(study), name, epochs)
        ledger = workflow.join_ledger(definition, workflow.storage_url(storage))
        workflow.work(definition, ledger, device, population, share, threads, messenger.on_event, messenger.on_epoch)
    except Stopped:
        if not messages:
            print("hpo: stopped; the work in hand was given back", file=sys.stderr)
        raise
    except HpoError as error:
        if not messages:
            raise
        messenger.send("error", text=str(error))
        raise SystemExit(error.exit_code) from None


@app.command()
def report(study: StudyName, storage: Storage = None, reports: Reports = Path("reports")) -> None:
    """Rebuild a study's report from the database alone; works while the study runs."""
    from hpo import loading, workflow
    from hpo.database import connect
    from hpo.status import open_known

    ledger = open_known(connect(workflow.storage_url(storage)), loading.study_name(study))
    analysis = loading.STUDIES / f"{ledger.study}.md"
    path = workflow.report(ledger, reports, analysis)
    _print_verdicts(path)
    typer.echo(f"report: {path}")


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
    from hpo import loading, workflow
    from hpo.database import connect
    from hpo.status import status as read_status
    from hpo.status import status_text

    engine, name = connect(workflow.storage_url(storage)), loading.study_name(study) if study else None
    if watch is not None:
        from hpo.watch import watch as show_again

        show_again(engine, name, watch, as_json)
        return
    found = read_status(engine, name)
    typer.echo(json.dumps(found, indent=1) if as_json else status_text(found))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Studies here, and the built-in regularizers, optimizers, networks, data sets and schedules."""
    from hpo import listing

    found = listing.catalogue()
    typer.echo(json.dumps(found, indent=1) if as_json else listing.catalogue_text(found))


@app.command("try")
def try_(
    study: StudyName,
    configuration: Annotated[str, typer.Option("--configuration", "-c", help="The configuration to run.")],
    settings: Annotated[Optional[list[str]], typer.Argument(metavar="NAME=VALUE", help="Hyperparameters.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="The seed; 0 is that of tuning.")] = 0,
    epochs: Epochs = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train one model once, without any database, and print its curves; the test set stays unread."""
    from hpo import loading, workflow
    from hpo.devices import choose_device, cpu_cores, prepare_process
    from hpo.listing import parse_settings
    from hpo.messages import own_traceback, print_epoch
    from hpo.spelling import did_you_mean
    from hpo.trainer import Trainer

    definition = workflow.with_overrides(loading.load(study), None, epochs)
    names = [entry.name for entry in definition.configurations]
    if configuration not in names:
        hint = did_you_mean(configuration, names)
        raise UsageError(f"{study} has no configuration {configuration!r}; choose one of {', '.join(names)}{hint}")
    place = choose_device(device)
    prepare_process(cpu_cores())
    trainer = Trainer(definition, place)
    setting = parse_settings(settings or [], trainer.configuration(configuration))
    try:
        result = trainer.try_once(configuration, setting, seed, None if as_json else print_epoch)
    except HpoError:
        raise
    except Exception as error:
        print(own_traceback(error), file=sys.stderr)
        raise SystemExit(1) from None
    if as_json:
        typer.echo(json.dumps(result._asdict(), indent=1))
    elif result.diverged_epoch is not None:
        typer.echo(f"diverged in epoch {result.diverged_epoch}")
    else:
        typer.echo("  ".join(f"{key} {value:.4g}" for key, value in result.final.items()))


@app.command()
def new(name: Annotated[str, typer.Argument(help="Letters, digits and '_'; the study's name.")]) -> None:
    """Write studies/NAME.py, a commented study of an idea of your own to begin with."""
    from hpo.new_study import write_study

    typer.echo(f"wrote {write_study(name)}; next:")
    typer.echo(f"  hpo try {name} -c Mine\n  hpo run {name}")


@app.command()
def bench(
    regularizer: Annotated[Optional[list[str]], typer.Option(help="May be repeated.")] = None,  # noqa: UP045
    population: Annotated[Optional[list[int]], typer.Option(min=1, help="May be repeated.")] = None,  # noqa: UP045
    model: Annotated[str, typer.Option(help="mlp, convnet1d, convnet1d-group or resnet18.")] = "mlp",
    norms: Annotated[bool, typer.Option("--norms", help="Per-sample gradient norms instead of steps.")] = False,
    batch_size: Annotated[int, typer.Option(min=2, help="Samples of a step.")] = 64,
    device: Device = "auto",
    threads: Annotated[Optional[int], typer.Option(min=1, help="CPU threads; default: all cores.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Model-steps per second by population size on this device, beside a loop over single models."""
    from hpo import bench as benchmark
    from hpo.devices import choose_device, cpu_cores, prepare_process
    from hpo.regularizers import REGULARIZERS
    from hpo.spelling import did_you_mean

    names = regularizer or ["none", "gnvr"]
    for name in names:
        if name not in REGULARIZERS:
            hint = did_you_mean(name, REGULARIZERS)
            raise UsageError(f"there is no regularizer {name!r}; choose from {', '.join(REGULARIZERS)}{hint}")
    if model not in benchmark.MODELS:
        raise UsageError(f"there is no model {model!r}; choose from {', '.join(benchmark.MODELS)}")
    place = choose_device(device)
    prepare_process(threads or cpu_cores())
    show = None if as_json else typer.echo
    if norms:
        from hpo.bench_norms import measure_norms

        found = {"norms": [measure_norms(model, models, batch_size, place, show) for models in population or [20]]}
    else:
        found = benchmark.measure(names, population or [1, 5, 10, 20, 40], place, model, batch_size, show)
    if as_json:
        typer.echo(json.dumps(found, indent=1))


@app.command()
def doctor(
    storage: Storage = None, device: Device = "auto", reports: Reports = Path("reports"), as_json: AsJson = False
) -> None:
    """Look at database, clock, device, disks and packages, and say what would fail; exit code 1 if something would."""
    from hpo import workflow
    from hpo.doctor import as_text, examine

    checks = examine(workflow.storage_url(storage), device, reports)
    typer.echo(json.dumps([check._asdict() for check in checks], indent=1) if as_json else as_text(checks))
    if any(check.state == "fails" for check in checks):
        raise SystemExit(1)


@app.command()
def dashboard(
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Another one needs HPO_DASHBOARD_PASSWORD.")] = "127.0.0.1",
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let the pages change and delete.")] = False,
    reports: Reports = Path("reports"),
) -> None:
    """Show all studies, trials and reports in a browser; for reading and on this machine alone."""
    from hpo import workflow
    from hpo.dashboard import serve

    serve(workflow.storage_url(storage), host, port, reports, allow_edit)


def _print_verdicts(readme: Path) -> None:
    """The verdict lines at the top of a report."""
    results: dict[str, Any] = json.loads((readme.parent / "results.json").read_text(encoding="utf-8"))
    for line in results["verdicts"]:
        typer.echo(line.replace("\\", "").replace("**", ""))  # written as Markdown
