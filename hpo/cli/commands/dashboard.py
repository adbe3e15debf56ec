"""Commands about this machine and what runs on it: doctor, dashboard."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import AsJson, Device, Reports, Storage, app


@app.command()
def doctor(
    storage: Storage = None, device: Device = "auto", reports: Reports = Path("reports"), as_json: AsJson = False
) -> None:
    """Look at database, clock, device, disks and packages, and say what would fail; exit code 1 if something would."""
    from hpo import api
    from hpo.cli.doctor import as_text, examine

    checks = examine(api.storage_url(storage), device, reports)
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
    from hpo import api
    from hpo.dashboard import serve

    serve(api.storage_url(storage), host, port, reports, allow_edit)
