"""Every benchmark program runs on a small study, prints what it measured and leaves nothing in the database."""

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from storage_study import make, plain_names

from hpo.bench import published
from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import names

PROGRAMS = Path(__file__).parent


def run(program: str, url: str, *options: str, keeps: Collection[str] = ()) -> Any:
    """What the program prints as JSON; another study in the database must stay as it is."""
    ledger = make(connect(url), "other")
    command = [sys.executable, str(PROGRAMS / program), "--storage", url, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROGRAMS.parents[1])
    assert done.returncode == 0, done.stderr
    assert set(names(ledger.engine)) == {"other", *keeps} and ledger.state() == "work"
    assert {name.split("/")[0] for name in plain_names(url)} <= {"other", *keeps}
    return json.loads(done.stdout)


def test_storage(url: str) -> None:
    sizes = ["--population", "4", "--finished", "20", "--large-population", "30", "--large-study", "60"]
    result = run("storage.py", url, *sizes, "--training", "1")
    steps = {"lease", "sample", "assign", "begin", "extend", "finish", "finish in Optuna", "release"}
    assert set(result["steps"]) == steps and 0 < result["ms_a_trial"] < sum(result["steps"].values())
    large = result["large_population"]["steps"]
    assert set(large) == steps - {"sample"}
    assert all(0 < step["statements"] < 30 for step in large.values()), "a statement for each of 30 trials"
    assert [row["workers"] for row in result["workers"]] == [1, 10, 100, 1000]
    one, _, _, thousand = result["workers"]
    first = thousand["first"]
    assert thousand["use"][first] == max(thousand["use"].values()) > 10 * one["use"][first]
    assert one["trials_per_second"] > 0


def test_throughput(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    result = run("throughput.py", url, "--clients", "2", "--population", "3", "--populations", "2", "--rounds", "1")
    assert result["workers"] > 0 and result["ratio"] == result["workers"] / result["baseline"]


def test_overheads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    sizes = ["--finished", "20", "--suggested", "6", "--runs", "4", "--trials", "40", "--reruns", "8"]
    result = run("overheads.py", url, "--repetitions", "1", *sizes)
    assert set(result["seconds"]) == {"suggest", "finish", "curves written", "curves read", "report"}
    assert all(taken > 0 for taken in result["seconds"].values()) and 50 < result["report_mib"] < 1000


@pytest.mark.usefixtures("browser")
def test_dashboard_load(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    sizes = ["--repetitions", "1", "--turns", "1", "--seconds", "1", "--trials", "24", "--reruns", "10"]
    result = run("dashboard_load.py", url, *sizes, "--warmup", "0.5", keeps={"large", "busy"})
    assert all(taken > 0 for taken in result["pages"].values()) and len(result["pages"]) == 5
    rates = {"with pages", "without pages"}  # a busy machine may finish no rerun within a second
    assert set(result["load"]) == rates | {"median response", "slowest response"}
    assert 0 < result["load"]["median response"] <= result["load"]["slowest response"] and 50 < result["peak_mb"] < 2000


def test_published_protocol_by_turns_with_a_script_and_another_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPO_STORAGE", f"sqlite:///{tmp_path}/other.db")
    rows: list[dict[str, Any]] = []
    small = published.Protocol(trials=2, seeds=2, tuning_epochs=1, epochs=1)
    results = [published.measure(small, 2, against, 1, rows.append) for against in (None, PROGRAMS.parents[1])]
    for result, row in zip(results, rows, strict=True):
        assert result["rows"] == [row] and result["ratio"] == row["other"] / row["hpo"] > 0 and 100 < row["mib"] < 1000
    assert not list(tmp_path.iterdir()), "the studies are in the user's database"
    with pytest.raises(UsageError, match="checkout"):
        published.measure(small, 1, tmp_path, 1, rows.append)
