"""`hpo dashboard`: all studies in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import Reports, Storage, app


@app.command()
def dashboard(
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 picks a free one.")] = 8080,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="A host other than localhost needs $HPO_DASHBOARD_PASSWORD.")
    ] = "127.0.0.1",
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let the pages change and delete studies.")] = False,
    reports: Reports = Path("reports"),
) -> None:
    """Show studies, trials and reports in a browser; read-only, on localhost."""
    from hpo import api
    from hpo.dashboard.server import serve

    serve(api.storage_url(storage), host, port, reports, allow_edit)
