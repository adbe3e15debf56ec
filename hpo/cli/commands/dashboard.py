"""`hpo dashboard`: all studies in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import Reports, Storage, app


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
    from hpo.dashboard.server import serve

    serve(api.storage_url(storage), host, port, reports, allow_edit)
