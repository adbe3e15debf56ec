"""Reports what a worker trains while its main thread trains: curves to Optuna, and the progress of the population."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo.storage.ledger import Ledger, Work
from hpo.storage.ledger.progress import Training
from hpo.storage.optuna.curves import points
from hpo.storage.optuna.live_curves import LiveCurves, write_live
from hpo.trials import mean_curve

if TYPE_CHECKING:
    from hpo.training.recipe import Result

INTERVAL = 2.0  # seconds between two reports, at least
SHARE = 0.05  # the largest share of time that reports take: a slow database gets fewer of them
SPEED_CHANGES = 20  # finished epochs over which the speed is measured


class Epoch(NamedTuple):
    """An epoch that a population has finished.

    Attributes:
        work: its slots. epoch: from 1. results: slot id → the results so far of the slot's models, which training
            continues to change. complete: whether each slot has all of its models in this population.
    """

    work: Work
    epoch: int
    epochs: int
    results: "Mapping[int, Sequence[Result]]"
    complete: bool


class LiveProgress:
    """A thread that reports the last finished epoch every few seconds. A report that fails is left out."""

    def __init__(self, ledger: Ledger, worker_id: str, curves: bool = True) -> None:
        """curves: whether to write curves to Optuna."""
        self.ledger, self.worker_id, self.curves = ledger, worker_id, curves
        self._epoch: Epoch | None = None
        self._reported: Epoch | None = None
        self._written: dict[tuple[int, int], int] = {}  # (slot, attempt) → epochs in Optuna
        self._model_epochs = 0
        self._changes: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=SPEED_CHANGES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hpo-progress", daemon=True)

    def note(self, epoch: Epoch | None) -> None:
        """Takes an epoch to report; None: the worker trains nothing."""
        self._epoch = epoch
        if epoch is not None:
            self._model_epochs += sum(map(len, epoch.results.values()))
            self._changes.append((time.monotonic(), self._model_epochs))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=0.2)

    def _run(self) -> None:
        pause = INTERVAL
        while not self._stopped.wait(pause):
            start = time.monotonic()
            self.report()
            pause = max(INTERVAL, (time.monotonic() - start) / SHARE)

    def report(self) -> None:
        """Reports the last epoch, if it is not yet reported."""
        epoch = self._epoch
        if epoch is self._reported:
            return
        written, self._written = self._written, {}  # after a failure all is written again
        with suppress(
            Exception
        ):  # the database is unavailable, or Optuna's tables are: the study does not depend on it
            if epoch is None:
                write_live(self.ledger, self.worker_id, None)
            else:
                self._written = self._write(epoch, written)
            self._reported = epoch

    def _write(self, epoch: Epoch, written: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
        score = self.ledger.definition["score"]
        curves = {
            slot: mean_curve([result.curves.get(score, ()) for result in results])
            for slot, results in epoch.results.items()
        }
        keys = {slot.id: (slot.id, slot.attempt) for slot in epoch.work.slots}
        complete = not all(key in written for key in keys.values())
        new = {
            slot: {
                number: value
                for number, value in points(curve, epoch.epochs).items()
                if complete or number > written[keys[slot]]
            }
            for slot, curve in curves.items()
        } if self.curves and epoch.complete else {}  # fmt: skip
        write_live(self.ledger, self.worker_id, LiveCurves(epoch.work, new, complete, self._training(epoch, curves)))
        return {keys[slot]: len(curve) for slot, curve in curves.items()}

    def _training(self, epoch: Epoch, curves: Mapping[int, Sequence[float]]) -> dict[str, Any]:
        losses = [result.curves["train_loss"][-1] for results in epoch.results.values() for result in results
                  if result.curves.get("train_loss") and not result.diverged_epoch]  # fmt: skip
        best = max if self.ledger.direction == "maximize" else min
        scores = [curve[-1] for curve in curves.values() if len(curve) and math.isfinite(curve[-1])]
        (start, before), (end, after) = self._changes[0], self._changes[-1]
        return Training(
            configuration=epoch.work.configuration,
            phase="rerun" if epoch.work.phase == "rerun" else "trial",
            runs=len(epoch.results),
            epoch=epoch.epoch,
            epochs=epoch.epochs,
            loss=sum(losses) / len(losses) if losses else None,
            score=best(scores, default=None),
            speed=(after - before) / (end - start) if end > start else None,
        )._asdict()


OnEpoch = Callable[[Epoch], None]
