"""The record read from a real ledger, half-way and at the end."""

import math
from pathlib import Path
from typing import Any

from synthetic_record import synthetic_export

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
    while limit and (taken := ledger.lease(worker_id, 3)):
        limit -= 1
        settings = [{"learning_rate": 1e-3, "lambda": 0.1} for slot in taken.slots if slot.setting is None]
        taken = ledger.assign(worker_id, taken, settings)
        ledger.finish(worker_id, [outcome(slot, taken.phase) for slot in taken.slots])


def test_a_new_study_has_every_slot_and_no_curve(tmp_path: Path) -> None:
    record = read_record(open_ledger(tmp_path))
    assert record.slots.phase.value_counts().to_dict() == {"tune": 8, "rerun": 6}
    assert (len(record.curves), len(record.failures), len(record.workers)) == (0, 0, 0)
    assert "no seed has been rerun" in write_report(record, tmp_path / "report", "s", []).read_text()


def test_a_record_half_way_and_at_the_end(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    work(ledger, 1)
    half = read_record(ledger)
    assert (half.slots.state == "done").sum() == 2 and set(half.workers.device) == {"cpu"}
    assert "AdamW 2 of 4, GNVR 0 of 4" in write_report(half, tmp_path / "report", "s", []).read_text()
    work(ledger, 99)
    whole = read_record(ledger)
    assert (whole.slots.state == "done").all() and len(whole.curves) == 14 * 2 * 2
    assert whole.curves[whole.curves.metric == "train_loss"]["value"].isna().sum() == 14
    text = write_report(whole, tmp_path / "report", "s", ["hpo run s"]).read_text()
    assert "identical on every seed" in text and "51.00% ± 1.00%" in text
    assert "| cpu | 3.11 | abc |" in text and "`ab`" in text
    assert "1 of 4 trials diverged" in text


def test_rows_are_sorted_whatever_their_order() -> None:
    export, curves = synthetic_export(trials=2, seeds=2)
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in export.items()}
    backwards = {key: value[::-1] for key, value in curves.items()}
    one, two = make_record(export, curves), make_record(turned, backwards)
    assert one.slots.equals(two.slots) and one.curves.equals(two.curves)
