"""The commands of the command line, one file each."""

# `hpo --help` lists the commands in the order of these imports.
# isort: off
from hpo.cli.commands import run
from hpo.cli.commands import worker
from hpo.cli.commands import launch
from hpo.cli.commands import status
from hpo.cli.commands import report
from hpo.cli.commands import list
from hpo.cli.commands import best
from hpo.cli.commands import export
from hpo.cli.commands import log
from hpo.cli.commands import delete
from hpo.cli.commands import rename
from hpo.cli.commands import copy
from hpo.cli.commands import merge
from hpo.cli.commands import import_study
from hpo.cli.commands import try_once
from hpo.cli.commands import new
from hpo.cli.commands import doctor
from hpo.cli.commands import dashboard
from hpo.cli.commands import bench

__all__ = [
    "bench",
    "best",
    "copy",
    "dashboard",
    "delete",
    "doctor",
    "export",
    "import_study",
    "launch",
    "list",
    "log",
    "merge",
    "new",
    "rename",
    "report",
    "run",
    "status",
    "try_once",
    "worker",
]
