"""Questions before results are lost."""

import sys
from typing import Annotated

import typer

from hpo.errors import UsageError
from hpo.output import write_line

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")]


def confirm_deletion(name: str, contents: str, yes: bool) -> None:
    """Asks whether a study may be deleted.

    Raises:
        UsageError: nobody can be asked, since standard input is no terminal. typer.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"this deletes {name} ({contents}); give --yes to delete it without a question")
    write_line(f"This deletes {name}: {contents}.")
    if not typer.confirm("Delete it?"):
        write_line("Nothing was deleted.")
        raise typer.Exit(1)
