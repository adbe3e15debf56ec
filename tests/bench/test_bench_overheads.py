"""The benchmark of what goes on around the training measures every part and leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hpo.bench import made_study, overheads, processes, storage_parts
from hpo.cli import app
from hpo.errors import HpoError
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import names

SIZES = {"finished": 20, "asked": 6, "runs": 4, "configurations": 2, "trials": 24, "reruns": 6}


def test_every_part_is_measured_beside_its_goal(tmp_path: Path) -> None:
    url, lines = f"sqlite:///{tmp_path}/bench.db", list[str]()
    found = overheads.measure_overheads(url, "cpu", 1, SIZES, lines.append)
    rows = {row["part"].split(":")[0]: row for row in found["rows"]}
    assert set(rows) == {
        *("hpo --help", "import to the first training step", "ask", "tell", "curves, written", "curves, read"),
        "report",
    }
    for row in rows.values():
        assert 0 < row["least"] <= row["seconds"] and row["processor_seconds"] > 0 and row["repetitions"] == 1
    assert 100 > rows["hpo --help"]["mib"] < rows["report"]["mib"] < rows["import to the first training step"]["mib"]
    goals = {name: (row["goal_seconds"], row["goal_mib"]) for name, row in rows.items()}
    assert goals["hpo --help"] == (0.5, None) and goals["report"] == (15, 1024) and goals["tell"] == (None, None)
    assert rows["report"]["part"] == "report: 24 trials, curves of 6 reruns"
    assert len(lines) == len(rows) + 3 and len(found["load"]) == 2
    json.dumps(found, allow_nan=False)
    assert names(connect(url)) == []


def test_ask_tell_and_curves_are_timed_on_any_database(url: str) -> None:
    rows = storage_parts.measure(url, "bench", finished=20, asked=6, runs=4, repetitions=2)
    assert [row["part"].split(":")[0] for row in rows] == ["ask", "tell", "curves, written", "curves, read"]
    for row in rows:
        assert row["repetitions"] == 2 and row["least"] > 0 and row["mib"] > 0 and row["more_mib"] >= 0
    assert names(connect(url)) == []


def test_a_made_study_is_finished_as_far_as_asked(url: str) -> None:
    with made_study.made(url, "made", 2, 12, 5) as ledger:
        made_study.finish(ledger, "bench", np.random.default_rng(0), 11)
        assert {entry["trials_done"] for entry in ledger.counts().values()} == {11}
        made_study.finish(ledger, "bench", np.random.default_rng(1), 1, reruns=10)
        slots = ledger.export()["slots"]
        assert {slot["state"] for slot in slots} == {"done"} and len(slots) == 2 * (12 + 5)
        read = curves.read(ledger.engine, "made")
    assert set(read["slot_id"]) == {slot["id"] for slot in slots if slot["phase"] == "rerun"}
    assert len(read["value"]) == 10 * made_study.EPOCHS * len(made_study.METRICS)
    assert len({json.dumps(slot["setting"]) for slot in slots if slot["phase"] == "tune"}) == 24
    assert len({slot["value"] for slot in slots}) > 20 and all(0 < slot["value"] < 1 for slot in slots)


def test_a_commands_own_time_and_memory_are_told() -> None:
    filled = "import time; time.sleep(0.2); kept = bytearray(200 << 20)"
    small, large = (processes.timed(["-S", "-c", program], 2) for program in ("0", filled))
    assert small.mib < 100 and 190 < large.mib - small.mib < 220  # not those of this process
    assert min(large.seconds) >= 0.2 and large.row("")["processor_seconds"] > 0
    row = processes.Cost([3.0, 1.0, 2.0], [0.5, 0.4, 0.6], 7.0).row("x", more_mib=1)
    assert row == {
        "part": "x", "seconds": 2, "least": 1, "processor_seconds": 0.4, "repetitions": 3, "mib": 7, "more_mib": 1,
    }  # fmt: skip


def test_a_command_that_fails_is_told_with_its_reason() -> None:
    for call in (lambda: processes.timed(["-c", "0 / 0"], 1), lambda: processes.reported(["-c", "0 / 0"])):
        with pytest.raises(HpoError, match="exit code 1: ZeroDivisionError"):
            call()
    assert processes.reported(["-c", "print('[1, 2]')"], {"WORD": "x"}) == [1, 2]


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def measure(*arguments: object, show: object) -> dict[str, object]:
        asked.append((*arguments, show))
        return {"rows": []}

    monkeypatch.setattr(overheads, "measure_overheads", measure)
    found = CliRunner().invoke(app, ["bench", "overheads", "--json", "--repetitions", "2", "--device", "cpu"])
    assert json.loads(found.stdout) == {"rows": []} and asked == [(None, "cpu", 2, None)]
