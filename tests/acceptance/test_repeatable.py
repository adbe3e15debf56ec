"""The same command gives the same files, for any number of workers and when one is lost: only seconds differ."""

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ROOT, ForkServer

from tests.acceptance.test_end_to_end import STUDY

# Three tuning runs with batches of 10 and 4, in populations of up to 4.
PLANNED = ("--trials", "14", "--tuning-runs", "3", "--epochs", "2", "--population", "4")
TIMES = {"seconds"}
TABLES = {
    "trials.csv": TIMES,
    "reruns.csv": TIMES,
    "curves.csv": set[str](),
    "trial_curves.csv": set[str](),
}


# Settings of different shapes in one batch, a sampler that keeps a state, and a setting to try first.
MIXED = """
'''A study of choices.'''
import functools
import optuna
from hpo import MLP, Configuration, Mnist1d, Study, choice, linear_range, when

def network(width=8, dropout=0.0):
    return MLP((40, width, 10), dropout=dropout)()

STUDY = Study(
    data=Mnist1d(samples=200), model=network, baseline="A", batch_size=16, seeds=3, margin=0.5,
    sampler=functools.partial(optuna.samplers.NSGAIISampler, population_size=4),
    configurations=(
        Configuration("A", space={"batch_size": choice(8, 16, 32), "model.width": choice(4, 8)}),
        Configuration(
            "B", optimizer="sgd", first=[{"learning_rate": 0.1, "schedule.warmup_epochs": 1}],
            space={
                "label_smoothing": choice(0.0, 0.1), "schedule.warmup_epochs": choice(0, 1),
                "momentum": when("label_smoothing", 0.1, linear_range(0.5, 0.9), otherwise=0.9),
            },
        ),
    ),
)
"""


def lease_holder(database: Path) -> int:
    """The process that holds a trial, as soon as there is one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
                query = "select worker_id from hpo_slots where state = 'leased' and setting is not null"
                if row := connection.execute(query).fetchone():
                    return int(row[0].split(":")[1])
        except sqlite3.OperationalError:  # not made yet
            pass
        time.sleep(0.01)
    raise AssertionError("no worker began")


def lose_a_worker(folder: Path, environment: dict[str, str]) -> None:
    """Runs the study with three worker processes; the first one that trains is killed."""
    command = [sys.executable, "-m", "hpo", "run", "small", *PLANNED, "--workers", "3"]
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.kill(lease_holder(folder / "hpo.db"), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    with closing(sqlite3.connect(folder / "hpo.db")) as connection:
        assert connection.execute("select distinct cause from hpo_failures").fetchall() == [("lost worker",)]


def read_tables(folder: Path) -> dict[str, list[list[str]]]:
    return {name: read(folder / "reports" / "small" / name, times) for name, times in TABLES.items()}


def read(path: Path, times: set[str]) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert times <= set(header) and len(rows) > 5
    kept = [place for place, name in enumerate(header) if name not in times]
    return [[row[place] for place in kept] for row in (header, *rows)]


@pytest.mark.parametrize("study", [STUDY, MIXED], ids=["ranges", "choices"])
def test_the_files_depend_neither_on_the_workers_nor_on_a_loss(
    fork_server: ForkServer, tmp_path: Path, study: str
) -> None:
    tables = []
    for name in ("one worker", "three workers"):
        environment = {"HPO_CACHE": str(tmp_path / "cache"), "HPO_STORAGE": "sqlite:///hpo.db", "PYTHONPATH": str(ROOT)}
        hpo = CommandLine(fork_server, tmp_path / name, **environment)
        hpo.write_study("small", study)
        if name == "one worker":
            hpo.run("run", "small", *PLANNED, "--workers", "1")
        else:
            lose_a_worker(hpo.folder, environment)
        tables.append(read_tables(hpo.folder))
    trials = tables[0]["trials.csv"]
    name, rate = trials[0].index("configuration"), trials[0].index("setting/learning_rate")
    distinct = len({(row[name], row[rate]) for row in trials[1:]})
    assert len(trials) - 1 == 2 * 14 * 3
    # The sampler of the second study is genetic: it takes some values of earlier trials.
    assert distinct == 2 * 14 * 3 if study is STUDY else distinct > 14 * 3
    assert tables[1] == tables[0]
