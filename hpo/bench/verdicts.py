"""Benchmark: whether verdicts are right as often as they say, on real and on simulated comparisons.

A real comparison (A/A) is one configuration against itself: every seed is trained twice on the same data in the same
order, from other initial weights. Whatever is called better or worse there is called so wrongly.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from hpo.bench.calibration import Calibration, Pairs, calibrate
from hpo.bench.simulated import families, repeated
from hpo.models import MLP
from hpo.study.study import Configuration, Study
from hpo.training.loop import Member, train
from hpo.training.population_size import MAX_POPULATION
from hpo.worker.trainer import Trainer

FIRST_SEED = 200_000  # no seed is in two comparisons, nor in any study or other benchmark
FAMILIES = (2, 3, 6, 12)
TUNING_RUNS = (1, 3, 5, 10)
REPEATED_SEEDS = 10
SIMULATED_CONFIDENCE = 0.999  # a dozen and more rates are looked at together: at 95% one of them would often fail
SETTING = {"learning_rate": 3e-3, "weight_decay": 1e-3}
HEADER = f"{'':28} {'better or worse':>21} {'covers 0':>9} {'planted':>8} {'found':>22} {'as stated':>10}  passes"
LEGEND = (
    "Nothing differs, so that every verdict of better or worse is wrong. Brackets: exact binomial 95% intervals.\n"
    "better or worse: studies with any such verdict, tentative or not, at most 5% wanted. covers 0: intervals that\n"
    "hold the truth. planted, found: an effect of the MDE's size in the first rival, in points, at the SD over all\n"
    "studies; about 80% wanted. as stated: found where each study's own MDE is planted. beside it: wrong verdicts on\n"
    "rivals without it.\n"
    "A trained row passes by its 95% interval, simulated ones, being many, by 99.9% intervals.\n"
)


def aa_study(data: Any, epochs: int) -> Study:
    """The configuration that is compared with itself: AdamW at a fixed setting, on a small network."""
    return Study(
        data=data, model=MLP((40, 64, 64, 10)), epochs=epochs, baseline="A",
        configurations=(Configuration("A", space=SETTING), Configuration("B", space=SETTING)), name="verdicts",
    )  # fmt: skip


def measure_verdicts(
    study: Study,
    comparisons: int,
    seeds: Sequence[int],
    simulated: int,
    device: torch.device,
    side_by_side: int | None = None,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judges A/A comparisons of the study's baseline, and simulated studies, by the code that reports use.

    Args:
        comparisons: real ones for each of `seeds` (paired seeds of a comparison); 0 for none.
        simulated: studies for every row of the simulation; 0 for none.
        side_by_side: most models in a population, by default as many as are best on the device.
        show: told a line of a table as each row is known.

    Returns:
        JSON values: the setting, a row for each kind of study with what `Calibration` says, and whether all pass.
        A row with one tuning run is there to compare with, and has no `passes`.
    """
    found: dict[str, Any] = {
        "comparisons": comparisons, "simulated": simulated, "epochs": study.epochs,
        "samples": getattr(study.data, "samples", None), "rows": [],
    }  # fmt: skip

    def add(kind: str, numbers: dict[str, int], told: str, studies: Sequence[Pairs], judged: bool = True) -> None:
        result = calibrate(studies)._replace(confidence=0.95 if kind == "trained" else SIMULATED_CONFIDENCE)
        row = {"kind": kind, **numbers, **result.described()} | ({} if judged else {"passes": None})
        found["rows"].append(row)
        if show:
            show(line(told, result, judged))

    if show:
        show(LEGEND)
        runs = 2 * comparisons * sum(seeds)
        trained = f"{type(study.data).__name__}: {runs:,} runs, epochs of each: {study.epochs}"
        show(f"{trained}; {simulated:,} simulated studies a row\n{HEADER}")
    if comparisons:
        first = FIRST_SEED
        trainer = Trainer(study, device)
        for n in seeds:
            pairs = train_pairs(
                trainer, range(first, first + comparisons * n), side_by_side or MAX_POPULATION[device.type]
            )
            first += comparisons * n
            add("trained", {"seeds": n}, f"trained, {n} seeds", list(in_comparisons(pairs, n)))
    if simulated:
        for n in seeds:
            for size in FAMILIES:
                studies = list(families(size, n, simulated, np.random.default_rng([n, size])))
                add("family", {"seeds": n, "configurations": size}, f"{size} configurations, {n} seeds", studies)
        for tuning_runs in TUNING_RUNS:
            studies = list(repeated(tuning_runs, REPEATED_SEEDS, simulated, np.random.default_rng([0, tuning_runs])))
            told = f"{tuning_runs} tuning run{'s' if tuning_runs > 1 else ''}, {REPEATED_SEEDS} seeds"
            numbers = {"seeds": REPEATED_SEEDS, "tuning_runs": tuning_runs}
            add("tuning_runs", numbers, told, studies, judged=tuning_runs > 1)
    found["passes"] = all(row["passes"] is not False for row in found["rows"])
    return found


def train_pairs(trainer: Trainer, seeds: Sequence[int], side_by_side: int) -> dict[int, tuple[float, float]]:
    """Test accuracies of the study's baseline by seed: of its usual training stream, and of a salted one."""
    name = trainer.study.baseline
    recipe = trainer.recipe(trainer.configuration(name), rerun=True)
    setting = trainer.setting_to_try(name, {})
    members = [Member(seed, setting, salt) for seed in seeds for salt in (0, 1)]
    accuracies: list[float] = []
    for start in range(0, len(members), side_by_side):
        results = train(recipe, members[start : start + side_by_side], trainer.device, test=True)
        accuracies += [result.final.get("test_accuracy", 1 / trainer.source.classes) for result in results]
    return dict(zip(seeds, zip(accuracies[::2], accuracies[1::2], strict=True), strict=True))


def in_comparisons(pairs: dict[int, tuple[float, float]], seeds: int) -> Iterator[Pairs]:
    """Pairs by seed as comparisons of so many seeds each, none in two; the salted side is the rival."""
    every = list(pairs)
    for start in range(0, len(every) - seeds + 1, seeds):
        own = every[start : start + seeds]
        yield {"salted": ({seed: pairs[seed][1] for seed in own}, {seed: pairs[seed][0] for seed in own})}


def line(told: str, result: Calibration, judged: bool = True) -> str:
    """One row of the table; a second line where there are rivals beside the one with the effect."""

    def cell(entry: Any) -> str:
        return f"{entry.share:.1%} [{entry.low:.1%}, {entry.high:.1%}]"

    passes = ("yes" if result.passes else "no") if judged else "conditional on one tuning run"
    row = (
        f"{told:28} {cell(result.wrong):>21} {result.covers.share:9.1%} {100 * result.effect:8.2f} "
        f"{cell(result.found):>22} {result.found_stated.share:10.1%}  {passes}"
    )
    return row + (f"\n{'  beside it':28} {cell(result.wrong_beside):>21}" if result.wrong_beside else "")
