"""Commands about this machine and what runs on it: bench, doctor, dashboard."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from hpo.cli.options import AsJson, Device, Reports, Storage, app
from hpo.errors import UsageError


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
