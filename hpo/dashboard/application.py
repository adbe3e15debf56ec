"""The dashboard as one WSGI application: optuna-dashboard behind its guards, with the reports beside it."""

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna_dashboard
from optuna.storages import RDBStorage

from hpo.dashboard import guards
from hpo.dashboard.reports import Progress, with_reports
from hpo.database import answers
from hpo.ledger import load_study, names

STATES = {"done": "finished", "work": "has open work", "wait": "in training"}


def build(
    storage: RDBStorage,
    reports: Path = Path("reports"),
    host: str = "127.0.0.1",
    password: str | None = None,
    editable: bool = False,
) -> WSGIApplication:
    """The whole application.

    Args:
        storage: from `mirror.open_storage`, of a database with hpo's tables.
        reports: the folder of reports.
        host: the name or address it listens on; decides which Host headers are its own.
        password: asked for where given.
        editable: whether requests may change the database.
    """
    app = _pages(storage)
    app = with_reports(app, reports, lambda: progress(storage))
    app = guards.while_answering(app, lambda: answers(storage.engine))
    if not editable:
        app = guards.only_reading(app)
    if password:
        app = guards.with_password(app, password)
    if guards.is_loopback(host):
        app = guards.from_known_hosts(app, {*guards.LOOPBACK, host})
    else:
        own = {*guards.LOOPBACK, host, socket.gethostname(), socket.getfqdn()}
        app = guards.from_known_hosts(app, own, addresses=True)
    return guards.with_safe_headers(app)


def _pages(storage: RDBStorage) -> WSGIApplication:
    """optuna-dashboard, which answers 500 to a client that names no encoding, mended."""
    app = optuna_dashboard.wsgi(storage)

    def mended(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, start)

    return mended


def progress(storage: RDBStorage) -> Sequence[Progress]:
    """How far every study of the database is."""
    found = []
    for name in names(storage.engine):
        ledger = load_study(storage.engine, name)
        counts = ledger.counts().values()
        trials, reruns = (
            "/".join(str(sum(entry[f"{kind}_{part}"] for entry in counts)) for part in ("done", "total"))
            for kind in ("trials", "reruns")
        )
        found.append(Progress(name, STATES[ledger.state()], trials, reruns))
    return found
