"""Benchmark: whether verdicts are right as often as they claim, on real and on simulated comparisons.

A real comparison (A/A test) compares one configuration with itself: every seed is trained twice on the same data in
the same order, from different initial weights. Every "better" or "worse" there is a false positive.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from hpo.bench.calibration import Pairs, calibrate
from hpo.bench.simulated import families, repeated
from hpo.bench.table import OnRow, Row
from hpo.models import MLP
from hpo.study.study import Configuration, Study
from hpo.tasks import TASKS
from hpo.training.loop import train
from hpo.training.population_size import MAX_POPULATION
from hpo.training.recipe import Member
from hpo.worker.outcomes import test_value
from hpo.worker.trainer import Trainer

FIRST_SEED = 200_000  # no seed is in two comparisons, nor in any study or other benchmark
FAMILIES = ((2, 0), (3, 0), (6, 0), (12, 0), (4, 1), (6, 2))  # configurations, planned comparisons of two rivals
TUNING_RUNS = (1, 3, 5, 10)
REPEATED_SEEDS = 10
SIMULATED_CONFIDENCE = 0.999  # of more than a dozen rates at 95%, one would often fail by chance
SETTING = {"learning_rate": 3e-3, "weight_decay": 1e-3}
COLUMNS = {
    "kind": (9, "{kind}"),
    "configurations": (14, "{configurations}"),
    "planned": (7, "{planned}"),
    "tuning runs": (11, "{tuning_runs}"),
    "seeds": (5, "{seeds}"),
    "false positives": (21, "{false_positives[share]:.1%} [{false_positives[low]:.1%}, {false_positives[high]:.1%}]"),
    "others": (6, "{other_false_positives[share]:.1%}"),
    "coverage": (8, "{coverage[share]:.1%}"),
    "effect": (7, "{effect:.2%}"),
    "power": (22, "{power[share]:.1%} [{power[low]:.1%}, {power[high]:.1%}]"),
    "stated": (6, "{stated_power[share]:.1%}"),
    "passes": (6, "{passes!s}"),
}


def aa_study(data: Any, epochs: int) -> Study:
    """The configuration that is compared with itself: AdamW at a fixed setting, on a small network."""
    return Study(
        data=data, model=MLP((40, 64, 64, 10)), epochs=epochs, baseline="A",
        configurations=(Configuration("A", space=SETTING), Configuration("B", space=SETTING)), name="verdicts",
    )  # fmt: skip


def measure(
    study: Study,
    comparisons: int,
    seeds: Sequence[int],
    simulated: int,
    device: torch.device,
    on_row: OnRow,
    max_population: int | None = None,
) -> Row:
    """Evaluates A/A comparisons of the study's baseline, and simulated studies, by the code that reports use.

    Args:
        comparisons: real ones for each of `seeds` (paired seeds of a comparison); 0 for none.
        simulated: studies for every row of the simulation; 0 for none.
        max_population: the largest number of models trained at once; by default as many as are efficient on the device.

    Returns:
        JSON values: the setting, a row for each kind of study with the values of `Calibration`, and whether all pass.
        `passes` is None in a row with one tuning run, which is shown for comparison.
    """
    rows: list[Row] = []

    def add(confidence: float, numbers: dict[str, int], studies: Sequence[Pairs]) -> None:
        result = calibrate(studies)
        passes = None if numbers.get("tuning_runs") == 1 else result.passes(confidence)
        kind = "trained" if confidence == 0.95 else "simulated"
        rows.append({"kind": kind, **numbers, **result.as_json(), "passes": passes})
        on_row(rows[-1])

    if comparisons:
        trainer = Trainer(study, device)
        first = FIRST_SEED
        for n in seeds:
            drawn = range(first, first + comparisons * n)
            pairs = train_pairs(trainer, drawn, max_population or MAX_POPULATION[device.type])
            first = drawn.stop
            add(0.95, {"seeds": n}, list(in_comparisons(pairs, n)))
    if simulated:
        for numbers, studies in _simulated_studies(seeds, simulated):
            add(SIMULATED_CONFIDENCE, numbers, studies)
    return {
        "comparisons": comparisons, "simulated": simulated, "epochs": study.epochs,
        "samples": getattr(study.data, "samples", None), "rows": rows,
        "passes": all(row["passes"] is not False for row in rows),
    }  # fmt: skip


def summary(result: Row) -> str:
    """What the columns mean."""
    return (
        f"{result['comparisons']} trained comparisons of {result['epochs']} epochs for each number of seeds, "
        f"{result['simulated']:,} simulated studies a row.\n"
        "Nothing differs, so that every verdict of better or worse is a false positive. Brackets: exact binomial 95% "
        "intervals.\nplanned: comparisons of two rivals that are in the family besides those with the baseline.\n"
        "false positives: studies with any such verdict, tentative or not; the target is at most 5%. "
        "coverage: intervals that\nhold the true difference. effect, power: studies that find an effect of the MDE's "
        "size in the first rival, at the\nSD over all studies; the target is about 80%. stated: the same where each "
        "study's own MDE is planted. others: false\npositives on rivals without the effect. A trained row passes by "
        "its 95% intervals; simulated ones, being many, by\n99.9% intervals; with one tuning run a verdict is "
        "conditional on it, so that no row is expected to pass."
    )


def _simulated_studies(seeds: Sequence[int], studies: int) -> Iterator[tuple[dict[str, int], list[Pairs]]]:
    for n in seeds:
        for size, planned in FAMILIES:
            drawn = families(size, n, studies, np.random.default_rng([n, size, planned]), planned)
            yield {"seeds": n, "configurations": size, "planned": planned}, list(drawn)
    for tuning_runs in TUNING_RUNS:
        drawn = repeated(tuning_runs, REPEATED_SEEDS, studies, np.random.default_rng([0, tuning_runs]))
        yield {"seeds": REPEATED_SEEDS, "tuning_runs": tuning_runs}, list(drawn)


def train_pairs(trainer: Trainer, seeds: Sequence[int], max_population: int) -> dict[int, tuple[float, float]]:
    """The task's test metric of the study's baseline by seed: of its usual training stream, and of a salted one.

    A diverged run has the value of an untrained network, or NaN where the metric has none.
    """
    name = trainer.study.baseline
    recipe = trainer.recipe(trainer.configuration(name), rerun=True)
    setting = trainer.setting_to_try(name, {})
    members = [Member(seed, setting, salt) for seed in seeds for salt in (0, 1)]
    reached: list[float] = []
    primary, classes = TASKS[trainer.study.data.task].primary, trainer.source.classes
    for start in range(0, len(members), max_population):
        results = train(recipe, members[start : start + max_population], trainer.device, test=True)
        values = [test_value(result, primary, classes) for result in results]
        reached += [math.nan if value is None else value for value in values]
    return dict(zip(seeds, zip(reached[::2], reached[1::2], strict=True), strict=True))


def in_comparisons(pairs: dict[int, tuple[float, float]], seeds: int) -> Iterator[Pairs]:
    """Splits pairs by seed into comparisons of `seeds` each; the salted side is the rival."""
    numbers = list(pairs)
    for start in range(0, len(numbers) - seeds + 1, seeds):
        part = numbers[start : start + seeds]
        yield {"salted": ({seed: pairs[seed][1] for seed in part}, {seed: pairs[seed][0] for seed in part})}
