"""The record read from a real ledger, half-way and at the end."""

import math
from pathlib import Path
from typing import Any

import pytest
from synthetic_record import synthetic_export

from hpo.analysis.compute import compute_numbers
from hpo.report import make_record, read_record, write_report
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Slot, new_worker_id, open_study


def open_ledger(folder: Path) -> Ledger:
    study = synthetic_export(trials=4, seeds=3)[0]["study"]
    planned = {key: study[key] for key in ("trials", "seeds", "tuning_runs")}
    engine = connect(f"sqlite:///{folder / 'hpo.db'}")
    return open_study(engine, "s", study["definition"], study["digest"], planned, study["text"], {"model": "ab"})


def outcome(slot: Slot, phase: str) -> Outcome:
    diverged = phase == "tune" and slot.slot == 2
    result: dict[str, Any] = {"classes": 10, "epochs": 2, "population": 4, "validation_loss": 1.0}
    if phase == "rerun":
        result |= {"test_accuracy": 0.5 + 0.01 * slot.slot, "train_loss": 0.3, "train_accuracy": 0.9}
    return Outcome(
        slot.id,
        slot.attempt,
        value=0.1 if diverged else result.get("test_accuracy", 0.4 + 0.01 * slot.slot),
        cause="diverged" if diverged else None,
        result=result,
        curves={"train_loss": [1.0, math.inf], "validation_accuracy": [0.1, 0.2]},
        seconds=0.5,
    )


def work(ledger: Ledger, limit: int) -> None:
    worker_id = new_worker_id()
    ledger.register(worker_id, "cpu", {"python": "3.11", "commit": "abc"})
    while limit and (leased := ledger.lease(worker_id, 3)):
        limit -= 1
        settings = [{"learning_rate": 1e-3, "lambda": 0.1} for slot in leased.slots if slot.setting is None]
        leased = ledger.assign(worker_id, leased, settings)
        ledger.finish(worker_id, [outcome(slot, leased.phase) for slot in leased.slots])


def test_the_record_of_a_new_study_at_half_way_and_at_the_end(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    new = read_record(ledger)
    assert new.slots.phase.value_counts().to_dict() == {"tune": 8, "rerun": 6}
    assert (len(new.curves), len(new.failures), len(new.workers)) == (0, 0, 0)
    work(ledger, 1)
    half = read_record(ledger)
    assert (half.slots.state == "done").sum() == 2 and set(half.workers.device) == {"cpu"}
    assert [entry.tuning.finished for entry in compute_numbers(half).configurations] == [2, 0]
    work(ledger, 99)
    end = read_record(ledger)
    assert (end.slots.state == "done").all() and len(end.curves) == 14 * 2 * 2
    assert end.curves[end.curves.metric == "train_loss"]["value"].isna().sum() == 14
    numbers = compute_numbers(end)
    assert numbers.rivals[0].verdict.rule == 2
    assert (numbers.baseline.tuning.diverged, numbers.baseline.tuning.planned) == (1, 4)
    assert numbers.baseline.reruns.metric_summary[1:3] == (pytest.approx(0.51), pytest.approx(0.01))
    assert numbers.environments == [{"device": "cpu", "python": "3.11", "commit": "abc"}]
    for record, words in ((new, "no seed has been rerun"), (half, "2 of 4"), (end, "51.00% ± 1.00%")):
        assert words in write_report(record, tmp_path / "report", "s", []).read_text()


def test_rows_are_sorted_whatever_their_order() -> None:
    export, curves = synthetic_export(trials=2, seeds=2)
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in export.items()}
    backwards = {key: value[::-1] for key, value in curves.items()}
    one, two = make_record(export, curves), make_record(turned, backwards)
    assert one.slots.equals(two.slots) and one.curves.equals(two.curves)
