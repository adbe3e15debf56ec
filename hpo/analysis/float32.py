"""Values stored as float32, without the digits that float64 adds: 0.4762499928474426 becomes 0.47625."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shortest_decimals(values: ArrayLike) -> NDArray[np.float64]:
    """Replaces every value that float32 holds exactly by the shortest decimal with that float32.

    Args:
        values: numbers of any shape; all others, NaN and infinities included, stay as they are.
    """
    numbers = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        single = numbers.astype(np.float32)
    exact = single == numbers
    numbers[exact] = single[exact].astype(str).astype(np.float64)
    return numbers


def shorten_results(results: Sequence[Any]) -> list[Any]:
    """`shortest_decimals` for the floats in a list of dicts of scalars; entries that are no dict stay as they are."""
    copies = [dict(entry) if isinstance(entry, dict) else entry for entry in results]
    dicts = [entry for entry in copies if isinstance(entry, dict)]
    floats = [(entry, key) for entry in dicts for key, value in entry.items() if isinstance(value, float)]
    for (entry, key), value in zip(floats, shortest_decimals([entry[key] for entry, key in floats]), strict=True):
        entry[key] = float(value)
    return copies
