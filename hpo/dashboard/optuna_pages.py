"""optuna-dashboard as hpo serves it: its studies in the order of hpo's, and importances of enough trials only."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import optuna_dashboard
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from hpo.dashboard.middleware import Response
from hpo.dashboard.study_rows import optuna_names
from hpo.errors import UsageError
from hpo.report.tuning_frames import ENOUGH_TRIALS
from hpo.storage.ledger import load_study, names
from hpo.storage.optuna.studies import STUDY_ID


def optuna_pages(storage: RDBStorage) -> WSGIApplication:
    """The whole application."""
    app = optuna_dashboard.wsgi(storage)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # else it answers 500 to a client without that header
        parts = environ.get("PATH_INFO", "").strip("/").split("/")
        if parts[:2] == ["api", "studies"] and environ["REQUEST_METHOD"] == "GET":
            if len(parts) == 2:
                return _in_order(storage, app, environ, start)
            if parts[3:] == ["param_importances"] and _has_few_trials(storage, parts[2]):
                # An error would be a red message on every visit; without importances the diagram stays empty.
                return Response("200 OK", '{"param_importances": []}', "application/json").send(environ, start)
        return app(environ, start)

    return application


def _in_order(
    storage: RDBStorage, app: WSGIApplication, environ: WSGIEnvironment, start: StartResponse
) -> Iterable[bytes]:
    """The list of Optuna studies, those of one study next to each other: its summary, then its configurations."""
    answer: list[Any] = []

    def keep(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        answer[:] = [status, headers]

    text = b"".join(app(environ | {"HTTP_ACCEPT_ENCODING": "identity"}, keep)).decode()
    status, headers = answer
    if not status.startswith("200"):
        return Response(status, text, dict(headers).get("Content-Type", "").split(";")[0]).send(environ, start)
    content = json.loads(text)
    order: dict[str, int] = {}
    for name in names(storage.engine):
        with suppress(UsageError):  # deleted a moment ago
            order |= {shown: len(order) + n for n, shown in enumerate(optuna_names(load_study(storage.engine, name)))}
    content["study_summaries"].sort(key=lambda study: order.get(study["study_name"], len(order)))
    return Response(status, json.dumps(content), "application/json").send(environ, start)


def _has_few_trials(storage: RDBStorage, study: str) -> bool:
    """Whether this Optuna study shows one of hpo's and has fewer finished trials than importances need."""
    with suppress(ValueError, KeyError):  # no such study
        number = int(study)
        if STUDY_ID in storage.get_study_user_attrs(number):
            return storage.get_n_trials(number, TrialState.COMPLETE) < ENOUGH_TRIALS
    return False
