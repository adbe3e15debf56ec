"""The dashboard as one WSGI application: the list of studies, their reports and optuna-dashboard."""

import socket
from pathlib import Path
from wsgiref.types import WSGIApplication

from optuna.storages import RDBStorage

from hpo.dashboard import middleware
from hpo.dashboard.live_reports import LiveReports
from hpo.dashboard.optuna_pages import optuna_pages
from hpo.dashboard.password import basic_auth
from hpo.dashboard.report_files import with_reports
from hpo.dashboard.study_rows import study_rows
from hpo.storage.database import is_available


def build(
    storage: RDBStorage,
    reports: Path = Path("reports"),
    host: str = "127.0.0.1",
    password: str | None = None,
    editable: bool = False,
) -> WSGIApplication:
    """The whole application.

    Args:
        storage: from `hpo.storage.optuna.studies.open_storage`, of a database with hpo's tables.
        reports: the folder of reports.
        host: the name or address that the server listens on; it decides which Host headers are accepted.
        password: required from every client; None: no password.
        editable: whether requests may change the database.
    """
    local = middleware.is_loopback(host)
    hosts = {*middleware.LOOPBACK, host, *(() if local else (socket.gethostname(), socket.getfqdn()))}
    checks = [middleware.known_host(hosts, any_address=not local)]
    if password:
        checks.append(basic_auth(password))
    if not editable:
        checks.append(middleware.read_only)
    live = LiveReports(storage.engine, reports)
    app = with_reports(optuna_pages(storage), reports, lambda: study_rows(storage), live.folder)
    return middleware.guarded(middleware.with_database(app, lambda: is_available(storage.engine)), checks)
