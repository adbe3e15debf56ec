"""Options that several commands share, and the application that the commands belong to."""

from pathlib import Path
from typing import Annotated, Optional

import typer

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
Trials = Annotated[Optional[int], typer.Option(min=1, help="Settings tried for each configuration and tuning run.")]  # noqa: UP045
Seeds = Annotated[Optional[int], typer.Option(min=1, help="Reruns of each configuration, shared by its tuning runs.")]  # noqa: UP045
TuningRuns = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Independent tuning runs, which share the reruns; with one, all verdicts are tentative."),
]
Epochs = Annotated[Optional[int], typer.Option(min=1, help="Epochs of every run.")]  # noqa: UP045
Name = Annotated[Optional[str], typer.Option(help="The study's name in the database.")]  # noqa: UP045
PopulationSize = Annotated[Optional[int], typer.Option(min=1, help="Most models trained at once.")]  # noqa: UP045
AcceptChangedCode = Annotated[
    bool, typer.Option("--accept-changed-code", help="Continue although the code changed since the first trials.")
]
Workers = Annotated[Optional[int], typer.Option(min=1, help="Worker processes to start here.")]  # noqa: UP045


def _version(wanted: bool) -> None:
    if wanted:
        from hpo import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fair, seed-averaged comparisons of optimizers and regularizers."""


MaxTime = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Give work back and stop after a time such as 2h or 90m; exit code 142."),
]
Reports = Annotated[Path, typer.Option(help="The folder of reports.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
