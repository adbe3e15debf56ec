"""The command line: `hpo run gnvr`. Heavy imports wait until a command needs them."""

import gc
import sys

from hpo.cli import commands
from hpo.cli.options import app
from hpo.errors import HpoError

__all__ = ["app", "commands", "main"]


def main() -> None:
    """Runs the command line; errors with a known mend are one sentence on stderr."""
    try:
        app()
    except HpoError as error:
        print(f"hpo: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        gc.freeze()  # at its end a process searches all that was loaded for cycles, for most of a second
