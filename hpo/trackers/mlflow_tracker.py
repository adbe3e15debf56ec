"""MLflow: an experiment per study, a run per trial and rerun; where MLFLOW_TRACKING_URI says, else mlflow.db here."""

import logging
import os
import shlex
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from hpo.storage.optuna.tracked_runs import TrackedRun
from hpo.trackers import numbers

STATES = ("FINISHED", "KILLED")  # of a run that has ended, and of one that was interrupted
MAX_METRICS = 1000  # values of one request
NAME, KEY = "hpo.name", "hpo.key"  # tags


class Mlflow:
    """Logs into an experiment, which is created if it does not exist."""

    def __init__(self, study: str) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.study, self.uri = study, os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        self.client = MlflowClient(self.uri)
        existing = self.client.get_experiment_by_name(study)
        self.experiment: str = existing.experiment_id if existing else self.client.create_experiment(study)
        self._earlier = {run.data.tags[NAME]: run for run in self._runs() if NAME in run.data.tags}
        self._ids: dict[str, str] = {}

    def finished(self) -> set[str]:
        return {run.data.tags[KEY] for run in self._earlier.values() if run.info.status == STATES[0]}

    @property
    def location(self) -> str:
        if "://" in self.uri and not self.uri.startswith("sqlite"):  # a server, whose address may hold a password
            return f"the experiment {self.study} of your MLflow server"
        command = f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"
        return f"the experiment {self.study} in {self.uri}; `{command}` shows it (pip install mlflow)"

    def start(self, run: TrackedRun) -> None:
        earlier = self._earlier.pop(run.name, None)
        for old in filter(None, (self._ids.pop(run.name, None), earlier and earlier.info.run_id)):
            self.client.delete_run(old)
        tags = run.tags | {NAME: run.name, KEY: run.key}
        identifier = self.client.create_run(self.experiment, tags=tags, run_name=run.name).info.run_id
        self._ids[run.name] = identifier
        self.client.log_batch(identifier, params=[Param(name, str(value)) for name, value in run.config.items()])

    def log(self, run: TrackedRun, epochs: Mapping[int, Mapping[str, float]]) -> None:
        now = int(1000 * time.time())
        self._log(run, [Metric(name, x, now, epoch) for epoch, row in epochs.items() for name, x in row.items()])

    def finish(self, run: TrackedRun, final: Mapping[str, Any]) -> None:
        now, last = int(1000 * time.time()), max(run.epochs, default=0)
        self._log(run, [Metric(f"final/{name}", value, now, last) for name, value in numbers(final).items()])
        self.client.set_terminated(self._ids.pop(run.name), STATES[0] if final else STATES[1])

    def _log(self, run: TrackedRun, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self._ids[run.name], metrics=metrics[start : start + MAX_METRICS])

    def _runs(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs


def make(study: str) -> Mlflow:
    return Mlflow(study)
