"""Whether all workers of a study train on the same samples: `load` may return others in another process."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.schema import slots, workers

TOLERANCE = 1e-3  # of the largest number: two machines may round differently
KEY = "data"  # in a worker's environment


def note_data(connection: Connection, study: int, worker_id: str, data: Mapping[str, Any]) -> None:
    """Stores the description of a worker's samples if it agrees with those of workers with results or leases.

    Args:
        data: from `hpo.data.identify`.

    Raises:
        UsageError: another worker has other samples.
    """
    active = sa.select(slots.c.worker_id).where(slots.c.study_id == study, slots.c.state.in_(("done", "leased")))
    query = sa.select(workers.c.worker_id, workers.c.host, workers.c.environment).where(
        workers.c.study_id == study, sa.or_(workers.c.worker_id == worker_id, workers.c.worker_id.in_(active))
    )
    for row in connection.execute(query).all():
        if row.worker_id == worker_id:
            this_worker = sa.and_(workers.c.study_id == study, workers.c.worker_id == worker_id)
            environment = {**row.environment, KEY: dict(data)}
            connection.execute(sa.update(workers).where(this_worker).values(environment=environment))
        elif KEY in row.environment and (part := _difference(row.environment[KEY], data)):
            raise UsageError(
                f"data: load() returns different {part} here than on {row.host}, where a worker has results in this "
                "study; if the data changed, give this study another --name or start from scratch with --fresh; if "
                "not, let it return the same in every process (no order of a set, no clock, no unseeded generator)"
            )


def check_same_data(connection: Connection, study: int, others: Iterable[Mapping[str, Any]]) -> None:
    """Raises UsageError if workers of another study (their rows) had other samples than the workers of `study`."""
    query = sa.select(workers.c.environment).where(workers.c.study_id == study)
    described = [entry[KEY] for entry in connection.scalars(query) if KEY in entry]
    for row in others:
        if KEY in row["environment"] and described and (part := _difference(described[0], row["environment"][KEY])):
            raise UsageError(f"the two studies were trained on different data: load() returned different {part}")


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Which part of two descriptions differs; "" for none."""
    return next(
        (part for part in ("shapes", "labels", "files", "inputs") if not _equal(one.get(part), other.get(part))), ""
    )


def _equal(one: Any, other: Any) -> bool:
    """Whether two entries are equal; numbers of samples nearly so."""
    if one == other or not (_are_numbers(one) and _are_numbers(other) and len(one) == len(other)):
        return bool(one == other)
    largest = max(map(abs, [*one, *other]))
    return all(abs(left - right) <= TOLERANCE * largest for left, right in zip(one, other, strict=True))


def _are_numbers(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(value, float) for value in entry)
