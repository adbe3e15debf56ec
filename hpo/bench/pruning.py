"""Benchmark: what successive halving saves of a tuning run, and what it costs in the quality of the setting chosen.

Whole tuning runs of a study's configuration are made twice, with and without pruning, with the same tuning seed, the
same start-up settings and the same batches as workers take. The setting that each chose is then trained afresh on
seeds that no tuning has seen.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from hpo.analysis.paired_tests import compare
from hpo.bench.search import best, quality
from hpo.data import load_source
from hpo.search_space import split_space
from hpo.storage.ledger import FinishedTrial, Outcome, Slot, TrialCurve, Work
from hpo.storage.ledger.scheduler import batch_sizes
from hpo.study.definition import direction_of, full_space
from hpo.study.pruner import SuccessiveHalving
from hpo.study.study import Study
from hpo.trials import DIVERGED, NO_SCORE, PRUNED
from hpo.worker.sampler import Setting, sample
from hpo.worker.trainer import Trainer


def measure_pruning(
    study: Study,
    configuration: str,
    device: Any,
    pruner: SuccessiveHalving,
    trials: int,
    repetitions: int,
    fresh_seeds: int = 5,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Tunes `repetitions` times with and without `pruner`.

    Args:
        trials: of every tuning run. fresh_seeds: on which a chosen setting is trained.
        show: told a line of a table as each repetition is known.

    Returns:
        JSON values: the setting; for each repetition a row with, for "whole" and "pruned", the epochs trained, their
        seconds (of a CPU's time, or by the clock on a GPU), the trials pruned and the test accuracy of the setting
        chosen; the shares of epochs and seconds `saved`, and the mean `difference` of test accuracy with its 95%
        interval.
    """
    arms = {"whole": dataclasses.replace(study, pruner=None), "pruned": dataclasses.replace(study, pruner=pruner)}
    rows: list[dict[str, Any]] = []
    if show:
        show(f"{study.name}, {configuration}: {trials} trials, {fresh_seeds} fresh seeds, {pruner}")
        show(f"{'repetition':>10} {'epochs':>15} {'seconds':>15} {'pruned':>7} {'test accuracy':>17}")
    source = load_source(study.data)
    for seed in range(repetitions):
        row: dict[str, Any] = {"seed": seed}
        for name, arm in arms.items():
            run = _Tuning(arm, configuration, device, source, seed)
            row[name] = run.measure(trials, fresh_seeds)
        rows.append(row)
        if show:
            show(_line(row))
    found = {
        "study": study.name, "configuration": configuration, "trials": trials, "fresh_seeds": fresh_seeds,
        "pruner": dataclasses.asdict(pruner), "rows": rows, **_sums(rows),
    }  # fmt: skip
    if show:
        show(
            f"saved {found['saved']['epochs']:.1%} of the epochs, {found['saved']['seconds']:.1%} of the seconds; "
            f"test accuracy {found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
        )
    return found


class _Tuning:
    """One tuning run, trained in this process."""

    def __init__(self, study: Study, configuration: str, device: Any, source: Any, seed: int) -> None:
        self.trainer = Trainer(study, device, earlier=lambda _: {0: self.past})
        self.trainer.source = source  # loaded once for all
        self.configuration, self.seed = configuration, seed
        # Others' work on the same processor must not count.
        self.clock = time.process_time if self.trainer.device.type == "cpu" else time.perf_counter
        self.ranges = split_space(full_space(self.trainer.configuration(configuration)))[0]
        self.tried: list[FinishedTrial] = []
        self.past: list[TrialCurve] = []
        self.found: dict[str, float] = {"epochs": 0, "seconds": 0.0, "pruned": 0}

    def measure(self, trials: int, fresh_seeds: int) -> dict[str, float]:
        """The sums of the run, and `quality`, the test accuracy of the setting chosen."""
        for size in batch_sizes(0, trials):
            self._advance(size)
        whole = [entry for entry in self.tried if not entry.stopped_epoch]
        chosen = best(whole, direction_of(self.trainer.study))
        # Seeds that are this repetition's own, in the place that they have among all of them.
        [reached] = quality(self.trainer, self.configuration, [chosen], fresh_seeds, fresh_seeds, first=self.seed)
        return {**self.found, "quality": reached}

    def _advance(self, count: int) -> None:
        study = self.trainer.study
        text = f"{self.seed}/{len(self.tried)}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        settings = sample(self.ranges, self.tried, [], count, direction_of(study), key)
        first = self.seed * study.seeds_per_trial
        slots = [Slot(place, place, first, 1, setting) for place, setting in enumerate(settings)]
        begun = self.clock()
        outcomes = self.trainer(Work(self.configuration, "tune", slots))
        self.found["seconds"] += self.clock() - begun
        for outcome, setting in zip(outcomes, settings, strict=True):
            self._tell(outcome, setting)

    def _tell(self, outcome: Outcome, setting: Setting) -> None:
        study, epochs = self.trainer.study, int(outcome.result["epochs"])
        lost = study.pruner and outcome.cause in (DIVERGED, NO_SCORE)
        stopped = epochs if outcome.cause == PRUNED else 0 if lost else None
        self.tried.append(FinishedTrial(setting, outcome.value, stopped))
        self.past.append(
            TrialCurve(outcome.curves.get(study.score, ()), outcome.value, epochs, outcome.cause == PRUNED)
        )
        self.found["epochs"] += epochs * study.seeds_per_trial
        self.found["pruned"] += outcome.cause == PRUNED


def _sums(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {name: {key: sum(row[name][key] for row in rows) for key in rows[0][name]} for name in ("whole", "pruned")}
    saved = {key: 1 - total["pruned"][key] / total["whole"][key] for key in ("epochs", "seconds")}
    reached = {name: {row["seed"]: row[name]["quality"] for row in rows} for name in ("whole", "pruned")}
    difference = compare(reached["pruned"], reached["whole"])
    low, high = difference.interval
    return {"saved": saved, "difference": difference.mean, "low": low, "high": high}


def _line(row: dict[str, Any]) -> str:
    whole, pruned = row["whole"], row["pruned"]
    epochs, seconds = f"{whole['epochs']} → {pruned['epochs']}", f"{whole['seconds']:.1f} → {pruned['seconds']:.1f}"
    accuracy = f"{whole['quality']:.4f} → {pruned['quality']:.4f}"
    return f"{row['seed']:10d} {epochs:>15} {seconds:>15} {pruned['pruned']:7d} {accuracy:>17}"
