"""The intermediate values of Optuna's trials: their score by epoch, of which its dashboard draws learning curves."""

import math
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import bulk_sql
from hpo.storage.optuna.schema import intermediate_values

MAX_POINTS = 100  # of a trial: Optuna reads all values of all trials whenever it looks at a study


def points(curve: Sequence[float], epochs: int | None = None) -> dict[int, float]:
    """Epoch (from 1) → value, for at most MAX_POINTS epochs at equal distances, and the last one.

    Args:
        curve: values of epochs 1, 2, …. epochs: how many the run may have, if the curve is not yet complete; then
            the last value is left out unless its turn has come.
    """
    distance = math.ceil((epochs or len(curve)) / MAX_POINTS)
    chosen = {epoch: value for epoch, value in enumerate(curve, 1) if epoch % distance == 0}
    if curve and epochs is None:
        chosen[len(curve)] = curve[-1]
    return chosen


def insert_curves(connection: Connection, by_trial: Mapping[int, Mapping[int, float]]) -> None:
    """Inserts trial id → epoch → value; values that are not finite are stored as NaN."""
    bulk_sql.insert(connection, intermediate_values, [
        {
            "trial_id": trial, "step": epoch, "intermediate_value": value if math.isfinite(value) else None,
            "intermediate_value_type": "FINITE" if math.isfinite(value) else "NAN",
        }
        for trial, curve in by_trial.items()
        for epoch, value in curve.items()
    ])  # fmt: skip


def delete_curves(connection: Connection, trials: Collection[int]) -> None:
    """Deletes all intermediate values of trials."""
    if trials:
        of_trials = bulk_sql.among(connection, intermediate_values.c.trial_id, trials)
        connection.execute(sa.delete(intermediate_values).where(of_trials))


def read_curves(connection: Connection, trials: Collection[int]) -> dict[int, dict[int, float]]:
    """Trial id → epoch → value, for the trials that have any."""
    table = intermediate_values.c
    columns = (table.trial_id, table.step, table.intermediate_value)
    query = sa.select(*columns).where(bulk_sql.among(connection, table.trial_id, trials))
    curves: dict[int, dict[int, float]] = {}
    for trial, epoch, value in connection.execute(query.order_by(table.trial_id, table.step)):
        curves.setdefault(trial, {})[epoch] = math.nan if value is None else value
    return curves
