"""The dashboard as one WSGI application: the list of studies, their reports and optuna-dashboard."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna_dashboard
from optuna.storages import RDBStorage

from hpo.dashboard import middleware
from hpo.dashboard.live_reports import LiveReports
from hpo.dashboard.password import basic_auth
from hpo.dashboard.report_files import StudyRow, with_reports
from hpo.errors import UsageError
from hpo.storage.database import is_available
from hpo.storage.ledger import Ledger, load_study, names
from hpo.storage.ledger.progress import lines, progress
from hpo.storage.optuna.studies import report_name
from hpo.tasks import metric_words
from hpo.trials import describe_state


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
    checks.append(middleware.database_available(lambda: is_available(storage.engine)))
    live = LiveReports(storage.engine, reports)
    app = with_reports(_optuna_pages(storage), reports, lambda: study_rows(storage), live.folder)
    return middleware.guarded(app, checks)


def _optuna_pages(storage: RDBStorage) -> WSGIApplication:
    """optuna-dashboard, which by itself answers 500 to a client without an Accept-Encoding header."""
    app = optuna_dashboard.wsgi(storage)

    def with_encoding(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, start)

    return with_encoding


def study_rows(storage: RDBStorage) -> Sequence[StudyRow]:
    """The progress of every study in the database."""
    rows = []
    for name in names(storage.engine):
        with suppress(UsageError):  # deleted a moment ago
            ledger = load_study(storage.engine, name)
            by_name, state, workers = ledger.counts(), ledger.state(), ledger.activity().workers
            counts = list(by_name.values())
            trials, reruns = (
                "/".join(str(sum(entry[f"{phase}_{part}"] for entry in counts)) for part in ("done", "total"))
                for phase in ("trials", "reruns")
            )
            words = describe_state(state, sum(entry["failed"] for entry in counts))
            now = [] if state == "done" else lines(progress(ledger.definition, by_name, workers))
            best = _best(ledger, counts)
            rows.append(StudyRow(name, words, trials, reruns, _summary_id(storage, name), state == "done", best, now))
    return rows


def _best(ledger: Ledger, counts: Sequence[Mapping[str, Any]]) -> str:
    """The best score of all configurations so far; empty without any."""
    best = max if ledger.direction == "maximize" else min
    value = best((entry["best"] for entry in counts if entry["best"] is not None), default=None)
    return "" if value is None else f"{metric_words(ledger.definition['score'])} {value:.4g}"


def _summary_id(storage: RDBStorage, study: str) -> int | None:
    with suppress(KeyError):
        return storage.get_study_id_from_name(report_name(study))
    return None
