"""Ranges on their own scale."""

import pytest

from hpo.errors import UsageError
from hpo.search_space import Range, linear_range, log_range, split_space


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
    ("make", "words"),
    [
        (lambda: log_range(1e-2, 1e-4), r"the range 0\.01–0\.0001 has low ≥ high; write the smaller bound first"),
        (lambda: linear_range(1, 1), "the range 1–1 has low ≥ high; .* give the value itself to keep it fixed"),
        (lambda: log_range(0, 1), "the log range 0–1 touches 0; raise its low bound, or use linear_range"),
        (lambda: log_range(-1, 1), "the log range -1–1 touches 0"),
        (lambda: linear_range(0, float("inf")), "0–inf has a bound that is not a finite number"),
        (lambda: linear_range(float("nan"), 1), "nan–1 has a bound that is not a finite number"),
    ],
)
def test_wrong_ranges_are_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=words):
        make()


def test_a_space_is_split_into_what_is_tuned_and_what_is_fixed() -> None:
    """Ranges come as they are or as the dicts they become in a definition."""
    stored = {"low": 0.1, "high": 10.0, "log": True, "off": "high"}
    ranges, fixed = split_space({"clip": stored, "momentum": 1, "rate": linear_range(0, 1)})
    assert ranges == {"clip": log_range(0.1, 10, off="high"), "rate": linear_range(0, 1)}
    assert fixed == {"momentum": 1.0}
    assert isinstance(fixed["momentum"], float)
