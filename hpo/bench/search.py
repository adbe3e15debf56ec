"""Benchmark: how much worse TPE's best setting is when it suggests many at once, at equal numbers of trials.

Whole tuning runs of a study's configuration are repeated with different tuning seeds; those with the same batch size
train side by side, in populations that mix repetitions. The setting that each run chose is then trained on seeds that
no tuning run used: its quality is the test metric there, not its own best score.
"""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Sequence

from hpo.analysis.paired_tests import compare, summarise
from hpo.bench.table import OnRow, Row
from hpo.space import split_space
from hpo.study.components import full_space
from hpo.study.directions import direction_of
from hpo.trials import FinishedTrial, Setting, Slot, Work
from hpo.worker.sampler import sample
from hpo.worker.trainer import Trainer

FRESH_SEED = 100_000  # the first of the seeds for chosen settings
COLUMNS = {
    "batch": (6, "{batch}"),
    "test metric": (13, "{mean:.4f}"),
    "difference": (10, "{difference:+.4f}"),
    "95% interval": (18, "[{low:+.4f}, {high:+.4f}]"),
}


@dataclasses.dataclass
class Search:
    """One tuning run and its finished trials."""

    seed: int
    finished: list[FinishedTrial] = dataclasses.field(default_factory=list)


def measure(
    trainer: Trainer,
    configuration: str,
    trials: int,
    batches: Sequence[int],
    repetitions: int,
    fresh_seeds: int,
    on_row: OnRow,
    max_population: int = 32,
) -> Row:
    """Tunes `repetitions` times for each of `batches`, with the same tuning seeds for all of them.

    Args:
        trainer: the study's, whose pruner is not used. trials: per tuning run.
        batches: how many settings are suggested at once; the others are compared with the first.
        fresh_seeds: number of seeds on which a chosen setting is trained.

    Returns:
        JSON values: the setting, and for each batch size the test metrics of the chosen settings (`quality`, one a
        repetition, means over fresh seeds), their `mean`, and the mean `difference` from the first with its 95%
        interval (`low`, `high`).
    """
    trainer = copy.copy(trainer)
    # Repetitions that train side by side must not prune one another.
    trainer.study = study = dataclasses.replace(trainer.study, pruner=None)
    rows: list[Row] = []
    first: dict[int, float] = {}
    for batch in batches:
        searches = [Search(seed) for seed in range(repetitions)]
        for start in range(0, trials, batch):
            _advance(trainer, configuration, searches, min(batch, trials - start), max_population)
        chosen = [best_setting(search.finished, direction_of(study)) for search in searches]
        reached = dict(enumerate(quality(trainer, configuration, chosen, fresh_seeds, max_population)))
        first = first or reached
        difference, values = compare(reached, first), list(reached.values())
        interval = difference.interval._asdict()
        row = {"batch": batch, "quality": values, "mean": summarise(values).mean, "difference": difference.mean}
        rows.append(row | interval)
        on_row(rows[-1])
    return {
        "study": study.name, "configuration": configuration, "trials": trials, "repetitions": repetitions,
        "fresh_seeds": fresh_seeds, "rows": rows,
    }  # fmt: skip


def summary(result: Row) -> str:
    return (
        f"{result['study']}, {result['configuration']}: {result['trials']} trials, {result['repetitions']} "
        f"repetitions, {result['fresh_seeds']} fresh seeds"
    )


def _advance(trainer: Trainer, configuration: str, searches: Sequence[Search], count: int, max_population: int) -> None:
    """Suggests `count` settings for every search and trains all of them together."""
    space = split_space(full_space(trainer.configuration(configuration)))
    direction = direction_of(trainer.study)
    suggested = [
        (search, setting)
        for search in searches
        for setting in sample(space, search.finished, [], count, direction, sampler_seed(search.seed, search.finished))
    ]
    models = trainer.study.seeds_per_trial  # which have consecutive seeds
    slots = [
        Slot(number, number, search.seed * models, 1, setting) for number, (search, setting) in enumerate(suggested)
    ]
    values = _train(trainer, Work(configuration, "tune", slots), max_population)
    for (search, setting), value in zip(suggested, values, strict=True):
        search.finished.append(FinishedTrial(setting, value))


def sampler_seed(tuning_seed: int, finished: Sequence[object]) -> int:
    """The sampler's seed for the next batch of a tuning run."""
    text = f"{tuning_seed}/{len(finished)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def quality(
    trainer: Trainer,
    configuration: str,
    chosen: Sequence[Setting],
    fresh_seeds: int,
    max_population: int,
    first: int = 0,
) -> list[float]:
    """The mean test metric of each repetition's setting over its own fresh seeds, from repetition `first` on."""
    slots = [
        Slot(repetition * fresh_seeds + number, 0, FRESH_SEED + repetition * fresh_seeds + number, 1, setting)
        for repetition, setting in enumerate(chosen, start=first)
        for number in range(fresh_seeds)
    ]
    outcomes = _train(trainer, Work(configuration, "rerun", slots), max_population)
    values = [math.nan if value is None else value for value in outcomes]
    return [sum(values[start : start + fresh_seeds]) / fresh_seeds for start in range(0, len(values), fresh_seeds)]


def _train(trainer: Trainer, work: Work, max_population: int) -> list[float | None]:
    starts = range(0, len(work.slots), max_population)
    populations = [work.slots[start : start + max_population] for start in starts]
    return [outcome.value for slots in populations for outcome in trainer(work.with_slots(slots))]


def best_setting(finished: Sequence[FinishedTrial], direction: str) -> Setting:
    """The setting of the best trial, the earliest of equal ones."""
    sign = -1.0 if direction == "maximize" else 1.0
    return min(finished, key=lambda trial: float("inf") if trial.value is None else sign * trial.value).setting
