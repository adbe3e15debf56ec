"""Trials and reruns as experiment trackers get them: leased ones with their curve so far, finished ones with all."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.space import split_space
from hpo.storage import bulk_sql
from hpo.storage.curves import read_all_metrics
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.curves import read_curves
from hpo.storage.schema import slots
from hpo.storage.transactions import run_with_retry

BATCH = 500  # finished runs that are read at once


class TrackedRun(NamedTuple):
    """A trial or rerun.

    Attributes:
        slot: its row in the ledger. created: when the study was created.
        study, configuration, phase ("trial" or "rerun"), tuning_run, round and number (all from 1), seed: what it is.
        attempt: differs between the leases of the same run.
        config: the optimizer with the arguments that are passed to its class, the regularizer, all hyperparameters.
        epochs: epoch → metric → value; of a run in training only its score.
        final: the metrics at its end, and its score or main test metric as "value". finished: whether it has ended.
    """

    slot: int
    created: float
    study: str
    configuration: str
    phase: str
    tuning_run: int
    round: int
    number: int
    seed: int
    attempt: str
    config: Mapping[str, Any]
    epochs: Mapping[int, Mapping[str, float]]
    final: Mapping[str, Any]
    finished: bool

    @property
    def name(self) -> str:
        """Identifies it in its study: "GNVR/trial/1-012" or "GNVR/rerun/1003", "GNVR/rerun/1003-2" in round 2."""
        number = f"{self.tuning_run}-{self.number:03d}" if self.phase == "trial" else str(self.seed)
        return f"{self.configuration}/{self.phase}/{number}" + (f"-{self.round}" if self.round > 1 else "")

    @property
    def key(self) -> str:
        """Also differs from that of a run in a study of the same name that was deleted."""
        return f"{self.created:.3f} {self.name}"

    @property
    def tags(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("study", "configuration", "phase", "tuning_run", "seed")}


def read_runs(ledger: Ledger, known: Collection[int], worker: str = "") -> list[TrackedRun]:
    """At most BATCH finished runs, and then those in training, of the configurations that `ledger` has.

    Args:
        known: slot ids of finished runs to leave out. worker: the beginning of a worker's id; by default of any worker.
    """

    def read(connection: Connection) -> list[TrackedRun]:
        of_worker = slots.c.worker_id.startswith(worker, autoescape=True)
        known_here = slots.c.configuration.in_(ledger.configurations)  # others were added later
        present = sa.and_(slots.c.study_id == ledger.id, slots.c.setting.is_not(None), of_worker, known_here)
        leased = connection.execute(sa.select(slots).where(present, slots.c.state == "leased")).all()
        done = connection.scalars(sa.select(slots.c.id).where(present, slots.c.state == "done").order_by(slots.c.id))
        new = bulk_sql.among(connection, slots.c.id, [slot for slot in done if slot not in known][:BATCH])
        finished = connection.execute(sa.select(slots).where(new).order_by(slots.c.id)).all()
        trials = [row.trial for row in leased if row.trial is not None]
        live = read_curves(connection, trials) if trials else {}  # without a trial, Optuna's tables may be missing
        score, metrics = ledger.definition["score"], read_all_metrics(connection, [row.id for row in finished])
        epochs = {
            row.id: {epoch: {score: value} for epoch, value in live.get(row.trial, {}).items()} for row in leased
        } | {slot: _by_epoch(curves) for slot, curves in metrics.items()}
        return [_run(ledger, row, epochs.get(row.id, {})) for row in [*finished, *leased]]

    return run_with_retry(ledger.engine, read)


def _by_epoch(curves: Mapping[str, Sequence[float]]) -> dict[int, dict[str, float]]:
    longest = max(map(len, curves.values()), default=0)
    return {
        epoch: {metric: values[epoch - 1] for metric, values in curves.items() if len(values) >= epoch}
        for epoch in range(1, longest + 1)
    }


def _parts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer and the regularizer; of `from_torch` also the arguments that are no hyperparameters."""
    parts = {part: entry[part] for part in ("optimizer", "regularizer") if part in entry}
    if isinstance(parts.get("optimizer"), str | None):
        return parts
    arguments = {f"optimizer.{name}": value for name, value in parts["optimizer"].items() if name != "kind"}
    plain = {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in arguments.items()
    }
    return {**parts, "optimizer": parts["optimizer"]["kind"], **plain}


def _run(ledger: Ledger, row: Any, epochs: Mapping[int, Mapping[str, float]]) -> TrackedRun:
    entry = next(each for each in ledger.definition["configurations"] if each["name"] == row.configuration)
    over = row.state == "done"
    return TrackedRun(
        row.id,
        ledger.created,
        ledger.study,
        row.configuration,
        "rerun" if row.phase == "rerun" else "trial",
        row.tuning_run + 1,
        row.round + 1,
        row.slot + 1,
        row.seed,
        f"{row.attempt} {row.started}",
        {**_parts(entry), **split_space(entry["space"]).complete(row.setting)},
        epochs,
        {**(row.result or {}), "value": row.value, "cause": row.cause, "seconds": row.seconds} if over else {},
        over,
    )
