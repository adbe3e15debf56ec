"""The same command gives the same files, for any number of workers and when one is lost: only seconds differ."""

import csv
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.acceptance.test_end_to_end import STUDY, start

# Three tuning runs with batches of 10 and 4, in populations of up to 4.
PLANNED = ("--trials", "14", "--tuning-runs", "3", "--epochs", "2", "--population", "4")
TIMES = {"seconds"}
TABLES = {
    "trials.csv": TIMES,
    "reruns.csv": TIMES,
    "curves.csv": set[str](),
    "trial_curves.csv": set[str](),
}


def holder(database: Path) -> int:
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


def made(folder: Path, workers: int, kill: bool = False) -> dict[str, list[list[str]]]:
    """Runs the study in a folder of its own; the tables of its report, without times."""
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / "small.py").write_text(STUDY)
    process = start(folder, "run", "small", *PLANNED, "--workers", str(workers))
    if kill:
        os.kill(holder(folder / "hpo.db"), signal.SIGKILL)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, output + errors
    if kill:
        with closing(sqlite3.connect(folder / "hpo.db")) as connection:
            causes = connection.execute("select distinct cause from hpo_failures").fetchall()
        assert causes == [("lost worker",)]
    return {name: read(folder / "reports" / "small" / name, times) for name, times in TABLES.items()}


def read(path: Path, times: set[str]) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert times <= set(header) and len(rows) > 5
    kept = [place for place, name in enumerate(header) if name not in times]
    return [[row[place] for place in kept] for row in (header, *rows)]


def test_the_files_depend_neither_on_the_workers_nor_on_a_loss(tmp_path: Path) -> None:
    alone = made(tmp_path / "alone", workers=1)
    trials = alone["trials.csv"]
    name, rate = trials[0].index("configuration"), trials[0].index("setting/learning_rate")
    assert len({(row[name], row[rate]) for row in trials[1:]}) == len(trials) - 1 == 2 * 14 * 3
    assert made(tmp_path / "several", workers=3, kill=True) == alone
