"""Refuses what may not happen to a study while workers train it."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.queries import first_lease_ends
from hpo.storage.ledger.worker_ids import has_ended
from hpo.storage.schema import studies
from hpo.storage.transactions import lock_table, now


def lock_idle_study(connection: Connection, name: str, action: str) -> int:
    """As `idle_study`; no worker can lease from the study until the transaction ends."""
    lock_table(connection, studies)
    connection.execute(sa.select(studies.c.id).where(studies.c.name == name).with_for_update())
    return idle_study(connection, name, action)


def idle_study(connection: Connection, name: str, action: str) -> int:
    """The id of a study that no worker trains.

    Args:
        action: what is to be done, in the error's sentence: "deleted".

    Raises:
        UsageError: there is no such study, or workers hold leases.
    """
    study = connection.scalar(sa.select(studies.c.id).where(studies.c.name == name))
    if study is None:
        raise UsageError(f"there is no study {name!r} in this database")
    time = now(connection)
    ends = first_lease_ends(connection, study)
    holders = [worker for worker, _ in ends if not has_ended(worker)]
    last = dict(map(tuple, ends))
    present = sorted({_words(worker) for worker in holders if last[worker] >= time})
    if present:
        raise UsageError(
            f"study {name!r} is being trained by {', '.join(present)}; stop these workers (Ctrl-C, kill or `hpo launch "
            f"--stop`) before it is {action}"
        )
    return int(study)


def _words(worker_id: str) -> str:
    host, pid, *_ = [*worker_id.split(":"), "?"]
    return f"process {pid} on {host.split('+')[0]}"
