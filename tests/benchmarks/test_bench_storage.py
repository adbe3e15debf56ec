"""The storage benchmark says what it measured and leaves nothing behind; what it works out is worked out right."""

import dataclasses
import itertools
import json
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import sqlalchemy as sa
from storage_study import finish_all, make, plain_names
from typer.testing import CliRunner

from hpo.bench import storage
from hpo.bench.capacity import MENDS, Costs, advice, table
from hpo.bench.clients import _client, _collected, race
from hpo.bench.storage import TRIAL, measure_storage
from hpo.bench.transactions import NAME, Stopwatch, finish, leased, outcomes, study
from hpo.cli import app
from hpo.errors import HpoError
from hpo.storage.database import connect
from hpo.storage.ledger import names
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.loop import LOOKING

STEPS = {"lease", "sample", "assign", "show", "renew", "finish", "show result", "release"}
COSTS = Costs(0.01, 0.004, 1e-6, 0.02, 0.05, 0.42, 0.003, 1000, connections=100, cores=4)


def test_a_small_benchmark(url: str) -> None:
    mine = make(connect(url), "mine")
    Mirror(mine).repair()
    lines: list[str] = []
    found = measure_storage(url, 4, 20, whole=30, crowd=60, clients=2, populations=2, training=1.0, show=lines.append)
    assert found == json.loads(json.dumps(found)) and found["database"].split()[0] in ("SQLite", "PostgreSQL")
    assert set(found["parts"]) == STEPS and all(took > 0 for took in found["parts"].values())
    assert found["ms_a_trial"] == pytest.approx(sum(found["parts"][step] for step in TRIAL))
    assert set(found["whole"]) == STEPS - {"sample"} | {"without curves"}
    assert all(0 < entry["statements"] <= 12 for entry in found["whole"].values())  # of 30 trials
    assert found["race"]["clients"] == 2 and found["race"]["ratio"] > 0
    assert [row["workers"] for row in found["workers"]] == [1, 10, 100, 1000] and found["advice"]
    text = "\n".join(lines)
    for words in (*STEPS, "one population of 30", "2 workers without training", "used up first", found["advice"][0]):
        assert words in text
    assert names(mine.engine) == ["mine"] and mine.state() == "work"
    assert {name.split("/")[0] for name in plain_names(url)} == {"mine"}


def test_its_own_database_is_a_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    measure = storage.measure_storage

    def note(url: str | None, *_: Any) -> dict[str, Any]:
        assert url is not None
        seen.append(Path(url.removeprefix("sqlite:///")))
        assert seen[0].parent.is_dir()
        return {"url": url}

    monkeypatch.setattr(storage, "measure_storage", note)
    assert measure(None)["url"].startswith("sqlite:///") and not seen[0].parent.exists()


def test_what_an_earlier_benchmark_left_is_deleted(url: str) -> None:
    engine = connect(url)
    make(engine, "mine")
    with pytest.raises(RuntimeError), study(engine, 30) as ledger:
        finish(ledger, Mirror(ledger), "x", 12)
        assert ledger.counts()["A"]["trials_done"] == 12
        raise RuntimeError("stopped")
    assert names(engine) == ["mine"] and plain_names(url) == []
    left = make(engine, NAME)  # as after a power cut
    finish_all(left)
    Mirror(left).repair()
    with study(engine, 30, seeds=3, tuned=False) as ledger:
        assert ledger.counts()["A"]["trials_done"] == 0 and ledger.counts()["A"]["reruns_total"] == 3
    assert names(engine) == ["mine"] and plain_names(url) == []


def test_a_list_of_rows_is_a_statement_a_row_where_it_travels(url: str) -> None:
    engine = connect(url)
    with Stopwatch(engine) as watch, engine.begin() as connection:
        connection.execute(sa.text("create table numbers (number integer)"))
        insert = sa.text("insert into numbers values (:number)")
        rows = [{"number": number} for number in range(7)]
        assert watch.time("insert", connection.execute, insert, rows) is not None
        watch.time("select", lambda: connection.execute(sa.text("select 1")))
    assert watch.statements == {"insert": [1 if engine.dialect.name == "sqlite" else 7], "select": [1]}
    assert set(watch.seconds) == {"insert", "select"}


def test_every_client_finishes_what_it_shall(url: str) -> None:
    found = race(url, clients=2, population=3, populations=2, rounds=1)
    assert found["bare"] > 0 and found["ratio"] == found["workers"] / found["bare"]
    assert names(connect(url)) == []


