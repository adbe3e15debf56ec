"""Whether all workers of a study train on the same samples, which a `load` may give each process otherwise."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.studies import lock
from hpo.storage.schema import slots, workers

ROUNDING = 1e-3  # of the largest number, what two machines may differ by
KEY = "data"  # in a worker's environment


def note_data(connection: Connection, study: int, worker_id: str, data: Mapping[str, Any]) -> None:
    """Stores what a worker's samples are like, once they agree with those of who has finished or holds work.

    Args:
        data: from `hpo.data.identify`.

    Raises:
        UsageError: another worker's samples are others.
    """
    lock(connection, study)  # of two that begin at once the second sees what the first has stored
    at_work = sa.select(slots.c.worker_id).where(slots.c.study_id == study, slots.c.state.in_(("done", "leased")))
    query = sa.select(workers.c.worker_id, workers.c.host, workers.c.environment).where(
        workers.c.study_id == study, sa.or_(workers.c.worker_id == worker_id, workers.c.worker_id.in_(at_work))
    )
    for row in connection.execute(query).all():
        if row.worker_id == worker_id:
            mine = sa.and_(workers.c.study_id == study, workers.c.worker_id == worker_id)
            connection.execute(sa.update(workers).where(mine).values(environment={**row.environment, KEY: dict(data)}))
        elif KEY in row.environment and (what := _difference(row.environment[KEY], data)):
            raise UsageError(
                f"data: load() gives other {what} here than to a worker on {row.host} whose results this study has; "
                "if the data changed, give this study another --name or start from scratch with --fresh; if not, let "
                "it give the same in every process (no order of a set, no clock, no generator without a seed)"
            )


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Which part of two sources differs; "" for none."""
    for part in ("shapes", "labels"):
        if one[part] != other[part]:
            return part
    largest = max(map(abs, [*one["inputs"], *other["inputs"]]))
    pairs = zip(one["inputs"], other["inputs"], strict=True)
    return "inputs" if any(abs(left - right) > ROUNDING * largest for left, right in pairs) else ""
