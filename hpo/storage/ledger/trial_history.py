"""The finished trials of tuning runs, as samplers and pruners need them."""

import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.storage import curves
from hpo.storage.ledger.stored_study import StoredStudy, transaction
from hpo.storage.schema import slots
from hpo.trials import DIVERGED, NO_SCORE, PRUNED, FinishedTrial, TrialCurve


class TrialHistory(StoredStudy):
    """The results of earlier batches of a study's tuning runs. Attributes: see `StoredStudy`."""

    @transaction
    def finished_trials(
        self, connection: Connection, configuration: str, tuning_runs: Collection[int], batch: int, since: int = 0
    ) -> dict[int, tuple[list[FinishedTrial], range]]:
        """What a sampler needs for a batch.

        Returns:
            tuning_run → (finished trials of the batches from `since` up to it, by slot; the slots of the batch).
        """
        tuning = self._tuning(configuration, tuning_runs)
        query = sa.select(
            sa.cast(slots.c.setting, sa.Text),
            *(slots.c.tuning_run, slots.c.slot, slots.c.batch),
            slots.c.value,
            slots.c.cause,
            sa.case((slots.c.cause == PRUNED, sa.cast(slots.c.result, sa.Text))).label("result"),
        ).where(tuning, slots.c.batch >= since, slots.c.batch < batch, slots.c.state == "done")
        rows = connection.execute(query.order_by(slots.c.tuning_run, slots.c.slot)).all()
        settings = json.loads(f"[{','.join(row[0] for row in rows)}]")  # at once: they share their keys' memory
        trials: dict[int, list[FinishedTrial]] = {tuning_run: [] for tuning_run in tuning_runs}
        for setting, row in zip(settings, rows, strict=True):
            trial = FinishedTrial(setting, row.value, self._stopped_epoch(row), row.slot, row.batch)
            trials[row.tuning_run].append(trial)
        bounds = sa.select(slots.c.tuning_run, sa.func.min(slots.c.slot), sa.func.max(slots.c.slot))
        in_batch = connection.execute(bounds.where(tuning, slots.c.batch == batch).group_by(slots.c.tuning_run))
        return {tuning_run: (trials[tuning_run], range(first, last + 1)) for tuning_run, first, last in in_batch}

    @transaction
    def trial_curves(
        self, connection: Connection, configuration: str, tuning_runs: Collection[int], batch: int
    ) -> dict[int, list[TrialCurve]]:
        """What a pruner needs for a batch: tuning_run → finished trials of the batches before it, with score curves."""
        query = sa.select(slots.c.id, slots.c.tuning_run, slots.c.value, slots.c.cause, slots.c.result).where(
            self._tuning(configuration, tuning_runs), slots.c.batch < batch, slots.c.state == "done"
        )
        rows = connection.execute(query.order_by(slots.c.tuning_run, slots.c.slot)).all()
        by_slot = curves.read_metric(connection, [row.id for row in rows], self.definition["score"])
        trials: dict[int, list[TrialCurve]] = {tuning_run: [] for tuning_run in tuning_runs}
        for row in rows:
            curve = by_slot.get(row.id, [])
            epochs = int((row.result or {}).get("epochs", len(curve)))
            trials[row.tuning_run].append(TrialCurve(curve, row.value, epochs, row.cause == PRUNED))
        return trials

    def _tuning(self, configuration: str, tuning_runs: Collection[int]) -> sa.ColumnElement[bool]:
        return sa.and_(
            slots.c.study_id == self.id,
            slots.c.configuration == configuration,
            slots.c.tuning_run.in_(sorted(tuning_runs)),
            slots.c.phase == "tune",
            slots.c.round == 0,  # of all trials; it lets the database find a batch by the table's key
        )

    def _stopped_epoch(self, row: Any) -> int | None:
        """See `FinishedTrial.stopped_epoch`.

        Where trials are pruned, few are trained to the end: one that diverged or has no score would soon rank high
        among them.
        """
        if row.cause == PRUNED:
            return int(json.loads(row.result)["epochs"])
        return 0 if "pruner" in self.definition and row.cause in (DIVERGED, NO_SCORE) else None
