"""The command-line application, and options that several commands share."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpo.output import write_line

app = typer.Typer(
    help="Fair comparisons of optimizers and regularizers, averaged over seeds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def whole_number(help: str, minimum: int = 1) -> Any:
    """An option that takes a whole number of at least `minimum`."""
    return typer.Option(min=minimum, metavar="N", help=help)


StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's name (see `hpo list`), NAME:VARIANT, or a .py file.")
]
StoredStudy = Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database: NAME or NAME:VARIANT.")]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Database; default: $HPO_STORAGE, $OPTUNA_STORAGE or sqlite:///hpo.db."),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:NUMBER.")]
Trials = Annotated[int | None, whole_number("Trials per configuration and tuning run; default: the study's.")]
Seeds = Annotated[
    int | None, whole_number("Reruns per configuration, shared by its tuning runs; default: the study's.")
]
TuningRuns = Annotated[
    int | None, whole_number("Independent tuning runs: 1: verdicts are tentative; 2: none; 5 or more: firm.")
]
Epochs = Annotated[int | None, whole_number("Epochs per trial and rerun; default: the study's.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="The study's name in the database.")]
PopulationSize = Annotated[
    int | None, whole_number("Most models trained at once, the same for all workers; default: by network and device.")
]
TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Log = Annotated[
    TrackerName | None,
    typer.Option("--log", metavar="TRACKER", help="Log each trial and rerun to tensorboard, wandb or mlflow."),
]
LiveCurves = Annotated[
    bool,
    typer.Option(
        "--live-curves/--no-live-curves",
        help="Write each run's validation score by epoch to Optuna while it trains.",
    ),
]
StepTimes = Annotated[
    bool,
    typer.Option(
        "--step-times/--no-step-times", help="When the last rerun is finished, time a few steps of each configuration."
    ),
]
AcceptChangedCode = Annotated[
    bool,
    typer.Option(
        "--accept-changed-code", help="Continue although the code changed since the first trials; the report says so."
    ),
]


KeepWeights = Annotated[
    bool, typer.Option("--keep-weights", help="Keep the weights of reruns, in weights/ or $HPO_WEIGHTS.")
]
Workers = Annotated[
    int | None, whole_number("Worker processes on this machine; default: one per GPU, or per CPU core.")
]
MaxTime = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Stop after this time (2h, 90m); the same command resumes. Exit code 142."),
]
Reports = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder of reports.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def set_weights_folder() -> None:
    """For `--keep-weights`: names the folder to this process and the workers that it starts, unless the user has."""
    os.environ["HPO_WEIGHTS"] = os.environ.get("HPO_WEIGHTS") or str(Path("weights").absolute())


def _print_version(requested: bool) -> None:
    if requested:
        from hpo import __version__

        write_line(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fair comparisons of optimizers and regularizers, averaged over seeds."""
