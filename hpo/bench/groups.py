"""Benchmark: how often reports see two groups of values, or one apart, in one group and in two.

The rule is that of `hpo.analysis.two_groups`, with its smallest gap only for shares near 0% and near 100%: everywhere
else the gap would make it rarer. One group is drawn from distributions of several shapes, as several quantities of one
configuration, and as tuning runs whose settings differ by as much as the seeds of one or by ten times as much. Two
groups are normal with the same SD, as many of these apart as the row says.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hpo.analysis.rerun_metrics import MIN_GAP_OF_SHARES
from hpo.analysis.two_groups import TwoGroups, find_two_groups, groups_of_reruns
from hpo.bench.calibration import Rate, count_rate
from hpo.bench.table import OnRow, Row

Draw = Callable[[np.random.Generator, int], np.ndarray]
Found = Iterable[TwoGroups | None]

SIZES = (5, 7, 10, 20, 40, 60)
NORMAL = "normal"
ONE_GROUP: dict[str, Draw] = {
    NORMAL: lambda generator, n: generator.normal(size=n),
    "uniform": lambda generator, n: generator.uniform(size=n),
    "log-normal, σ = 0.5": lambda generator, n: generator.lognormal(0, 0.5, n),
    "exponential": lambda generator, n: generator.exponential(size=n),
    "t, 3 degrees of freedom": lambda generator, n: generator.standard_t(3, n),
    "accuracy of 800 samples": lambda generator, n: generator.binomial(800, 0.9, n) / 800,
}
SHARES: dict[str, Draw] = {
    "share near 0%, beta(1, 20)": lambda generator, n: generator.beta(1, 20, n),
    "long tail from 100%, beta(5, 0.5)": lambda generator, n: generator.beta(5, 0.5, n),
    "share near 100%, beta(20, 0.5)": lambda generator, n: generator.beta(20, 0.5, n),
}
QUANTITIES, CORRELATIONS = 5, (0.0, 0.9)
TUNING_RUNS = ((5, 20), (10, 40))  # and their seeds
SPREADS = (1, 10)  # SD between tuning runs, in SDs within one
DISTANCES = (8, 20, 40)  # between the means of two groups, in SDs within one
UPPER_SHARES = (0.5, 0.3, 0.2, 0.0)  # 0: one value
MAX_FALSE_NORMAL, MAX_FALSE_CONFIGURATION, MAX_FALSE = 0.01, 0.03, 0.07
CLEAR_DISTANCE, MIN_POWER = 40, 0.95  # two groups so far apart have to be found so often
CONFIDENCE = 0.999  # of many rates at 95%, one would often fail by chance
COLUMNS = {
    "values": (38, "{values}"),
    "n": (4, "{n}"),
    "distance": (8, "{distance}"),
    "two groups": (23, "{groups[share]:.2%} [{groups[low]:.2%}, {groups[high]:.2%}]"),
    "one apart": (23, "{apart[share]:.2%} [{apart[low]:.2%}, {apart[high]:.2%}]"),
    "passes": (6, "{passes!s}"),
}


class Rates(NamedTuple):
    """How often values are seen as two groups of at least two, as one apart from the others, and as either."""

    groups: Rate
    apart: Rate
    either: Rate


def measure(samples: int, sizes: Sequence[int], on_row: OnRow) -> Row:
    """Draws so many samples for each row.

    Returns:
        JSON values: a row for each kind and number of values, and whether all pass.
    """
    rows: list[Row] = []
    each = (row for n in sizes for row in (*_one_group(n, samples), *_two_groups(n, samples)))
    for row in itertools.chain(each, _tuning_runs(samples)):
        rows.append(row)
        on_row(row)
    return {"samples": samples, "rows": rows, "passes": all(row["passes"] is not False for row in rows)}


def _one_group(n: int, samples: int) -> Iterator[Row]:
    for kind in (*ONE_GROUP, *SHARES):
        rates = false_alarms(kind, n, samples)
        limited, limit = (rates.either, MAX_FALSE_NORMAL) if kind == NORMAL else (rates.groups, MAX_FALSE)
        yield _row(kind, n, rates, _is_at_most(limited, limit))
    for correlation in CORRELATIONS:
        rates = false_alarms_of_configurations(correlation, n, samples)
        passes = _is_at_most(rates.either, MAX_FALSE_CONFIGURATION)
        yield _row(f"{QUANTITIES} normal quantities, correlation {correlation}", n, rates, passes)


def _two_groups(n: int, samples: int) -> Iterator[Row]:
    for upper in sorted({upper_values(share, n) for share in UPPER_SHARES}, reverse=True):
        for distance in DISTANCES:
            rates = power(distance, upper, n, samples)
            required = upper == upper_values(0.5, n) and distance >= CLEAR_DISTANCE
            passes = rates.either.at_confidence(CONFIDENCE).high >= MIN_POWER if required else None
            yield _row(f"two normal groups, {n - upper}:{upper}", n, rates, passes, distance)


def _tuning_runs(samples: int) -> Iterator[Row]:
    for (runs, seeds), spread in itertools.product(TUNING_RUNS, SPREADS):
        rates = false_alarms_of_runs(runs, seeds, spread, samples)
        yield _row(f"{runs} tuning runs, {spread} SD apart", seeds, rates, _is_at_most(rates.either, MAX_FALSE))


def _row(kind: str, n: int, rates: Rates, passes: bool | None, distance: int | None = None) -> Row:
    counted = {name: {**rate._asdict(), "share": rate.share} for name, rate in rates._asdict().items()}
    return {"values": kind, "n": n, "distance": distance, **counted, "passes": passes}


def summary(result: Row) -> str:
    """What the columns mean."""
    return (
        f"{result['samples']:,} samples a row; brackets: exact binomial 95% intervals.\n"
        "two groups, one apart: samples in which a report would see two groups of at least two values, or one value "
        "apart from the others.\nWhere there is one group (no distance), this is a false alarm: at most "
        f"{MAX_FALSE_NORMAL:.0%} of normal samples may have any, {MAX_FALSE_CONFIGURATION:.0%} with {QUANTITIES} "
        f"quantities,\nand {MAX_FALSE:.0%} of the others two groups; two equal groups {CLEAR_DISTANCE} SDs apart "
        f"have to be found in {MIN_POWER:.0%} (all by 99.9% intervals)."
    )


def upper_values(share: float, n: int) -> int:
    """How many of n values are in the upper group."""
    return max(1, round(share * n))


def false_alarms(kind: str, n: int, samples: int) -> Rates:
    """How often one group of n values is seen as two."""
    generator, draw = np.random.default_rng([1, n]), (ONE_GROUP | SHARES)[kind]
    smallest = MIN_GAP_OF_SHARES if kind in SHARES else 0.0
    return _rates([_find(draw(generator, n), smallest)] for _ in range(samples))


def false_alarms_of_configurations(correlation: float, n: int, samples: int) -> Rates:
    """How often any of several normal quantities with equal correlations is seen as two groups."""
    generator = np.random.default_rng([4, n])

    def draw() -> np.ndarray:
        common, own = generator.normal(size=n), generator.normal(size=(QUANTITIES, n))
        return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own

    return _rates(map(_find, draw()) for _ in range(samples))


def false_alarms_of_runs(tuning_runs: int, seeds: int, spread: float, samples: int) -> Rates:
    """How often normal values of tuning runs, with means `spread` times as far apart, are seen as two groups."""
    generator, run_of = np.random.default_rng([2, tuning_runs, seeds]), {s: s % tuning_runs for s in range(seeds)}

    def find() -> TwoGroups | None:
        means, errors = generator.normal(0, spread, tuning_runs), generator.normal(size=seeds)
        values = {seed: float(means[run] + errors[seed]) for seed, run in run_of.items()}
        return groups_of_reruns(values, run_of, tuning_runs, 0.0)

    return _rates([find()] for _ in range(samples))


def power(distance: float, upper: int, n: int, samples: int) -> Rates:
    """How often two normal groups are seen, with so many of the n values in the upper one."""
    generator, shift = np.random.default_rng([3, n, upper]), distance * (np.arange(n) < upper)
    return _rates([_find(generator.normal(size=n) + shift)] for _ in range(samples))


def _find(values: np.ndarray, smallest_gap: float = 0.0) -> TwoGroups | None:
    return find_two_groups(dict(enumerate(values.tolist())), smallest_gap)


def _rates(samples: Iterable[Found]) -> Rates:
    """Counts samples with any groups; each has what was found in one or several quantities."""
    single = [{groups.has_single for groups in found if groups} for found in samples]
    return Rates(*(count_rate(bool(seen & kinds) for seen in single) for kinds in ({False}, {True}, {False, True})))


def _is_at_most(rate: Rate, limit: float) -> bool:
    return rate.at_confidence(CONFIDENCE).low <= limit
