"""`hpo launch`: workers started here, through Slurm or on Ray."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from hpo.launch.launch import Engine, Launch


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
    time: Annotated[str, typer.Option(help="Slurm: time limit of each worker, such as 2h.")] = "1h",
    gpus_per_node: Annotated[int | None, typer.Option(min=1, help="Slurm: GPUs of each worker.")] = None,
    memory: Annotated[str | None, typer.Option(help="Slurm: memory of each worker, such as 8GB.")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm: the account.")] = None,
    requeue: Annotated[
        bool, typer.Option(help="Slurm: start a worker again after its time limit and after preemption.")
    ] = True,
    address: Annotated[
        str, typer.Option(help="Ray: the cluster, as HOST:PORT; auto: $RAY_ADDRESS or the one here.")
    ] = "auto",
    cpus: Annotated[float | None, typer.Option(min=0, help="Ray: CPUs of each worker; default: --threads.")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="Ray: GPUs of each worker.")] = 0,
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
    url = independent_of_folder(api.storage_url(storage))
    engine: Engine = Local()
    if on == "slurm":
        engine = Slurm(partition, seconds_of(time), gpus_per_node, threads, memory, account, requeue)
    elif on == "ray":
        study, engine = _on_ray(study, address, threads if cpus is None else cpus, gpus, url)
    check_reachable(url, engine)
    if log:
        check_installed(log)
    definition = api.with_overrides(loading.load(study), name, epochs)
    ledger = api.join_ledger(definition, url, accept_changed_code)  # a mistake in the study is told here, not in a log
    flags = {"--device": device, "--name": name, "--epochs": epochs, "--population": population, "--threads": threads}
    flags |= {"--log": log}
    command = [sys.executable, "-m", "hpo", "worker", study]
    command += [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]
    command += [] if live_curves else ["--no-live-curves"]
    command += ["--accept-changed-code"] if accept_changed_code else []
    os.environ["HPO_STORAGE"] = url
    if keep_weights:
        set_weights_folder()
    record = new_launch(ledger.study, on, command, workers)
    check_folder(record.folder, "change to a folder that you can write to")
    save(record, engine.start(record))
    write_line(f"{record.name}: {plural(workers, 'worker')} started on {on}; next:")
    write_line(f"  hpo status {ledger.study}\n  hpo launch --logs {record.name}\n  hpo launch --stop {record.name}")


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
