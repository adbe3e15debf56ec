"""Lost workers: no evidence against a setting, unless all workers that train it are lost, and only those."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.schema import failures, slots

LOST = "lost worker"
LEASED_ALONE = 3  # lost attempts after which a suspected setting is leased alone: the others of its population are free
MAX_LOST = 5  # lost attempts after which it is set aside, if others finished meanwhile


def suspected(connection: Connection, rows: Sequence[Any], losses: int) -> dict[int, int]:
    """Slots that were lost at least `losses` times with their present setting, and with every worker lost since.

    Where machines fail or are preempted, other workers are lost as well, and no setting is suspected.

    Returns:
        slot id → its losses.
    """
    if not rows:
        return {}
    settings = {row.id: row.setting for row in rows}
    columns = (failures.c.slot_id, failures.c.setting, failures.c.time, failures.c.message)
    query = sa.select(*columns).where(failures.c.study_id == rows[0].study_id, failures.c.cause == LOST)
    lost_workers: set[tuple[float, str]] = set()  # all slots that one worker lost have the same time and message
    of_slot: dict[int, set[tuple[float, str]]] = {}
    for slot, setting, time, message in connection.execute(query):
        lost_workers.add((time, message))
        if slot in settings and setting == settings[slot]:
            of_slot.setdefault(slot, set()).add((time, message))
    return {
        slot: len(own)
        for slot, own in of_slot.items()
        if len(own) >= losses and all(worker in own for worker in lost_workers if worker[0] >= min(own)[0])
    }


def set_aside(connection: Connection, rows: Sequence[Any]) -> set[int]:
    """Slots whose settings are given up: suspected MAX_LOST times, while another slot was finished."""
    suspects = suspected(connection, rows, MAX_LOST)
    if not suspects:
        return set()
    first_loss = sa.select(failures.c.slot_id, sa.func.min(failures.c.time)).where(
        failures.c.slot_id.in_(list(suspects)), failures.c.cause == LOST
    )
    finished = sa.select(sa.func.max(slots.c.finished)).where(
        slots.c.study_id == rows[0].study_id, slots.c.state == "done"
    )
    newest = connection.scalar(finished)
    times = connection.execute(first_loss.group_by(failures.c.slot_id))
    return {slot for slot, first in times if newest is not None and newest > first}
