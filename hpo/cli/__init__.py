"""The command line: `hpo run gnvr`. Heavy imports wait until a command needs them."""

import gc
import sys

# In the order that `hpo --help` shows their commands in.
from hpo.cli import studies  # isort: split

from hpo.cli import reports  # isort: split

from hpo.cli import parts  # isort: split

from hpo.cli import bench  # isort: split

from hpo.cli import machine
from hpo.cli.options import app
from hpo.errors import HpoError

__all__ = ["app", "bench", "machine", "main", "parts", "reports", "studies"]


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
