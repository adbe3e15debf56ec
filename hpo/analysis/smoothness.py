"""Smoothness: how evenly the training loss of every configuration falls from epoch to epoch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hpo.analysis.descriptors import SMALLEST_LOSS, roughness, spikes, upward_variation
from hpo.analysis.paired_tests import Summary, summarise
from hpo.search_space import split_space

RATES = 0.01  # learning rates that lie closer together, relatively, count as one


class Smoothness(NamedTuple):
    """Of the training loss by epoch over the newest reruns that did not diverge; task loss without penalties.

    Attributes:
        roughness: by seed, the SD of white noise around a straight line that would make the log of the loss as rough.
        mean_roughness: its summary over the seeds. upward_variation: ascents by the whole descent, of the log.
        spikes: epochs above 1.25 times the median of the five before, in all reruns. epochs: of a rerun.
        learning_rates: that the reruns were trained with, sorted.
    """

    roughness: dict[int, float]
    mean_roughness: Summary
    upward_variation: Summary
    spikes: int
    epochs: int
    learning_rates: list[float]


def smoothness(curves: pd.DataFrame, diverged: list[int], learning_rates: list[float]) -> Smoothness:
    """Of one configuration, from its training loss in columns seed, epoch, value; sorted by epoch.

    Args:
        diverged: seeds that are left out.
    """
    runs = {
        int(seed): np.maximum(run["value"].to_numpy(dtype=float), SMALLEST_LOSS)
        for seed, run in curves.sort_values(["seed", "epoch"]).groupby("seed")
        if seed not in diverged
    }
    rough = {seed: roughness(loss) for seed, loss in runs.items() if len(loss) > 2}
    return Smoothness(
        roughness=rough,
        mean_roughness=summarise(list(rough.values())),
        upward_variation=summarise([upward_variation(loss) for loss in runs.values() if len(loss) > 2]),
        spikes=sum(spikes(loss) for loss in runs.values()),
        epochs=max((len(loss) for loss in runs.values()), default=0),
        learning_rates=learning_rates,
    )


def learning_rates(entry: Mapping[str, Any], settings: list[dict[str, float]]) -> list[float]:
    """The learning rates that a configuration was rerun with: tuned or fixed; none where it has no such number."""
    fixed = split_space(entry["space"])[1]
    found = {setting.get("learning_rate", fixed.get("learning_rate")) for setting in settings}
    return sorted(rate for rate in found if rate is not None)


def same_learning_rate(one: Smoothness, other: Smoothness) -> bool:
    """Whether both were trained at one and the same learning rate, so that smoothness is not confounded with it."""
    rates = sorted({*one.learning_rates, *other.learning_rates})
    return bool(one.learning_rates and other.learning_rates) and rates[-1] <= rates[0] * (1 + RATES)
