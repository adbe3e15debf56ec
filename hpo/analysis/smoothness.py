"""How smoothly the training loss of every configuration decreases from epoch to epoch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hpo.analysis.descriptors import SMALLEST_LOSS, roughness, spikes, upward_variation
from hpo.analysis.paired_tests import Summary, summarise
from hpo.space import split_space

RATE_TOLERANCE = 0.01  # learning rates with a smaller relative difference count as equal


class Smoothness(NamedTuple):
    """Smoothness of the training loss (without penalties) by epoch, over the newest reruns that did not diverge.

    Attributes:
        roughness: by seed, see `descriptors.roughness`; mean_roughness: its summary over the seeds.
        upward_variation: see `descriptors.upward_variation`. spikes: their number in all reruns together.
        epochs: per rerun. learning_rates: those of the reruns, sorted.
    """

    roughness: dict[int, float]
    mean_roughness: Summary
    upward_variation: Summary
    spikes: int
    epochs: int
    learning_rates: list[float]


def smoothness(curves: pd.DataFrame, diverged: list[int], learning_rates: list[float]) -> Smoothness:
    """The smoothness of one configuration.

    Args:
        curves: its training loss in columns seed, epoch, value. diverged: seeds that are left out.
    """
    curves = curves[~curves["seed"].isin(diverged)].sort_values(["seed", "epoch"])
    losses = {
        int(seed): np.maximum(run["value"].to_numpy(dtype=float), SMALLEST_LOSS) for seed, run in curves.groupby("seed")
    }
    long_enough = {seed: loss for seed, loss in losses.items() if len(loss) > 2}
    rough = {seed: roughness(loss) for seed, loss in long_enough.items()}
    return Smoothness(
        roughness=rough,
        mean_roughness=summarise(list(rough.values())),
        upward_variation=summarise([upward_variation(loss) for loss in long_enough.values()]),
        spikes=sum(map(spikes, losses.values())),
        epochs=max(map(len, losses.values()), default=0),
        learning_rates=learning_rates,
    )


def learning_rates(entry: Mapping[str, Any], settings: list[dict[str, float]]) -> list[float]:
    """The learning rates of a configuration's reruns, tuned or fixed; none where it has no such hyperparameter."""
    fixed = split_space(entry["space"]).fixed.get("learning_rate")
    rates = {setting.get("learning_rate", fixed) for setting in settings or [{}]}  # none is chosen where all is fixed
    return sorted(rate for rate in rates if isinstance(rate, int | float))


def same_learning_rate(one: Smoothness, other: Smoothness) -> bool:
    """Whether both were trained at the same learning rate, so that it does not confound their smoothness."""
    rates = [*one.learning_rates, *other.learning_rates]
    return bool(one.learning_rates and other.learning_rates) and max(rates) <= min(rates) * (1 + RATE_TOLERANCE)
