"""`hpo new`: a study to begin with."""

from typing import Annotated

import typer

from hpo.cli.options import app


@app.command()
def new(name: Annotated[str, typer.Argument(help="Letters, digits and '_'; the study's name.")]) -> None:
    """Write studies/NAME.py, a commented study of an idea of your own to begin with."""
    from hpo.study.scaffold import write_study

    typer.echo(f"wrote {write_study(name)}; next:")
    typer.echo(f"  hpo try {name} -c Mine\n  hpo run {name}")
