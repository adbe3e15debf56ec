"""Simulated studies without any true difference: accuracies that share their seeds' data, and the luck of tuning.

Accuracies are those of a test set of 800 samples, so that ties are as frequent as in a real study.
"""

from collections.abc import Iterator

import numpy as np

from hpo.analysis.verdicts import by_tuning_run
from hpo.bench.calibration import Pairs

TEST_SAMPLES = 800
ACCURACY = 0.5
DATA_SD = 0.02  # of what a seed's data do to every configuration
TRAINING_SD = 0.015  # of what its training stream does to each
TUNING_SD = 0.015  # of the luck of one tuning run, the same for all seeds of its tuning run


def families(configurations: int, seeds: int, studies: int, generator: np.random.Generator) -> Iterator[Pairs]:
    """Studies of that many equal configurations; every rival is compared with the first one's very accuracies."""
    for _ in range(studies):
        yield _pairs(_accuracies(np.zeros((configurations, seeds)), generator))


def repeated(tuning_runs: int, seeds: int, studies: int, generator: np.random.Generator) -> Iterator[Pairs]:
    """Studies of two configurations that are equal but for the luck of each one's tuning runs.

    Reruns are spread over the tuning runs as in the ledger; pairs are tuning runs, or seeds where there is one run.
    """
    tuning_run_by_seed = {seed: seed % tuning_runs for seed in range(seeds)}
    for _ in range(studies):
        luck = generator.normal(0, TUNING_SD, (2, tuning_runs))
        pairs = _pairs(_accuracies(luck[:, list(tuning_run_by_seed.values())], generator))
        yield (
            pairs
            if tuning_runs == 1
            else {name: by_tuning_run(*pair, tuning_run_by_seed) for name, pair in pairs.items()}
        )


def _accuracies(shift: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Accuracies [configurations, seeds], `shift` away from `ACCURACY` before they are rounded to whole samples."""
    data = generator.normal(0, DATA_SD, shift.shape[1])
    exact = ACCURACY + shift + data + generator.normal(0, TRAINING_SD, shift.shape)
    return np.asarray(np.round(exact * TEST_SAMPLES) / TEST_SAMPLES)


def _pairs(accuracies: np.ndarray) -> Pairs:
    baseline, *rivals = (dict(enumerate(row.tolist())) for row in accuracies)
    return {f"rival {number}": (rival, baseline) for number, rival in enumerate(rivals, start=1)}
