"""Ranges and their scales."""

import pytest

from hpo.errors import UsageError
from hpo.search_space import Range, linear_range, log_range
from hpo.space import split_space


def test_positions_on_both_scales() -> None:
    log, linear = log_range(1e-4, 1e-2), linear_range(-1, 3)
    assert [log.position(value) for value in (1e-4, 1e-3, 1e-2)] == pytest.approx([0, 0.5, 1])
    assert [linear.position(value) for value in (-1, 0, 3)] == pytest.approx([0, 0.25, 1])
    assert log.middle() == pytest.approx(1e-3)
    assert linear.middle() == 1


@pytest.mark.parametrize("bounds", [log_range(1e-4, 1e-2), linear_range(0, 3)])
def test_the_same_interval_for_optuna(bounds: Range) -> None:
    distribution = bounds.distribution()
    assert (distribution.low, distribution.high, distribution.log) == (bounds.low, bounds.high, bounds.log)


@pytest.mark.parametrize(
    ("low", "high", "log", "named"),
    [
        (1e-2, 1e-4, True, "0.01–0.0001 has low ≥ high"),
        (1, 1, False, "1–1 has low ≥ high"),
        (0, 1, True, "0–1 touches 0"),
        (-1, 1, True, "-1–1 touches 0"),
        (0, float("inf"), False, "0–inf has a bound that is not a finite number"),
        (float("nan"), 1, False, "nan–1 has a bound that is not a finite number"),
    ],
)
def test_wrong_ranges_are_refused(low: float, high: float, log: bool, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        (log_range if log else linear_range)(low, high)


def test_a_space_is_split_into_tuned_and_fixed_hyperparameters() -> None:
    """Entries are objects, or what a definition stores."""
    stored = {"low": 0.1, "high": 10.0, "log": True, "off": "high"}
    space = split_space({"clip": stored, "momentum": 1.0, "rate": linear_range(0, 1), "kind": "a"})
    assert space.tuned == {"clip": log_range(0.1, 10, off="high"), "rate": linear_range(0, 1)}
    assert space.fixed == {"momentum": 1.0, "kind": "a"}
