"""The dashboard as one WSGI application: optuna-dashboard behind its guards, with the reports beside it."""

import math
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna_dashboard
from optuna.storages import RDBStorage

from hpo.dashboard import middleware
from hpo.dashboard.live_reports import LiveReports
from hpo.dashboard.navigation import Linked, with_bar
from hpo.dashboard.report_files import Progress, with_reports
from hpo.errors import UsageError
from hpo.storage.database import is_available
from hpo.storage.ledger import load_study, names
from hpo.storage.optuna.mirror import report_name

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
    app = with_bar(_pages(storage), lambda: linked(storage), editable)
    app = with_reports(app, reports, lambda: progress(storage), LiveReports(storage.engine, reports).folder)
    app = middleware.while_answering(app, lambda: is_available(storage.engine))
    if not editable:
        app = middleware.only_reading(app)
    if password:
        app = middleware.with_password(app, password)
    if middleware.is_loopback(host):
        app = middleware.from_known_hosts(app, {*middleware.LOOPBACK, host})
    else:
        own = {*middleware.LOOPBACK, host, socket.gethostname(), socket.getfqdn()}
        app = middleware.from_known_hosts(app, own, addresses=True)
    return middleware.with_safe_headers(app)


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
        try:
            ledger = load_study(storage.engine, name)
        except UsageError:  # deleted a moment ago
            continue
        counts = list(ledger.counts().values())
        trials, reruns = (
            "/".join(str(sum(entry[f"{kind}_{part}"] for entry in counts)) for part in ("done", "total"))
            for kind in ("trials", "reruns")
        )
        state = ledger.state()
        words = STATES[state]
        if state == "done" and any(entry["failed"] for entry in counts):
            words = "finished, but some runs failed for good"
        found.append(Progress(name, words, trials, reruns, _summary(storage, name), state == "done"))
    return found


def linked(storage: RDBStorage) -> Sequence[Linked]:
    """All studies, those whose summary is the newest first."""
    found = [Linked(name, _summary(storage, name)) for name in names(storage.engine)]
    return sorted(found, key=lambda entry: entry.summary or math.inf, reverse=True)


def _summary(storage: RDBStorage, study: str) -> int | None:
    with suppress(KeyError):
        return storage.get_study_id_from_name(report_name(study))
    return None
