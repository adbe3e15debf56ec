"""Exact budgets: N trials and S reruns, each finished once, whatever dies. Real processes, killed with -9."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import storage_study
from storage_study import make, plain_study

import hpo
from hpo import curves
from hpo.database import connect

TRIALS, SEEDS = 30, 6
ROOT = Path(hpo.__file__).parents[1]


def start(url: str, seed: int, log: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", storage_study.__file__, url, "s", str(seed), str(log)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def work_through(url: str, folder: Path, workers: int, kills: int) -> list[list]:
    """Runs `workers` processes, kills one `kills` times at random moments and starts another; returns their logs."""
    rng = random.Random(workers)
    running = [start(url, seed, folder / f"{seed}.log") for seed in range(workers)]
    while not (folder / "0.log").exists():
        time.sleep(0.01)
    for kill in range(kills):
        time.sleep(rng.uniform(0.05, 0.4))
        victim = running.pop(rng.randrange(len(running)))
        victim.kill()
        victim.communicate()
        seed = workers + kill
        running.append(start(url, seed, folder / f"{seed}.log"))
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    lines = [line for log in sorted(folder.glob("*.log")) for line in log.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("]")]


@pytest.mark.parametrize(("workers", "kills"), [(1, 2), (2, 3), (4, 4)])
def test_exact_budgets_with_workers_killed(tmp_path: Path, workers: int, kills: int) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    ledger = make(connect(url), trials=TRIALS, seeds=SEEDS)
    log = work_through(url, tmp_path, workers, kills)

    rows = ledger.export()["slots"]
    assert ledger.state() == "done" and {row["state"] for row in rows} == {"done"}
    assert Counter((row["configuration"], row["phase"]) for row in rows) == {
        ("A", "tune"): TRIALS, ("B", "tune"): TRIALS, ("A", "rerun"): SEEDS, ("B", "rerun"): SEEDS,
    }  # fmt: skip
    finished = Counter(slot for kind, slot, *_ in log if kind == "finished")
    assert max(finished.values()) == 1
    begun: dict[int, set[str]] = {}
    for _, slot, _, setting in log:
        begun.setdefault(slot, set()).add(json.dumps(setting))
    assert {len(settings) for settings in begun.values()} == {1}  # the same setting after every takeover
    assert len(curves.read(ledger.engine, "s")["value"]) == len(rows) * 4
    assert {entry["cause"] for entry in ledger.export()["failures"]} <= {"lost worker"}

    for name, budget in (("A/tune", TRIALS), ("B/tune", TRIALS), ("A/rerun", SEEDS), ("B/rerun", SEEDS)):
        study = plain_study(url, f"s/{name}")
        states = Counter(trial.state.name for trial in study.trials)
        assert states["COMPLETE"] == budget and states["RUNNING"] == 0 and set(states) <= {"COMPLETE", "FAIL"}
        if name.endswith("tune"):
            best = ledger.best(name[0])
            assert best is not None and study.best_params == best["setting"]


def test_a_stopped_process_gives_its_work_back_and_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    ledger = make(connect(url), trials=200)
    process = start(url, 0, tmp_path / "0.log")
    while not (tmp_path / "0.log").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    rows = ledger.export()["slots"]
    assert {row["state"] for row in rows} <= {"open", "done"} and ledger.export()["failures"] == []
    states = Counter(trial.state.name for trial in plain_study(url, "s/A/tune").trials)
    assert states["RUNNING"] == 0 and states["COMPLETE"] == sum(row["state"] == "done" for row in rows[:200])
