"""Shortest numbers: what float32 held, as the shortest decimal that it stands for, without the digits of float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIGITS = (6, 7, 8, 9)  # any decimal of six digits survives float32, and nine tell every float32 from its neighbours
SMALLEST, LARGEST = 1e-12, 1e9  # between them every power of ten that is needed is exact in float64
POWERS = np.array([float(f"1e{power}") for power in range(23)])


def shortest(values: ArrayLike) -> NDArray[np.float64]:
    """Values of any shape, those that are a float32 in float64 replaced by the shortest decimal with that float32.

    0.4762499928474426 becomes 0.47625. Any other number, and what is not finite, stays as it is.
    """
    numbers = np.array(values, dtype=np.float64)
    flat = numbers.reshape(-1)
    size = np.abs(flat)
    with np.errstate(over="ignore", invalid="ignore"):
        single = flat.astype(np.float32)
        places = np.flatnonzero((single == flat) & (size >= SMALLEST) & (size < LARGEST))
    magnitude, noisy, single = np.floor(np.log10(size[places])).astype(int), flat[places], single[places]
    for digits in DIGITS:
        power = digits - 1 - magnitude
        factor = POWERS[np.abs(power)]
        if power.size and power.min() >= 0:
            rounded = np.rint(noisy * factor) / factor
        else:
            whole = np.rint(np.where(power >= 0, noisy * factor, noisy / factor))
            rounded = np.where(power >= 0, whole / factor, whole * factor)
        same = rounded.astype(np.float32) == single
        flat[places[same]] = rounded[same]
        places, magnitude, noisy, single = (entry[~same] for entry in (places, magnitude, noisy, single))
    return flat.reshape(numbers.shape)


def shortest_results(results: Sequence[Any]) -> list[Any]:
    """`shortest` for the floats in a list of dicts of scalars; entries that are no dict stay as they are."""
    found = [dict(entry) if isinstance(entry, dict) else entry for entry in results]
    places = [
        (entry, key)
        for entry in found
        if isinstance(entry, dict)
        for key, value in entry.items()
        if isinstance(value, float)
    ]
    for (entry, key), value in zip(places, shortest([entry[key] for entry, key in places]).tolist(), strict=True):
        entry[key] = value
    return found
