"""`hpo new`: a study to start from."""

from typing import Annotated

import typer

from hpo.cli.options import app
from hpo.errors import UsageError
from hpo.output import write_line


@app.command()
def new(
    name: Annotated[str | None, typer.Argument(help="The study's name: letters, digits and '_'.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="STUDY", help="Copy this study; NAME is then optional.")
    ] = None,
) -> None:
    """Write studies/NAME.py: a commented study of a custom regularizer, or a copy of a study."""
    from hpo.study.scaffold import write_study
    from hpo.study.study_files import study_path

    if name is None and source is None:
        raise UsageError("give the new study a name, or a study to copy: hpo new my_idea, hpo new --from gnvr")
    name = name or study_path(source or "").stem
    write_line(f"wrote {write_study(name, source)}; next:")
    if source is None:
        write_line(f"  hpo try {name} -c Mine")
    write_line(f"  hpo run {name}{''.join((source or '').partition(':')[1:])}")