def test_bare_clients_and_workers_finish_trials_and_keep_none(url: str) -> None:
    results: SimpleQueue[Any] = SimpleQueue()
    with study(connect(url), 100, tuned=False) as ledger:
        finish(ledger, Mirror(ledger), "x", 10)
        _client(url, 3, 4, ["bare", "workers", "workers"], threading.Barrier(1), results)
        ends = results.get()
        assert [len(stretch) for stretch in ends] == [4, 4, 4]
        assert all(before < after for before, after in itertools.pairwise(itertools.chain(*ends)))
        counts = ledger.counts()["A"]
        assert counts["trials_done"] == 10 + 3 * 4 * 3 and counts["leased"] == 0
    _client(url, 3, 1, ["bare"], threading.Barrier(1), results)
    assert "there is no study" in results.get()


class Ended:
    """A process that was killed."""

    exitcode = -9


def test_a_client_that_fails_or_is_killed_ends_the_race() -> None:
    results: SimpleQueue[Any] = SimpleQueue()
    with pytest.raises(HpoError, match="was killed"):
        _collected([Ended()], results)
    results.put([[1.0]])
    results.put("OSError: no disk")
    with pytest.raises(HpoError, match="OSError: no disk"):
        _collected([Ended(), Ended()], results)
    results.put([[1.0]])
    assert _collected([Ended()], results) == [[[1.0]]]


def test_outcomes_have_curves_of_the_usual_size(url: str) -> None:
    with study(connect(url), 30) as ledger:
        first = outcomes(leased(ledger, "x", 4))
    assert len({outcome.value for outcome in first}) == 4
    assert [len(curve) for curve in first[0].curves.values()] == [30] * 5


def test_many_workers_worked_out_by_hand() -> None:
    one, thousand = table(COSTS, population=10, training=9.5, workers=(1, 1000))
    assert one["slots"] == 1000 and one["trials_per_second"] == pytest.approx(10 / 10)
    assert one["use"] == pytest.approx(
        {
            "study lock": 0.001,
            "trial numbers": 0.002,
            "server": (0.008 + 0.003 / 15) / 4,
            "connections": 0.01,
            "looks": 0,
        }
    )
    lease, cycle = 0.01 + 0.029, 10.029  # 30,000 slots: 29,000 more
    assert thousand["use"] == pytest.approx({
        "study lock": 1000 * lease / cycle,
        "trial numbers": 1000 * 0.02 / cycle,
        "server": 1000 * ((lease + 0.07) / cycle + 0.003 / 15) / 4,
        "connections": 10.0,
        "looks": 999 * min(0.004 + 0.029, LOOKING) / 4,
    })  # fmt: skip
    assert thousand["first"] == "connections"
    assert thousand["slots"] == 3000 and thousand["trials_per_second"] == pytest.approx(100 * 10 / (10 + 2000 * 1e-6))
    words = advice([one, thousand])
    assert words[0].startswith("100 workers use up the connections: ") and MENDS["connections"] in words[0]
    assert len(words) == 5 and "nothing is used up" in advice([one])[0]


def test_sqlite_has_one_writer() -> None:
    costs = dataclasses.replace(COSTS, slot=0.0, connections=None, cores=None)
    row = table(costs, population=10, training=9.5, workers=(500,))[0]
    assert row["use"] == pytest.approx({"writer": 500 * (0.08 / 10 + 0.003 / 15), "looks": 499 * 0.004})
    assert row["first"] == "writer" and row["trials_per_second"] == pytest.approx(500 / 4.1)
    assert advice([row])[0].startswith("122 workers use up the writer: ") and MENDS["writer"] in advice([row])[0]


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measured(*arguments: Any, **named: Any) -> dict[str, Any]:
        seen.append((arguments, named))
        return {"ms_a_trial": 1.0}

    monkeypatch.setattr(storage, "measure_storage", measured)
    options = [
        "--storage",
        "sqlite:///x.db",
        "--population",
        "8",
        "--finished",
        "50",
        "--clients",
        "2",
        "--training",
        "5",
    ]
    result = CliRunner().invoke(app, ["bench", "storage", *options, "--json"])
    assert result.exit_code == 0 and json.loads(result.output) == {"ms_a_trial": 1.0}
    assert seen == [(("sqlite:///x.db", 8, 50), {"clients": 2, "training": 5.0, "show": None})]
