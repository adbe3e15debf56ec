"""The commands of the command line, one file each."""

# In the order that `hpo --help` shows them in.
from hpo.cli.commands import run  # isort: split

from hpo.cli.commands import worker  # isort: split

from hpo.cli.commands import status  # isort: split

from hpo.cli.commands import report  # isort: split

from hpo.cli.commands import list  # isort: split

from hpo.cli.commands import try_once  # isort: split

from hpo.cli.commands import new  # isort: split

from hpo.cli.commands import bench  # isort: split

from hpo.cli.commands import doctor  # isort: split

from hpo.cli.commands import dashboard

__all__ = ["bench", "dashboard", "doctor", "list", "new", "report", "run", "status", "try_once", "worker"]
