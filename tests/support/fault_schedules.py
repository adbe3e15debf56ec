"""Schedules of faults, drawn from seeds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Something that happens `after` seconds after the previous fault.

    Attributes:
        kind: "kill" (kill -9), "pause" (for some `seconds`), "stop" (by a signal) or "start" a worker, or the name of
            a fault of the database (`failing_storages`), which then lasts for some `seconds`.
        number: chooses the worker, or the variant of the database's fault.
    """

    kind: str
    after: float
    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A study, its workers and their faults, all drawn from one seed."""

    seed: int
    planned: dict[str, int]
    workers: int
    population: int
    lease: float
    training: tuple[float, float]
    faults: Sequence[Fault]


def draw(seed: int, database_faults: Sequence[str]) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    lease = rng.choice([0.5, 1.0])
    faults = []
    for _ in range(rng.randint(3, 8)):
        kind = rng.choices(["kill", "pause", "stop", "start", rng.choice(database_faults)], [4, 3, 3, 2, 4])[0]
        pause = rng.uniform(0.5, 2.0) * lease  # some leases run out, some do not
        seconds = pause if kind == "pause" else min(rng.expovariate(1.0), 5.0) if kind in database_faults else 0.0
        faults.append(Fault(kind, rng.expovariate(4.0), rng.randrange(24), seconds))
    planned = {"trials": rng.choice([4, 12, 16]), "seeds": rng.choice([2, 3, 5]), "tuning_runs": rng.choice([1, 1, 2])}
    workers, population = rng.choice([1, 2, 8]), rng.choice([1, 3, 8])
    slots = 2 * (planned["trials"] * planned["tuning_runs"] + planned["seeds"])
    longest = min(1.2, rng.uniform(2.0, 8.0) * min(workers, 4) * population / slots)
    return Schedule(seed, planned, workers, population, lease, (0.02, longest), faults)


def outage(
    seconds: float, workers: int, lease: float = 60.0, training: tuple[float, float] = (0.1, 0.2), trials: int = 8
) -> Schedule:
    """The database is unavailable for some seconds while all workers train; there is no other fault."""
    planned = {"trials": trials, "seeds": 2, "tuning_runs": 1}
    return Schedule(-1, planned, workers, 2, lease, training, [Fault("unavailable", 0.2, seconds=seconds)])
