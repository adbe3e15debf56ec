"""TensorBoard: a folder of event files per run, below runs/STUDY; hyperparameters for its HParams tab."""

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from hpo.storage.optuna.tracked_runs import TrackedRun
from hpo.study.study_folders import tensorboard_folder
from hpo.trackers import numbers

FINISHED = "finished"  # a file with the key of the run whose folder it is in


class TensorBoard:
    """Writes below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, EventFileWriter] = {}

    def finished(self) -> set[str]:
        return {path.read_text(encoding="utf-8") for path in self.folder.glob(f"*/*/*/{FINISHED}")}

    @property
    def location(self) -> str:
        return f"{self.folder}; `tensorboard --logdir {shlex.quote(str(self.folder.parent))}` shows them"

    def start(self, run: TrackedRun) -> None:
        if earlier := self._writers.pop(run.name, None):
            earlier.close()
        folder = self._path(run)
        shutil.rmtree(folder, ignore_errors=True)
        self._writers[run.name] = EventFileWriter(str(folder))
        simple = (bool, int, float, str)
        config = {name: value if isinstance(value, simple) else str(value) for name, value in run.config.items()}
        self._add(run, 0, hparams_pb(config | run.tags, trial_id=f"{run.study}/{run.name}"))

    def log(self, run: TrackedRun, epochs: Mapping[int, Mapping[str, float]]) -> None:
        for epoch, values in epochs.items():
            for name, value in values.items():
                self._add(run, epoch, scalar_pb(name, value))
        self._writers[run.name].flush()

    def finish(self, run: TrackedRun, final: Mapping[str, Any]) -> None:
        for name, value in numbers(final).items():
            self._add(run, max(run.epochs, default=0), scalar_pb(f"final/{name}", value))
        self._writers.pop(run.name).close()
        if final:
            (self._path(run) / FINISHED).write_text(run.key, encoding="utf-8")

    def _path(self, run: TrackedRun) -> Path:
        return self.folder / run.name

    def _add(self, run: TrackedRun, epoch: int, summary: Summary) -> None:
        self._writers[run.name].add_event(Event(step=epoch, summary=summary))


def make(study: str) -> TensorBoard:
    return TensorBoard(tensorboard_folder(study))
