"""`hpo launch`: workers started here, through Slurm or on Ray."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpo.cli.options import (
    AcceptChangedCode,
    Device,
    Epochs,
    KeepWeights,
    LiveCurves,
    Log,
    Name,
    PopulationSize,
    Storage,
    app,
    set_weights_folder,
)
from hpo.errors import HpoError, UsageError, plural
from hpo.output import write_line
from hpo.output_files import check_folder
from hpo.study.study_files import flag_words, run_command

if TYPE_CHECKING:
    from hpo.launch.launch import Engine, Launch

# An option of one engine, and another engine → the option there.
INSTEAD = {
    ("--gpus", "slurm"): "--gpus-per-node", ("--gpus", "local"): "--device cuda", ("--gpus-per-node", "ray"): "--gpus",
    ("--gpus-per-node", "local"): "--device cuda", ("--cpus", "slurm"): "--threads", ("--cpus", "local"): "--threads",
}  # fmt: skip


@app.command()
def launch(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="The study, or a launch for --logs and --stop.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many workers to start.")] = 1,
    on: Annotated[Literal["local", "slurm", "ray"], typer.Option(help="What starts and runs them.")] = "local",
    storage: Storage = None,
    device: Device = "auto",
    name: Name = None,
    epochs: Epochs = None,
    population: PopulationSize = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")] = 1,
    partition: Annotated[str | None, typer.Option(help="Slurm: the partition.")] = None,
    time: Annotated[str | None, typer.Option(help="Slurm: time limit of each worker, such as 2h; default: 1h.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(min=1, help="Slurm: GPUs of each worker.")] = None,
    memory: Annotated[str | None, typer.Option(help="Slurm: memory of each worker, such as 8GB.")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm: the account.")] = None,
    requeue: Annotated[
        bool | None,
        typer.Option(
            "--requeue/--no-requeue",
            help="Slurm: start a worker again after its time limit and after preemption, which is the default.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray: the cluster, as HOST:PORT; default: auto, which is $RAY_ADDRESS or the one here."),
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="Ray: CPUs of each worker; default: --threads.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="Ray: GPUs of each worker; default: 0.")] = None,
    live_curves: LiveCurves = True,
    log: Log = None,
    accept_changed_code: AcceptChangedCode = False,
    keep_weights: KeepWeights = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the launches of this folder and their workers.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Print what the workers of a launch have printed.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop a launch; its workers release their leases.")] = False,
) -> None:
    """Start workers and return; also lists and stops them and shows their logs."""
    from hpo import api
    from hpo.launch.launch import check_reachable, find, launches, new_launch, save
    from hpo.launch.local import Local
    from hpo.launch.slurm import Slurm
    from hpo.storage.url import independent_of_folder
    from hpo.study import loading
    from hpo.trackers import check_installed
    from hpo.worker.signals import seconds_of

    if list_:
        write_line(_list_text(launches()))
        return
    if study is None:
        raise UsageError("name the study that workers are for, or give --list")
    if logs:
        write_line(_logs_text(find(study)))
        return
    if stop:
        record = find(study)
        _engine_of(record).stop(record)
        write_line(f"{record.name}: workers were asked to stop; they release their leases")
        return
    slurm = {"--partition": partition, "--time": time, "--gpus-per-node": gpus_per_node, "--memory": memory}
    slurm |= {"--account": account, "--no-requeue" if requeue is False else "--requeue": requeue}
    _refuse_others(on, {"slurm": slurm, "ray": {"--address": address, "--cpus": cpus, "--gpus": gpus}})
    url = independent_of_folder(api.storage_url(storage))
    engine: Engine = Local(device)
    if on == "slurm":
        seconds = seconds_of(time or "1h")
        engine = Slurm(partition, seconds, gpus_per_node, threads, memory, account, requeue is not False)
    elif on == "ray":
        study, engine = _on_ray(study, address or "auto", threads if cpus is None else cpus, gpus or 0, url)
    check_reachable(url, engine)
    if log:
        check_installed(log)
    definition = api.with_overrides(loading.load(study, name), name, epochs)
    shown_command = run_command(study, {"--epochs": epochs, "--name": name})
    # A mistake in the study is told here, not in a log.
    ledger = api.join_ledger(definition, url, accept_changed_code, shown_command)
    flags = {"--name": name, "--epochs": epochs, "--population": population, "--threads": threads, "--log": log}
    flags |= {} if on == "local" else {"--device": device}  # here the engine chooses that of each worker
    flags |= {"--no-live-curves": not live_curves, "--accept-changed-code": accept_changed_code}
    command = [sys.executable, "-m", "hpo", "worker", study, *flag_words(flags)]
    os.environ["HPO_STORAGE"] = url
    if keep_weights:
        set_weights_folder()
    record = new_launch(ledger.study, on, command, workers)
    check_folder(record.folder, "change to a folder that you can write to")
    save(record, engine.start(record))
    write_line(f"{record.name}: {plural(workers, 'worker')} started on {on}; next:")
    write_line(f"  hpo status {ledger.study}\n  hpo launch --logs {record.name}\n  hpo launch --stop {record.name}")


def _refuse_others(on: str, options: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UsageError if an option was given that belongs to another engine: it would have no effect."""
    for engine, values in options.items():
        for option, value in values.items():
            if engine != on and value is not None:
                other = INSTEAD.get((option, on))
                way = f"with --on {on} give {other}" if other else f"give --on {engine}, or leave {option} out"
                raise UsageError(f"{option} is for --on {engine}; {way}")


def _on_ray(study: str, address: str, cpus: float, gpus: float, url: str) -> "tuple[str, Engine]":
    """How a worker on Ray finds the study, and the engine that copies this folder where it has the study's file.

    Raises:
        UsageError: the study is a file outside this folder.
    """
    from hpo.launch.ray import Ray
    from hpo.storage.url import is_file
    from hpo.study import study_files

    path, folder = study_files.study_path(study).resolve(), Path.cwd()
    if not path.is_relative_to(folder):
        if path.is_relative_to(study_files.BUILT_IN.resolve()):  # the nodes have it
            return study, Ray(address, cpus, gpus, None, is_file(url))
        raise UsageError(f"{path} is not in this folder, which is copied to Ray's nodes; start hpo where the study is")
    if study.partition(":")[0].endswith(".py"):
        study = study.replace(study.partition(":")[0], str(path.relative_to(folder)), 1)
    return study, Ray(address, cpus, gpus, folder, is_file(url))


def _engine_of(record: "Launch") -> "Engine":
    """The engine that started a launch, able to find its workers."""
    from hpo.launch.local import Local
    from hpo.launch.ray import Ray
    from hpo.launch.slurm import Slurm

    if record.engine == "ray":
        return Ray(record.data["address"])
    return Slurm() if record.engine == "slurm" else Local()


def _list_text(records: "Sequence[Launch]") -> str:
    lines = []
    for record in records:
        started = datetime.fromtimestamp(record.created).isoformat(" ", "minutes")
        lines.append(f"{record.name}  {record.study} on {record.engine}, started {started}")
        try:
            states = _engine_of(record).states(record)
        except HpoError as error:  # the cluster may have ended, and with it the workers
            lines.append(f"  {error}")
            continue
        lines += [f"  {state.number:>3}  {state.state:<8} {state.where}".rstrip() for state in states]
    return "\n".join(lines) or "no launches were started from this folder"


def _logs_text(record: "Launch") -> str:
    texts = enumerate(_engine_of(record).logs(record), start=1)
    return "\n".join(f"--- worker {number}\n" + "\n".join(text.splitlines()).rstrip() for number, text in texts)
