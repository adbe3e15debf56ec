"""`hpo dashboard`: optuna-dashboard and the written reports in a browser, for reading and from this machine alone."""

from hpo.dashboard.application import build
from hpo.dashboard.server import serve

__all__ = ["build", "serve"]
