"""Benchmark: how much of a tuning run successive halving saves, and how much worse the setting chosen is.

Whole tuning runs of a study's configuration are made with and without pruning, with the same tuning seed, the same
start-up settings and the batches that workers use. The setting that each chose is then trained on seeds that no tuning
run used.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from hpo.analysis.paired_tests import compare
from hpo.bench.search import best_setting, quality, sampler_seed
from hpo.bench.table import OnRow, Row
from hpo.data import load_source
from hpo.space import split_space
from hpo.storage.ledger.scheduler import batch_sizes
from hpo.study.components import full_space
from hpo.study.directions import direction_of
from hpo.study.pruner import SuccessiveHalving
from hpo.study.study import Study
from hpo.trials import DIVERGED, NO_SCORE, PRUNED, FinishedTrial, Outcome, Setting, Slot, TrialCurve, Work
from hpo.worker.sampler import sample
from hpo.worker.trainer import Trainer

ARMS = ("unpruned", "pruned")
COLUMNS = {
    "repetition": (10, "{seed}"),
    "epochs": (15, "{unpruned[epochs]} → {pruned[epochs]}"),
    "seconds": (17, "{unpruned[seconds]:.1f} → {pruned[seconds]:.1f}"),
    "pruned": (6, "{pruned[pruned]}"),
    "test metric": (17, "{unpruned[quality]:.4f} → {pruned[quality]:.4f}"),
}


def measure(
    study: Study,
    configuration: str,
    device: Any,
    pruner: SuccessiveHalving,
    trials: int,
    repetitions: int,
    fresh_seeds: int,
    on_row: OnRow,
) -> Row:
    """Tunes `repetitions` times with and without `pruner`.

    Args:
        trials: per tuning run. fresh_seeds: number of seeds on which a chosen setting is trained.

    Returns:
        JSON values: the setting; for each repetition a row with, for "unpruned" and "pruned", the epochs trained, their
        seconds (CPU time, or wall time on a GPU), the trials pruned and the test metric of the setting chosen
        (`quality`); the shares of epochs and seconds `saved`, and the mean `difference` of test metric with its 95%
        interval (`low`, `high`).
    """
    source = load_source(study.data)
    rows: list[Row] = []
    for seed in range(repetitions):
        row: Row = {"seed": seed}
        for arm in ARMS:
            arm_study = dataclasses.replace(study, pruner=pruner if arm == "pruned" else None)
            row[arm] = TuningRun(arm_study, configuration, device, source, seed).measure(trials, fresh_seeds)
        rows.append(row)
        on_row(row)
    return {
        "study": study.name, "configuration": configuration, "trials": trials, "fresh_seeds": fresh_seeds,
        "pruner": dataclasses.asdict(pruner), "rows": rows, **_totals(rows),
    }  # fmt: skip


def summary(result: Row) -> str:
    return (
        f"{result['study']}, {result['configuration']}: {result['trials']} trials, {result['fresh_seeds']} fresh "
        f"seeds, {result['pruner']}; saved {result['saved']['epochs']:.1%} of the epochs, "
        f"{result['saved']['seconds']:.1%} of the seconds; test metric {result['difference']:+.4f} "
        f"[{result['low']:+.4f}, {result['high']:+.4f}]"
    )


class TuningRun:
    """One tuning run, trained in this process."""

    def __init__(self, study: Study, configuration: str, device: Any, source: Any, seed: int) -> None:
        self.trainer = Trainer(study, device, trial_curves=lambda _: {0: self.curves})
        self.trainer.source = source  # loaded once for all runs
        self.configuration, self.seed = configuration, seed
        # On a shared CPU, the time of other processes must not count.
        self.clock = time.process_time if self.trainer.device.type == "cpu" else time.perf_counter
        self.space = split_space(full_space(self.trainer.configuration(configuration)))
        self.finished: list[FinishedTrial] = []
        self.curves: list[TrialCurve] = []
        self.totals: dict[str, float] = {"epochs": 0, "seconds": 0.0, "pruned": 0}

    def measure(self, trials: int, fresh_seeds: int) -> dict[str, float]:
        """The totals of the run, and `quality`, the test metric of the setting chosen."""
        for size in batch_sizes(0, trials):
            self._train_batch(size)
        complete = [trial for trial in self.finished if not trial.stopped_epoch]
        chosen = best_setting(complete, direction_of(self.trainer.study))
        [reached] = quality(self.trainer, self.configuration, [chosen], fresh_seeds, fresh_seeds, first=self.seed)
        return {**self.totals, "quality": reached}

    def _train_batch(self, count: int) -> None:
        study = self.trainer.study
        seed = sampler_seed(self.seed, self.finished)
        settings = sample(self.space, self.finished, [], count, direction_of(study), seed)
        first = self.seed * study.seeds_per_trial
        slots = [Slot(number, number, first, 1, setting) for number, setting in enumerate(settings)]
        start = self.clock()
        outcomes = self.trainer(Work(self.configuration, "tune", slots))
        self.totals["seconds"] += self.clock() - start
        for outcome, setting in zip(outcomes, settings, strict=True):
            self._record(outcome, setting)

    def _record(self, outcome: Outcome, setting: Setting) -> None:
        study, epochs, pruned = self.trainer.study, int(outcome.result["epochs"]), outcome.cause == PRUNED
        without_score = study.pruner and outcome.cause in (DIVERGED, NO_SCORE)
        stopped = epochs if pruned else 0 if without_score else None
        self.finished.append(FinishedTrial(setting, outcome.value, stopped))
        self.curves.append(TrialCurve(outcome.curves.get(study.score, ()), outcome.value, epochs, pruned))
        self.totals["epochs"] += epochs * study.seeds_per_trial
        self.totals["pruned"] += pruned


def _totals(rows: Sequence[Row]) -> Row:
    saved = {
        key: 1 - sum(row["pruned"][key] for row in rows) / sum(row["unpruned"][key] for row in rows)
        for key in ("epochs", "seconds")
    }
    unpruned, pruned = ({row["seed"]: row[arm]["quality"] for row in rows} for arm in ARMS)
    difference = compare(pruned, unpruned)
    return {"saved": saved, "difference": difference.mean, **difference.interval._asdict()}
