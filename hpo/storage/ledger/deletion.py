"""Deletes the rows of a study."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage.schema import curves, failures, slots, studies, workers


def delete_rows(connection: Connection, study: int) -> None:
    """Deletes a study, which the caller has locked, with all its results."""
    ids = sa.select(slots.c.id).where(slots.c.study_id == study)
    connection.execute(ids.order_by(slots.c.id).with_for_update())
    connection.execute(sa.delete(curves).where(curves.c.slot_id.in_(ids)))
    for table in (failures, workers, slots):
        connection.execute(sa.delete(table).where(table.c.study_id == study))
    connection.execute(sa.delete(studies).where(studies.c.id == study))
