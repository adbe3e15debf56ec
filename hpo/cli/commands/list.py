"""`hpo list`: studies here, and the built-in parts."""

import json

import typer

from hpo.cli.options import AsJson, app


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Studies, and the built-in regularizers, optimizers, networks, data sets and schedules."""
    from hpo.cli.terminal import catalogue

    found = catalogue.catalogue()
    typer.echo(json.dumps(found, indent=1) if as_json else catalogue.catalogue_text(found))
