"""How much tuning and compute each configuration needs: sensitivity to the learning rate, score at equal compute."""

import itertools
import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from hpo.analysis.metric import metric_of, score_of
from hpo.analysis.paired_tests import Summary, summarise
from hpo.analysis.record import Record
from hpo.analysis.selection import Row, ranked, rerun_curves, tuning_slots
from hpo.trials import PRUNED, trials_per_run, tunes


class Effort(NamedTuple):
    """Numbers of one configuration, outside the family of tests.

    Attributes:
        rate_factor: the ratio of the largest to the smallest learning rate above 0 among the trials whose score is
            within the margin of the best one of their tuning run, the geometric mean over the tuning runs; NaN where
            the learning rate is not tuned or the margin is not in units of the score. Trials whose other
            hyperparameters are bad do not count, so that this is the range in which some setting is good.
        trials_within, trials: the trials within the margin, of all with a score.
        best_after: number of trials → the best score among the first so many trials of a tuning run, over the tuning
            runs that have finished these and have one; without pruned trials. Empty where nothing is tuned.
        epoch: the last one by which this configuration needs no more gradient evaluations than the cheapest one in all
            of its epochs; None where a configuration does not report them. score: of its reruns at this epoch.
    """

    rate_factor: float
    trials_within: int
    trials: int
    best_after: dict[int, Summary]
    epoch: int | None
    score: Summary


def compute_effort(record: Record, gradient_evaluations: dict[str, float]) -> dict[str, Effort]:
    """Configuration → its numbers; gradient_evaluations: configuration → those of a step, NaN if unknown."""
    definition = record.study["definition"]
    known = all(map(math.isfinite, gradient_evaluations.values()))
    cheapest = min(gradient_evaluations.values()) if known else math.nan
    curves = rerun_curves(record, definition["score"])
    same_units = metric_of(definition).name.removeprefix("test_") == definition["score"].removeprefix("validation_")
    trials = record.study["trials"]
    planned = {entry["name"]: trials_per_run(entry, trials) for entry in definition["configurations"] if tunes(entry)}
    effort = {}
    for name, evaluations in gradient_evaluations.items():
        slots = tuning_slots(record, name)
        scored = [row for row in ranked(slots, score_of(definition).direction) if row["cause"] != PRUNED]
        within = _within_margin(scored, definition["margin"]) if same_units else {}
        epoch = int(definition["epochs"] * cheapest / evaluations + 1e-9) if known else None
        own = curves[(curves.configuration == name) & (curves.epoch == epoch)] if epoch else curves[:0]
        number = sum(map(len, within.values()))
        score, after = summarise(own["value"].tolist()), {}
        if name in planned:
            after = _best_after(slots, scored, planned[name])
        effort[name] = Effort(_rate_factor(within), number, len(scored), after, epoch, score)
    return effort


def _within_margin(best_first: list[Row], margin: float) -> dict[int, list[Row]]:
    """Tuning run → its trials whose score is within the margin of its best one."""
    within: dict[int, list[Row]] = {}
    for row in best_first:
        rows = within.setdefault(row["tuning_run"], [])
        if not rows or abs(row["value"] - rows[0]["value"]) <= margin * (1 + 1e-9):
            rows.append(row)
    return within


def _best_after(slots: list[Row], best_first: list[Row], planned: int) -> dict[int, Summary]:
    """See `Effort.best_after`; for 5, 10, 20, 40, … trials and for all that are planned.

    Args:
        slots: every trial, finished or not. best_first: those with a score. planned: trials of a tuning run.
    """
    ended = [row for row in slots if row["state"] in ("done", "failed")]
    doubled = itertools.takewhile(lambda count: count < planned, (5 * 2**power for power in itertools.count()))
    after = {}
    for count in (*doubled, planned):
        finished = Counter(row["tuning_run"] for row in ended if row["slot"] < count)
        best: dict[int, float] = {}
        for row in best_first:
            if row["slot"] < count and finished[row["tuning_run"]] == count:
                best.setdefault(row["tuning_run"], row["value"])
        after[count] = summarise(list(best.values()))
    return after


def _rate_factor(within: dict[int, list[Row]]) -> float:
    factors = []
    for rows in within.values():
        rates = [rate for row in rows if (rate := row["setting"].get("learning_rate", 0)) > 0]
        if rates:
            factors.append(max(rates) / min(rates))
    return float(np.exp(np.mean(np.log(factors)))) if factors else math.nan
