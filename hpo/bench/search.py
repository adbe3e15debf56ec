"""Benchmark: how much worse a setting TPE finds when it is asked for many at once, at equal numbers of trials.

Whole tuning runs of a study's configuration are repeated with other tuning seeds; those that ask for the same number
at once go side by side, in populations that mix repetitions. The setting that each run chose is then trained afresh on
seeds that no tuning has seen: what it reaches there, not its own best score, is its quality.
"""

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from hpo.analysis.paired_tests import compare, summarise
from hpo.search_space import Range, split_space
from hpo.storage.ledger import FinishedTrial, Slot, Work
from hpo.study.definition import direction_of, full_space
from hpo.worker.sampler import Setting, sample
from hpo.worker.trainer import Trainer

FRESH_SEED = 100_000  # fresh seeds are drawn from there on


@dataclasses.dataclass
class _Search:
    """One tuning run: what it has finished, by trial."""

    seed: int
    tried: list[FinishedTrial] = dataclasses.field(default_factory=list)


def measure_search(
    trainer: Trainer,
    configuration: str,
    trials: int,
    batches: Sequence[int],
    repetitions: int,
    fresh_seeds: int = 5,
    side_by_side: int = 32,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Tunes `repetitions` times for each of `batches`; the same repetition has the same tuning seed for all of them.

    Args:
        trainer: of the study, whose pruner is left out. trials: of every tuning run.
        batches: how many settings are asked for at once; the first is what the others are compared with.
        fresh_seeds: on which a chosen setting is trained. side_by_side: most models in a population.
        show: told a line of a table as each batch size is known.

    Returns:
        JSON values: the setting, and for each batch size the test accuracies of the settings chosen (`quality`, one a
        repetition, means over fresh seeds), their mean, and `difference` from the first with its 95% interval.
    """
    trainer = copy.copy(trainer)
    # Repetitions that are trained side by side must not be stopped for one another.
    trainer.study = study = dataclasses.replace(trainer.study, pruner=None)
    ranges = split_space(full_space(trainer.configuration(configuration)))[0]
    found: dict[str, Any] = {
        "study": study.name, "configuration": configuration, "trials": trials, "repetitions": repetitions,
        "fresh_seeds": fresh_seeds, "rows": [],
    }  # fmt: skip
    if show:
        show(f"{study.name}, {configuration}: {trials} trials, {repetitions} repetitions, {fresh_seeds} fresh seeds")
        show(f"{'asked at once':>13} {'test accuracy':>14} {'difference':>11} {'95% interval':>18}")
    first: dict[int, float] = {}
    for batch in batches:
        searches = [_Search(seed) for seed in range(repetitions)]
        for begun in range(0, trials, batch):
            _advance(trainer, configuration, ranges, searches, min(batch, trials - begun), side_by_side)
        chosen = [best(search.tried, direction_of(study)) for search in searches]
        reached = dict(enumerate(quality(trainer, configuration, chosen, fresh_seeds, side_by_side)))
        first = first or reached
        difference = compare(reached, first)
        low, high = difference.interval
        row = {
            "batch": batch, "quality": list(reached.values()), "mean": summarise(list(reached.values())).mean,
            "difference": difference.mean, "low": low, "high": high,
        }  # fmt: skip
        found["rows"].append(row)
        if show:
            show(f"{batch:13d} {row['mean']:14.4f} {difference.mean:+11.4f} [{low:+.4f}, {high:+.4f}]")
    return found


def _advance(
    trainer: Trainer,
    configuration: str,
    ranges: dict[str, Range],
    searches: Sequence[_Search],
    count: int,
    side_by_side: int,
) -> None:
    """Asks every search for `count` settings, trains them all and tells each its own."""
    asked: list[tuple[_Search, Setting]] = []
    for search in searches:
        text = f"{search.seed}/{len(search.tried)}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        direction = direction_of(trainer.study)
        asked += [(search, own) for own in sample(ranges, search.tried, [], count, direction, seed)]
    slots = [Slot(place, place, search.seed, 1, setting) for place, (search, setting) in enumerate(asked)]
    values = _train(trainer, Work(configuration, "tune", slots), side_by_side)
    for (search, setting), value in zip(asked, values, strict=True):
        search.tried.append(FinishedTrial(setting, value))


def quality(
    trainer: Trainer, configuration: str, chosen: Sequence[Setting], fresh_seeds: int, side_by_side: int, first: int = 0
) -> list[float]:
    """The mean test accuracy of each setting over seeds that are its repetition's own, from repetition `first` on."""
    slots = [
        Slot(place * fresh_seeds + number, 0, FRESH_SEED + place * fresh_seeds + number, 1, setting)
        for place, setting in enumerate(chosen, start=first)
        for number in range(fresh_seeds)
    ]
    values = [value or 0.0 for value in _train(trainer, Work(configuration, "rerun", slots), side_by_side)]
    return [sum(values[at : at + fresh_seeds]) / fresh_seeds for at in range(0, len(values), fresh_seeds)]


def _train(trainer: Trainer, work: Work, side_by_side: int) -> list[float | None]:
    parts = [work.slots[at : at + side_by_side] for at in range(0, len(work.slots), side_by_side)]
    return [outcome.value for part in parts for outcome in trainer(work.only(part))]


def best(tried: Sequence[FinishedTrial], direction: str) -> Setting:
    """The setting of the best trial, the earlier one of equals."""
    sign = -1.0 if direction == "maximize" else 1.0
    return min(tried, key=lambda entry: float("inf") if entry.value is None else sign * entry.value).setting
