"""What many workers ask of a database, worked out from what one costs: which part is used up first, and the mend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpo.worker.loop import LEASE, LOOKING, POLL

WORKERS = (1, 10, 100, 1000)
RENEWALS = 4 / LEASE  # a second, of a worker in training
MENDS = {
    "writer": "SQLite lets one client write at a time; use PostgreSQL",
    "study lock": "a study's leases are given one at a time and count its slots; share it among several studies",
    "trial numbers": "Optuna's trials are numbered one at a time; share the trials among several studies",
    "server": "the server's processors are busy; give it more of them",
    "connections": "every worker keeps one; raise max_connections to the number of workers and 20 more",
    "looks": "workers that wait for others' trials slow each other down; start only as many as have work",
}


@dataclass(frozen=True)
class Costs:
    """Seconds that one worker's transactions take, measured with one client.

    Attributes:
        lease, look: of a population, or of one look for work, in a study of `slots` slots; `slot` is what every slot
            more adds to either.
        show: of a population as it begins. others: all other transactions of a population. sample: without any
            transaction. renew: one renewal.
        connections: that the server takes, and its cores; None for SQLite.
    """

    lease: float
    look: float
    slot: float
    show: float
    others: float
    sample: float
    renew: float
    slots: int
    connections: int | None
    cores: int | None


def table(costs: Costs, population: int, training: float, workers: Sequence[int] = WORKERS) -> list[dict[str, Any]]:
    """A row for every number of workers: how much of each part of the database they use, 1 being all of it.

    The study is as large as it must be for all to have work: tuning trains a third of the trials at most at a time.
    The looks are those of the worst case: all workers but one wait.

    Args:
        training: seconds that a population trains.

    Returns:
        Rows with "workers", "trials_per_second" of those that the server lets in, "slots" of their study, "use" (part
        → share) by all of them, and "first", the part that is used up first.
    """
    rows = []
    for count in workers:
        use, _, _ = _use(costs, population, training, count)
        able = min(count, costs.connections or count)
        served, cycle, slots = _use(costs, population, training, able)
        slower = max(1.0, *(share for part, share in served.items() if part not in ("connections", "looks")))
        rate = able * population / cycle / slower
        first = max(use, key=lambda part: use[part])
        rows.append({"workers": count, "slots": slots, "trials_per_second": rate, "use": use, "first": first})
    return rows


def _use(costs: Costs, population: int, training: float, count: int) -> tuple[dict[str, float], float, int]:
    """(part → share used, seconds from one lease of a worker to the next, slots of the study) of so many workers."""
    slots = max(costs.slots, 3 * count * population)
    lease, look = (seconds + costs.slot * (slots - costs.slots) for seconds in (costs.lease, costs.look))
    cycle = training + costs.sample + lease + costs.show + costs.others
    busy = count * ((lease + costs.show + costs.others) / cycle + RENEWALS * costs.renew)
    looking = (count - 1) * min(look / POLL[1], LOOKING)
    if costs.connections is None or costs.cores is None:
        return {"writer": busy, "looks": looking}, cycle, slots
    use = {
        "study lock": count * lease / cycle,
        "trial numbers": count * costs.show / cycle,
        "server": busy / costs.cores,
        "connections": count / costs.connections,
        "looks": looking / costs.cores,
    }
    return use, cycle, slots


def advice(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for every part that the largest number of workers would use up, the first of them first."""
    last = rows[-1]
    spent = sorted(((share, part) for part, share in last["use"].items() if share > 1), reverse=True)
    if not spent:
        return [
            f"{last['workers']} workers use {max(last['use'].values()):.0%} of the {last['first']}: nothing is used up"
        ]
    return [f"{last['workers'] / share:.0f} workers use up the {part}: {MENDS[part]}" for share, part in spent]
