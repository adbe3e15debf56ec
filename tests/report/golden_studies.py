"""Golden reports of three small studies, made through the ledger with fixed numbers and times, and of many moments.

    python tests/report/renew_golden.py

renews them in tests/report/golden; `git diff` then shows what has changed for a reader.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from report_text import text_of
from sqlalchemy.engine import Engine
from synthetic_record import synthetic_export

from hpo.report import read_record, write_comparison, write_report
from hpo.storage import schema
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Slot, Work, open_study
from tests.report.moments import MOMENTS, numbers_of

GOLDEN = Path(__file__).parent / "golden"
FILES = ("README.md", "results.json", "results.tex", "trials.csv", "reruns.csv")
EPOCHS = 4
OWNER = "golden-worker"
ENVIRONMENT = {"python": "3.11", "torch": "2.13", "optuna": "5.0", "hpo": "0.1.0", "platform": "Linux", "commit": "abc"}

STEP_TIMES = {
    "device": "a CPU", "threads": 1, "time": 1790000000.0, "rows": [
        {"configuration": name, "population": population, "ms": ms, "ratio": ratio, "low": low, "high": high}
        for name, population, ms, ratio, low, high in (
            ("AdamW", 5, 0.4, 1.0, 1.0, 1.0), ("GNVR", 5, 0.75, 1.875, 1.8, 1.95),
            ("AdamW", 1, 0.6, 1.0, 1.0, 1.0), ("GNVR", 1, 1.2, 2.0, 1.9, 2.25),
        )
    ],
}  # fmt: skip


def plain(engine: Engine) -> Ledger:
    """Accuracy, two configurations, five seeds; a trial diverges. GNVR is ahead. The time of a step was measured."""
    ledger = opened(engine, "plain", ("AdamW", "GNVR"), trials=4, seeds=5)
    work_through(ledger, diverged={("GNVR", "tune", 3)})
    ledger.note_step_times(STEP_TIMES)
    return ledger


def under_way(engine: Engine) -> Ledger:
    """Three configurations, tuned; reruns have begun, one of them has diverged and an attempt of another has failed."""
    ledger = opened(engine, "under_way", ("AdamW", "GNVR", "a|b_c 50%"), trials=3, seeds=4, label_noise=False)
    work_through(ledger, diverged={("GNVR", "rerun", 1)}, failing={("AdamW", "rerun", 2)}, leave=3)
    return ledger


def custom_metric(engine: Engine) -> Ledger:
    """A custom metric that is minimised, three tuning runs, six seeds. SAM harms."""
    changes = {
        "score": "validation_rank",
        "direction": "minimize",
        "margin": 0.05,
        "metrics": {"rank": {"kind": "rank"}},
    }
    ledger = opened(engine, "custom_metric", ("AdamW", "SAM"), trials=3, seeds=6, tuning_runs=3, **changes)
    work_through(ledger)
    return ledger


STUDIES = {"plain": plain, "under_way": under_way, "custom_metric": custom_metric}


def opened(
    engine: Engine, name: str, names: Sequence[str], trials: int, seeds: int, tuning_runs: int = 1, **changes: Any
) -> Ledger:
    """A study with nothing done, and a worker that is about to begin."""
    export, _ = synthetic_export(names=names, epochs=EPOCHS, trials=trials, seeds=seeds, **changes)
    study = export["study"]
    planned = {"trials": trials, "seeds": seeds, "tuning_runs": tuning_runs}
    text = {"title": f"Golden: {name}", "hypothesis": "The numbers stay as they are.", "command": f"hpo run {name}"}
    ledger = open_study(engine, name, study["definition"], study["digest"], planned, text, {})
    ledger.register(OWNER, "cpu", ENVIRONMENT)
    return ledger


def work_through(
    ledger: Ledger,
    diverged: set[tuple[str, str, int]] = frozenset(),  # type: ignore[assignment]
    failing: set[tuple[str, str, int]] = frozenset(),  # type: ignore[assignment]
    leave: int = 0,
) -> None:
    """Finishes all work but `leave` reruns of every configuration; named are (configuration, phase, slot)."""
    waiting = set(failing)
    kept: list[Slot] = []
    while work := ledger.lease(OWNER, 50):
        settings = [
            _setting(work.configuration, slot.slot, slot.tuning_run) for slot in work.slots if slot.setting is None
        ]
        work = ledger.assign(OWNER, work, settings)
        failed = [slot for slot in work.slots if (work.configuration, work.phase, slot.slot) in waiting]
        if failed:
            waiting -= {(work.configuration, work.phase, slot.slot) for slot in failed}
            ledger.fail(OWNER, failed, "exception", "RuntimeError: no")
        left = [slot for slot in work.slots if work.phase == "rerun" and slot.slot >= leave > 0]
        kept += left
        done = [slot for slot in work.slots if slot not in failed and slot not in left]
        ledger.finish(OWNER, [_outcome(ledger, work, slot, diverged) for slot in done])
    ledger.release(OWNER, [slot.id for slot in kept])
    _fix_times(ledger.engine)


def _setting(configuration: str, slot: int, tuning_run: int) -> dict[str, float]:
    setting = {"learning_rate": 1e-3 * (1 + slot), "weight_decay": 1e-4 * (1 + tuning_run)}
    return setting if configuration == "AdamW" else {**setting, "lambda": 0.05 * (1 + slot)}


def _outcome(ledger: Ledger, work: Work, slot: Slot, diverged: set[tuple[str, str, int]]) -> Outcome:
    """Numbers that follow from the configuration, the phase and the slot by multiplication alone."""
    position, rerun = ledger.configurations.index(work.configuration), work.phase == "rerun"
    noise = (slot.slot * 37 + position * 11 + (0 if rerun else slot.tuning_run) * 5) % 16 / 1000
    accuracy = 0.5 + 0.04 * position + noise
    common = {
        "steps": 40 * EPOCHS,
        "gradient_evaluations": 1.0 + position,
        "epochs": EPOCHS,
        "population": 4,
        "classes": 10,
    }
    epochs = range(1, EPOCHS + 1)
    curves = {
        "train_loss": [2.0 / epoch + noise for epoch in epochs],
        "validation_accuracy": [accuracy * epoch / EPOCHS for epoch in epochs],
        "validation_loss": [2.5 - accuracy * epoch / EPOCHS for epoch in epochs],
        "validation_rank": [4.0 - accuracy * epoch + position for epoch in epochs],
    }
    if (work.configuration, work.phase, slot.slot) in diverged:
        value = 0.1 if rerun or ledger.definition["score"] == "validation_accuracy" else None
        cut = {name: values[:1] for name, values in curves.items()}
        return Outcome(slot.id, slot.attempt, value, "diverged", common | {"diverged_epoch": 2}, cut, 1.0)
    result = common | {name: values[-1] for name, values in curves.items()}
    result |= {"train_accuracy": accuracy + 0.25, "training_samples": 2560, "validation_samples": 640}
    result |= {"noisy_labels_fitted": 0.5 - noise, "noisy_labels_recovered": 0.25, "changed_labels": 460 + slot.slot}
    if rerun:
        result |= {"test_accuracy": accuracy - 0.02, "test_loss": 1.5 - noise, "test_samples": 800}
        result["test_rank"] = 2.0 + 0.5 * position + 8 * noise
    value = result["test_accuracy"] if rerun else result[ledger.definition["score"]]
    return Outcome(slot.id, slot.attempt, value, None, result, curves, EPOCHS * (0.25 + 0.125 * position))


def _fix_times(engine: Engine) -> None:
    """Puts all that was stored at one and the same moment."""
    moment = 1.7e9
    columns = {
        schema.studies: ("created",),
        schema.slots: ("started", "finished"),
        schema.failures: ("time",),
        schema.workers: ("started", "seen"),
    }
    with engine.begin() as connection:
        for table, names in columns.items():
            for name in names:
                here = table.c[name]
                connection.execute(sa.update(table).where(here.is_not(None)).values({name: moment}))
        connection.execute(sa.update(schema.workers).values(host="golden", pid=1))


def write(name: str, folder: Path) -> None:
    """Makes one of the studies in a new database and writes its report, with the figures' data as figures.json."""
    with tempfile.TemporaryDirectory() as folder_name:
        ledger = STUDIES[name](connect(f"sqlite:///{folder_name}/golden.db"))
        reports = Path(folder_name) / "reports"
        write_report(read_record(ledger), reports / name, name, [f"hpo run {name}"], "The author's words.")
        ledger.engine.dispose()
        folder.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            shutil.copy(reports / name / file, folder / file)
        page = (reports / name / "report.html").read_text(encoding="utf-8")
        script = re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.DOTALL)
        figures = json.loads(script[1]) if script else {}
        text = json.dumps(figures, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / "figures.json").write_text(text + "\n", encoding="utf-8")


def comparison_text() -> str:
    """README.md of two of the studies side by side."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/golden.db")
        records = [read_record(STUDIES[name](engine)) for name in ("plain", "custom_metric")]
        command = "hpo report plain custom_metric --compare"
        page = write_comparison(records, Path(folder) / "reports" / "compare", command)
        engine.dispose()
        return page.read_text(encoding="utf-8")


def moments_text() -> str:
    """What reports say at every moment: of each, the lines that no moment before it has."""
    known: set[str] = set()
    parts = []
    for name in MOMENTS:
        if "hundred" in name:
            continue
        lines = [line for line in text_of(numbers_of(name)).splitlines() if line not in known and "sha256" not in line]
        known.update(lines)
        parts.append("\n".join([f"# {name}", "", *filter(None, lines)]))
    return "\n\n".join(parts) + "\n"
