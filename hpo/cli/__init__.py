"""The command line: `hpo run gnvr`. Large packages are imported only by the commands that need them."""

import gc
import logging

from hpo.cli import commands
from hpo.cli.options import app
from hpo.errors import HpoError
from hpo.output import guard_reports_of_python, write_line

__all__ = ["app", "commands", "main"]


def main() -> None:
    """Runs the command line; an HpoError is one sentence on stderr."""
    guard_reports_of_python()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home folder that it cannot write to
    try:
        app()
    except HpoError as error:
        write_line(f"hpo: {error}", error=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        gc.freeze()  # else the exiting process searches everything for reference cycles, for most of a second
