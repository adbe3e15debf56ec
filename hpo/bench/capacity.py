"""What many workers ask of a database, worked out from what one costs: which part is used up first, and the mend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpo.worker import LEASE, LOOKING, POLL

WORKERS = (1, 10, 100, 1000)
RENEWALS = 4 / LEASE  # a second, of a worker in training
MENDS = {
    "writer": "SQLite lets one client write at a time: use PostgreSQL, or larger populations",
    "study lock": "leases of a study are given one by one: use larger populations, or split the study",
    "trial numbers": "Optuna's trials of a study are numbered one by one: use larger populations",
    "server": "the server's processors are busy: give it more of them, or use larger populations",
    "connections": "every worker keeps one connection: raise max_connections to the number of workers and 20 more",
    "looks": "workers that wait for others' trials slow each other down: start fewer, of which all have work",
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
        Rows with "workers", "slots" of the study, "trials_per_second" (less where a part is used up), "use" (part →
        share) and "first", the part that is used up first.
    """
    rows = []
    for count in workers:
        slots = max(costs.slots, 3 * count * population)
        lease, look = (seconds + costs.slot * (slots - costs.slots) for seconds in (costs.lease, costs.look))
        cycle = training + costs.sample + lease + costs.show + costs.others
        use = _use(costs, count, lease, look, cycle)
        first = max(use, key=lambda part: use[part])
        slower = max(1.0, *(share for part, share in use.items() if part not in ("connections", "looks")))
        able = min(count, costs.connections or count)
        rate = able * population / cycle / slower
        rows.append({"workers": count, "slots": slots, "trials_per_second": rate, "use": use, "first": first})
    return rows


def _use(costs: Costs, count: int, lease: float, look: float, cycle: float) -> dict[str, float]:
    busy = count * ((lease + costs.show + costs.others) / cycle + RENEWALS * costs.renew)
    looking = (count - 1) * min(look / POLL[1], LOOKING)
    if costs.connections is None or costs.cores is None:
        return {"writer": busy, "looks": looking}
    return {
        "study lock": count * lease / cycle,
        "trial numbers": count * costs.show / cycle,
        "server": busy / costs.cores,
        "connections": count / costs.connections,
        "looks": looking / costs.cores,
    }


def advice(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for every part that the largest number of workers would use up, the first of them first."""
    last = rows[-1]
    spent = sorted(((share, part) for part, share in last["use"].items() if share > 1), reverse=True)
    if not spent:
        return [
            f"{last['workers']} workers use {max(last['use'].values()):.0%} of the {last['first']}: nothing is used up"
        ]
    return [f"{last['workers'] / share:.0f} workers use up the {part}: {MENDS[part]}" for share, part in spent]
