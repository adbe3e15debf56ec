"""Weights & Biases: a run with a fixed id per trial and rerun, grouped by configuration; WANDB_* variables apply."""

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from hpo.storage.optuna.tracked_runs import TrackedRun
from hpo.trackers import numbers


class WandB:
    """Logs into a project. Several runs are open at once."""

    def __init__(self, study: str) -> None:
        self.study = study
        self.project = os.environ.get("WANDB_PROJECT") or re.sub(r"[\\/#?%:]", "-", study)
        self.folder = Path(os.environ.get("WANDB_DIR", ".")).resolve() / "wandb"
        self._record = self.folder / f"hpo-{re.sub(r'[^A-Za-z0-9._-]', '-', study)}-{_digest(study)}.txt"
        self._runs: dict[str, Any] = {}
        self._page: str | None = None

    def finished(self) -> set[str]:
        return set(self._record.read_text(encoding="utf-8").splitlines()) if self._record.exists() else set()

    @property
    def location(self) -> str:
        if self._page:
            return f"the project {self.project}, {self._page}"
        if any(self.folder.glob("offline-run-*")):
            runs = f"{shlex.quote(os.path.relpath(self.folder))}/offline-run-*"
            return f"{os.path.relpath(self.folder)}; `wandb sync {runs}` uploads them to the project {self.project}"
        return f"the project {self.project} of W&B"

    def start(self, run: TrackedRun) -> None:
        if earlier := self._runs.pop(run.name, None):
            earlier.finish(exit_code=1)
        name = _digest(f"{run.study}/{run.name}")
        for folder in self.folder.glob(f"offline-run-*-{name}"):  # of an earlier attempt, which was not uploaded
            shutil.rmtree(folder, ignore_errors=True)
        self._runs[run.name] = wandb.init(
            project=self.project,
            dir=str(self.folder.parent),
            id=name,  # a run of the same id is overwritten
            name=run.name,
            group=run.configuration,
            job_type=run.phase,
            tags=[f"{key}:{value}"[:64] for key, value in run.tags.items()],
            config={**run.config, **run.tags},
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )
        self._page = None if self._runs[run.name].offline else self._runs[run.name].project_url
        self._runs[run.name].define_metric("*", step_metric="epoch")

    def log(self, run: TrackedRun, epochs: Mapping[int, Mapping[str, float]]) -> None:
        for epoch, values in epochs.items():
            self._runs[run.name].log({"epoch": epoch, **values})

    def finish(self, run: TrackedRun, final: Mapping[str, Any]) -> None:
        opened = self._runs.pop(run.name)
        opened.summary.update({f"final/{name}": value for name, value in numbers(final).items()})
        opened.finish(exit_code=0 if final else 1)
        if final:
            with self._record.open("a", encoding="utf-8") as record:
                record.write(f"{run.key}\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make(study: str) -> WandB:
    return WandB(study)
