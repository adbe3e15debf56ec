"""A study without training whose report shows a difference: results follow from setting and seed."""

import hashlib
import math
import random
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from synthetic_record import synthetic_export

from hpo.dashboard import live_reports, middleware, refresher, server, study_note
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id, open_study
from hpo.worker.loop import run_worker

EPOCHS = 10


def make(
    engine: Any,
    name: str = "shown",
    trials: int = 12,
    seeds: int = 5,
    names: Sequence[str] = ("AdamW", "GNVR"),
    **definition: Any,
) -> Ledger:
    """Configurations of these names, "GNVR" being a point and a half better than "AdamW"."""
    study = synthetic_export(names, epochs=EPOCHS, **definition)[0]["study"]
    planned = {"trials": trials, "seeds": seeds, "tuning_runs": 1}
    text = {"title": f"What {name} compares", "hypothesis": "", "command": f"hpo run {name}"}
    return open_study(engine, name, study["definition"], study["digest"], planned, text, {})


def outcomes(work: Work) -> list[Outcome]:
    """The outcomes of a training that is simulated."""
    return [_outcome(work, slot) for slot in work.slots]


def finish(ledger: Ledger, limit: int = 20, runs: int | None = None) -> None:
    """Works in this process until `runs` runs, or all, are finished."""
    worker_id = new_worker_id()
    ledger.register(worker_id, "a test's device")
    left = math.inf if runs is None else runs
    while left > 0 and (work := ledger.lease(worker_id, int(min(limit, left)))):
        settings = [_setting(work.configuration, slot.slot) for slot in work.slots if slot.setting is None]
        ledger.finish(worker_id, outcomes(ledger.assign(worker_id, work, settings)))
        left -= len(work.slots)


def work(url: str, study: str, allowed: str, population: int = 2) -> None:
    """A worker that has finished at most as many populations as the file `allowed` says; for the fork_server."""
    ledger = load_study(connect(url), study)
    worker_id, trained = new_worker_id(), count(1)
    ledger.register(worker_id, "a test's device")

    def train(work: Work) -> list[Outcome]:
        number = next(trained)
        while number > int(Path(allowed).read_text() or 0):
            time.sleep(0.01)
        return outcomes(work)

    run_worker(ledger, train, worker_id, population, device="a test's device")


def serve(url: str, reports: str, port: int = 0, pause: float = 1.0) -> None:
    """The dashboard, which writes summaries and reports and reloads its pages every `pause` seconds."""
    study_note.PAUSE = live_reports.PAUSE = pause
    refresher.INTERVAL = pause / 4
    middleware.UNAVAILABLE_PAGE = middleware.UNAVAILABLE_PAGE.replace('content="5"', f'content="{pause:g}"')
    server.serve(url, "127.0.0.1", port, Path(reports), editable=False)


def _setting(configuration: str, slot: int) -> dict[str, float]:
    drawn = random.Random(f"{configuration}/{slot}")
    setting = {"learning_rate": 10 ** drawn.uniform(-4, -2), "weight_decay": 10 ** drawn.uniform(-6, -1)}
    return setting if configuration == "AdamW" else {**setting, "lambda": 10 ** drawn.uniform(-3, 1)}


def _outcome(work: Work, slot: Any) -> Outcome:
    rate = math.log10((slot.setting or {})["learning_rate"])
    luck = _noise(f"{slot.seed}") * 0.01 + _noise(f"{work.configuration}/{slot.seed}/{slot.slot}") * 0.004
    reached = 0.62 - 0.03 * (rate + 3) ** 2 + (0.015 if work.configuration == "GNVR" else 0.0) + luck
    share = [1 - math.exp(-4 * epoch / EPOCHS) for epoch in range(1, EPOCHS + 1)]
    curves = {
        "train_loss": [2.3 - 1.7 * part for part in share],
        "validation_loss": [2.3 - 1.2 * part for part in share],
        "validation_accuracy": [0.1 + (reached - 0.1) * part for part in share],
    }
    result: dict[str, Any] = {metric: values[-1] for metric, values in curves.items()}
    result |= {"train_accuracy": 0.8, "epochs": EPOCHS, "classes": 10, "population": len(work.slots)}
    result |= {"training_samples": 2560, "validation_samples": 640}
    if work.phase == "rerun":
        result |= {"test_accuracy": reached - 0.01, "test_loss": 1.2, "test_samples": 800}
    value = result["test_accuracy" if work.phase == "rerun" else "validation_accuracy"]
    return Outcome(slot.id, slot.attempt, value=value, result=result, curves=curves, seconds=0.2 * EPOCHS)


def _noise(key: str) -> float:
    """Between -1 and 1, the same for the same key in every process."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**31 - 1
