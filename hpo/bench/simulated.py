"""Simulated studies without any true difference: accuracies that share their seeds' data and tuning runs' settings.

Accuracies are those of a test set of 800 samples, so that ties are as frequent as in a real study.
"""

from collections.abc import Iterator

import numpy as np

from hpo.analysis.verdicts import by_tuning_run
from hpo.bench.calibration import Pairs

TEST_SAMPLES = 800
ACCURACY = 0.5
DATA_SD = 0.02  # between seeds, the same for every configuration
TRAINING_SD = 0.015  # between runs
TUNING_SD = 0.015  # between tuning runs, the same for all seeds of one


def families(
    configurations: int, seeds: int, studies: int, generator: np.random.Generator, planned: int = 0
) -> Iterator[Pairs]:
    """Studies of that many equal configurations; every rival is compared with the accuracies of the first.

    Args:
        planned: so many comparisons of two rivals are in the family as well: the third against the second, the fifth
            against the fourth, and so on. The first rival, in which calibration plants its effect, is in none of them.
    """
    for _ in range(studies):
        pairs = _pairs(_accuracies(np.zeros((configurations, seeds)), generator))
        between = {
            f"rival {number} against {number - 1}": (pairs[f"rival {number}"][0], pairs[f"rival {number - 1}"][0])
            for number in range(3, 3 + 2 * planned, 2)
        }
        yield {**pairs, **between}


def repeated(tuning_runs: int, seeds: int, studies: int, generator: np.random.Generator) -> Iterator[Pairs]:
    """Studies of two configurations that differ only by chance, in tuning and in training.

    Reruns are spread over the tuning runs as the ledger does it; the pairs are tuning runs, or seeds if there is one.
    """
    tuning_run_by_seed = {seed: seed % tuning_runs for seed in range(seeds)}
    for _ in range(studies):
        tuning_noise = generator.normal(0, TUNING_SD, (2, tuning_runs))
        pairs = _pairs(_accuracies(tuning_noise[:, list(tuning_run_by_seed.values())], generator))
        yield (
            pairs
            if tuning_runs == 1
            else {name: by_tuning_run(*pair, tuning_run_by_seed) for name, pair in pairs.items()}
        )


def _accuracies(shift: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Accuracies [configurations, seeds], `shift` away from `ACCURACY` before they are rounded to whole samples."""
    data_noise = generator.normal(0, DATA_SD, shift.shape[1])
    exact = ACCURACY + shift + data_noise + generator.normal(0, TRAINING_SD, shift.shape)
    return np.asarray(np.round(exact * TEST_SAMPLES) / TEST_SAMPLES)


def _pairs(accuracies: np.ndarray) -> Pairs:
    baseline, *rivals = (dict(enumerate(row.tolist())) for row in accuracies)
    return {f"rival {number}": (rival, baseline) for number, rival in enumerate(rivals, start=1)}
