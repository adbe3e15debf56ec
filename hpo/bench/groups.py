"""Benchmark: how often reports see two groups of values where there is one, and where there are two.

The rule is that of `hpo.analysis.two_groups`, without its smallest gap, which only makes it rarer. One group is drawn
from normal, heavy-tailed and skewed distributions, and as tuning runs whose settings differ by as much as the seeds of
one or by ten times as much. Two groups are normal, so many SDs apart, with half or a fifth of the values above.
"""

from collections.abc import Callable, Sequence

import numpy as np

from hpo.analysis.two_groups import find_two_groups, groups_of_reruns
from hpo.bench.calibration import Rate, count_rate
from hpo.bench.table import OnRow, Row

Draw = Callable[[np.random.Generator, int], np.ndarray]

SIZES = (5, 10, 20, 40, 100, 400)
ONE_GROUP: dict[str, Draw] = {
    "normal": lambda generator, n: generator.normal(size=n),
    "t, 5 degrees of freedom": lambda generator, n: generator.standard_t(5, n),
    "t, 3 degrees of freedom": lambda generator, n: generator.standard_t(3, n),
    "exponential": lambda generator, n: generator.exponential(size=n),
    "log-normal, σ = 0.5": lambda generator, n: generator.lognormal(0, 0.5, n),
    "accuracy of 800 samples": lambda generator, n: generator.binomial(800, 0.9, n) / 800,
}
TUNING_RUNS = ((5, 20), (10, 40))  # and their seeds
SPREADS = (1, 10)  # SD between tuning runs, in SDs within one
DISTANCES = (10, 20, 40)  # between the means of two groups, in SDs within one
UPPER_SHARES = (0.5, 0.2)
MAX_FALSE = 0.05
CLEAR_DISTANCE, MIN_POWER = 40, 0.95  # two groups so far apart have to be found so often
CONFIDENCE = 0.999  # of many rates at 95%, one would often fail by chance
COLUMNS = {
    "values": (30, "{values}"),
    "n": (4, "{n}"),
    "distance": (8, "{distance:.0f}"),
    "two groups": (23, "{found[share]:.2%} [{found[low]:.2%}, {found[high]:.2%}]"),
    "passes": (6, "{passes!s}"),
}


def measure(samples: int, sizes: Sequence[int], on_row: OnRow) -> Row:
    """Draws so many samples for each row.

    Returns:
        JSON values: a row for each kind and number of values, and whether all pass.
    """
    rows: list[Row] = []

    def add(kind: str, n: int, found: Rate, distance: float | None = None, required: bool = False) -> None:
        wide = found.at_confidence(CONFIDENCE)
        passes = wide.low <= MAX_FALSE if distance is None else wide.high >= MIN_POWER if required else None
        counted = {**found._asdict(), "share": found.share}
        rows.append({"values": kind, "n": n, "distance": distance, "found": counted, "passes": passes})
        on_row(rows[-1])

    for n in sizes:
        for kind, draw in ONE_GROUP.items():
            add(kind, n, false_alarms(draw, n, samples))
        for share in UPPER_SHARES:
            for distance in DISTANCES:
                required = share == 0.5 and distance >= CLEAR_DISTANCE
                found = power(distance, share, n, samples)
                add(f"two normal groups, {share:.0%} above", n, found, distance, required)
    for runs, seeds in TUNING_RUNS:
        for spread in SPREADS:
            found = false_alarms_of_runs(runs, seeds, spread, samples)
            add(f"{runs} tuning runs, {spread} SD apart", seeds, found)
    return {"samples": samples, "rows": rows, "passes": all(row["passes"] is not False for row in rows)}


def summary(result: Row) -> str:
    """What the columns mean."""
    return (
        f"{result['samples']:,} samples a row; brackets: exact binomial 95% intervals.\n"
        "two groups: samples in which a report would see two groups. Where there is one group (no distance), this is a "
        f"false alarm, of which\nat most {MAX_FALSE:.0%} are allowed; two equal groups {CLEAR_DISTANCE} SDs apart have "
        f"to be found in {MIN_POWER:.0%} (by 99.9% intervals)."
    )


def false_alarms(draw: Draw, n: int, samples: int) -> Rate:
    """How often one group of n values is seen as two."""
    generator = np.random.default_rng([1, n])
    return count_rate(_found(draw(generator, n)) for _ in range(samples))


def false_alarms_of_runs(tuning_runs: int, seeds: int, spread: float, samples: int) -> Rate:
    """How often normal values of tuning runs, with means `spread` times as far apart, are seen as two groups."""
    generator, run_of = np.random.default_rng([2, tuning_runs, seeds]), {s: s % tuning_runs for s in range(seeds)}
    cases = []
    for _ in range(samples):
        means, errors = generator.normal(0, spread, tuning_runs), generator.normal(size=seeds)
        values = {seed: float(means[run] + errors[seed]) for seed, run in run_of.items()}
        cases.append(groups_of_reruns(values, run_of, tuning_runs, 0.0) is not None)
    return count_rate(cases)


def power(distance: float, share: float, n: int, samples: int) -> Rate:
    """How often two normal groups are seen, with at least one value in each."""
    generator, upper = np.random.default_rng([3, n]), max(1, round(share * n))
    shift = distance * (np.arange(n) < upper)
    return count_rate(_found(generator.normal(size=n) + shift) for _ in range(samples))


def _found(values: np.ndarray) -> bool:
    return find_two_groups(dict(enumerate(values.tolist()))) is not None
