"""Whole studies are deleted, renamed, copied, merged, exported and imported, on both databases; also if killed."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from command_line import CommandLine
from fork_server import ForkServer
from optuna.storages import RDBStorage
from postgres_server import PostgresServer
from storage_study import RATE, definition, finish_all, kept, known_for_long, plain_names

from hpo import housekeeping
from hpo.errors import UsageError
from hpo.report.reproduction import steps
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study, names, new_worker_id, open_study
from hpo.storage.optuna.mirror import Mirror
from hpo.study.definition import digest

NUMBERS = {"trials": 6, "seeds": 4, "tuning_runs": 2}
DATA = {"shapes": [1, 2], "labels": "x"}
LOST = ("id", "slot_id", "study_id", "trial", "training")
EVERY = ["sqlite to sqlite", "sqlite to postgresql", "postgresql to sqlite", "postgresql to postgresql"]


def study(url: str, name: str = "s", *extra: str, data: Any = DATA, **changes: Any) -> Ledger:
    """A study in the database with configurations A, B and `extra`; nothing is done."""
    plain = definition(**changes)
    entries = [{"name": entry, "trials": None, "space": {"learning_rate": RATE}} for entry in extra]
    described = {**plain, "configurations": [*plain["configurations"], *entries], "baseline": "A", "margin": 0.01}
    engine = connect(url)
    text = {"title": "t", "hypothesis": "", "command": f"hpo run {name}"}
    ledger = open_study(engine, name, described, digest(described), NUMBERS, text, {"loss": "aa"}, ())
    ledger.register("host:1:2", "cpu", {"python": "3", "data": data})
    return known_for_long(ledger)


def finished(url: str, name: str = "s", *extra: str, **changes: Any) -> Ledger:
    ledger = study(url, name, *extra, **changes)
    work = ledger.lease("host:1:2", 2)
    assert work is not None
    ledger.fail("host:1:2", work.slots[:1], "exception", "RuntimeError: no \x01 ü")
    ledger.release("host:1:2")
    finish_all(ledger, "host:1:2")
    Mirror(ledger).repair()
    return ledger


def content(url: str, name: str = "s") -> dict[str, Any]:
    """Everything about a study but ids; failures and curves by the slot that they belong to."""
    ledger = load_study(connect(url), name)
    export, columns = ledger.export(), curves.read(ledger.engine, name)
    keys = {
        row["id"]: tuple(row[key] for key in ("configuration", "tuning_run", "phase", "round", "slot"))
        for row in export["slots"]
    }
    without = [
        [{k: v for k, v in row.items() if k not in LOST} for row in export[part]] for part in ("slots", "workers")
    ]
    failures = [(keys[row["slot_id"]], {k: v for k, v in row.items() if k not in LOST}) for row in export["failures"]]
    points = [(keys[s], *rest) for s, *rest in zip(*(column.tolist() for column in columns.values()), strict=True)]
    plain = {key: value for key, value in export["study"].items() if key not in ("name", "text")}
    return {"study": plain, "slots": without[0], "workers": without[1], "failures": failures, "curves": sorted(points)}


def shown(url: str, name: str = "s") -> dict[str, list[tuple[Any, ...]]]:
    """What a user of plain Optuna sees: (state, value, parameters, curve) of every trial, by study."""
    studies = {entry: optuna.load_study(study_name=entry, storage=kept(url)) for entry in plain_names(url)}
    return {
        entry.removeprefix(f"{name}/"): sorted(
            (t.state.name, t.value, sorted(t.params.items()), sorted(t.intermediate_values.items()))
            for t in one.trials
            if t.state.name != "FAIL"
        )
        for entry, one in studies.items()
        if entry.startswith(f"{name}/") and not entry.endswith("/report")
    }


@pytest.fixture(params=EVERY)
def two(request: pytest.FixtureRequest, tmp_path: Path, postgresql: PostgresServer) -> Any:
    """The URLs of two databases."""
    kinds = request.param.split(" to ")
    urls = [f"sqlite:///{tmp_path}/{n}.db" if kind == "sqlite" else postgresql.create() for n, kind in enumerate(kinds)]
    yield urls
    for url, kind in zip(urls, kinds, strict=True):
        if kind == "postgresql":
            postgresql.drop(url)


def test_a_copy_has_everything_and_is_shown_in_optuna(two: list[str]) -> None:
    one, other = two
    finished(one)
    before, pictures = content(one), shown(one)
    study(other, "neighbour")
    ledger = housekeeping.copy(one, "s", other, "copy")
    assert content(other, "copy") == before == content(one)
    assert shown(other, "copy") == pictures and len(pictures) == 8 and all(pictures.values())
    assert ledger.state() == "done" and Mirror(ledger).repair() == 0
    with pytest.raises(UsageError, match="already"):
        housekeeping.copy(one, "s", other, "copy")


def test_a_file_brings_a_study_to_another_database(two: list[str], tmp_path: Path) -> None:
    one, other = two
    finished(one)
    before = content(one)
    housekeeping.export_file(one, "s", tmp_path / "out" / "s.hpo")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s.hpo"]
    housekeeping.delete(one, "s")
    housekeeping.import_file(tmp_path / "out" / "s.hpo", other)
    assert content(other) == before and len(shown(other)) == 8
    with pytest.raises(UsageError, match="exists"):
        housekeeping.export_file(other, "s", tmp_path / "out" / "s.hpo")


def test_an_unfinished_study_continues_after_its_copy(two: list[str]) -> None:
    one, other = two
    first = study(one)
    finish_all(first, until="rerun")
    copied = known_for_long(housekeeping.copy(one, "s", other))
    if one != other:
        finish_all(copied)
        finish_all(first)
        drop = ("started", "finished", "worker_id", "attempt")
        both = [[{k: v for k, v in row.items() if k not in drop} for row in content(u)["slots"]] for u in two]
        assert both[0] == both[1]


def test_renaming_renames_what_optuna_shows(url: str) -> None:
    finished(url)
    before, pictures = content(url), shown(url)
    housekeeping.rename(url, "s", "new")
    assert names(connect(url)) == ["new"] and content(url, "new") == before
    assert load_study(connect(url), "new").text["command"] == "hpo run s --name new"  # there is no file of that name
    assert shown(url, "new") == pictures and not shown(url)
    assert Mirror(load_study(connect(url), "new")).repair() == 0
    study(url, "s")
    for wrong in ("s", "compare-x", "a/b"):
        with pytest.raises(UsageError):
            housekeeping.rename(url, "new", wrong)


def test_deleting_takes_optunas_studies_with_it_and_nothing_else(url: str) -> None:
    finished(url)
    finished(url, "s-other")
    other, pictures = content(url, "s-other"), shown(url, "s-other")
    assert housekeeping.contents(url, "s").startswith("24 trials and 8 reruns with their curves")
    housekeeping.delete(url, "s")
    assert names(connect(url)) == ["s-other"] and not shown(url)
    assert content(url, "s-other") == other and shown(url, "s-other") == pictures
    with pytest.raises(UsageError, match="no study"):
        housekeeping.delete(url, "s")


def test_an_optuna_study_that_is_deleted_meanwhile_is_no_obstacle(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody does in Optuna's dashboard."""
    finished(url)
    read = RDBStorage.get_all_studies

    def read_and_delete(storage: RDBStorage) -> Any:
        studies = read(storage)
        if studies:
            kept(url).delete_study(studies[-1]._study_id)
        return studies

    monkeypatch.setattr(RDBStorage, "get_all_studies", read_and_delete)
    housekeeping.delete(url, "s")
    monkeypatch.undo()
    assert names(connect(url)) == [] and plain_names(url) == []


def test_two_processes_that_delete_the_same_study_leave_nothing(
    url: str, tmp_path: Path, fork_server: ForkServer
) -> None:
    finished(url)
    hpo = CommandLine(fork_server, tmp_path / "work", HPO_STORAGE=url)
    children = [hpo.start("delete", "s", "--yes") for _ in range(3)]
    codes = [child.wait(60) for child in children]
    for child, code in zip(children, codes, strict=True):
        assert child.text().count("\n") == 1 and (code == 0 or "no study 's'" in child.text()), child.text()
    assert 0 in codes and names(connect(url)) == [] and plain_names(url) == []


def test_merging_adds_configurations_with_their_results(two: list[str]) -> None:
    one, other = two
    finished(one)
    finished(other, "t", "C")
    before, theirs = content(one), content(other, "t")
    assert housekeeping.merge(one, "s", "t", other) == ["C"]
    after = content(one)
    of = {
        name: [row for row in after["slots"] if (row["configuration"] == "C") == (name == "C")] for name in ("C", "AB")
    }
    assert of["AB"] == before["slots"]
    assert of["C"] == [row for row in theirs["slots"] if row["configuration"] == "C"]
    assert [point for point in after["curves"] if point[0][0] == "C"] == [
        point for point in theirs["curves"] if point[0][0] == "C"
    ]
    ledger = load_study(connect(one), "s")
    assert ledger.configurations == ["A", "B", "C"] and ledger.digest == digest(ledger.definition)
    assert after["study"]["notes"][-1]["added"] == ["C"] and after["study"]["notes"][-1]["from"] == "t"
    [_, step] = steps(ledger.export()["study"])
    assert "run study t" in step and "hpo merge s t" in step
    assert ledger.state() == "done"
    assert len(shown(one)) == 12 and content(other, "t") == theirs
    assert housekeeping.merge(one, "s", "t", other) == [], "repeating it adds nothing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"epochs": 3}, "epochs"), ({"high": 0.2}, "configuration 'A' differs"), ({"data": {"shapes": [9]}}, "shapes")],
)
def test_studies_that_differ_are_not_merged(tmp_path: Path, changes: Any, said: str) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    finished(url)
    finished(url, "t", "C", **changes)
    before = content(url)
    with pytest.raises(UsageError, match=said):
        housekeeping.merge(url, "s", "t")
    assert content(url) == before


def test_studies_whose_groups_have_another_order_are_not_merged(tmp_path: Path) -> None:
    url, groups = f"sqlite:///{tmp_path}/t.db", {"*bias": {"learning_rate": 0.1}, "head*": {"learning_rate": 10.0}}
    for name, extra, ordered in (("s", "B", groups), ("t", "C", dict(reversed(groups.items())))):
        entry = {"name": "A", "trials": None, "groups": ordered, "space": {"learning_rate": RATE}}
        study(url, name, extra, configurations=[entry])
    with pytest.raises(UsageError, match="order of groups"):
        housekeeping.merge(url, "s", "t")


ACTIONS: dict[str, Callable[[str, str], tuple[Any, ...]]] = {
    "delete": lambda url, _: (url, "s"),
    "rename": lambda url, _: (url, "s", "new"),
    "copy": lambda url, other: (url, "s", other, "copy"),
    "merge": lambda url, _: (url, "t", "s"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_leased_studies_are_left_alone_and_the_worker_is_named(url: str, tmp_path: Path, action: str) -> None:
    ledger, worker = study(url), new_worker_id()
    finished(url, "t")
    assert ledger.lease(worker, 2) is not None
    process = worker.split(":")[1]
    with pytest.raises(UsageError, match=f"process {process} on "):
        getattr(housekeeping, action)(*ACTIONS[action](url, f"sqlite:///{tmp_path}/other.db"))
    ledger.release(worker)
    getattr(housekeeping, action)(*ACTIONS[action](url, f"sqlite:///{tmp_path}/other.db"))


def test_the_lease_of_a_worker_that_was_killed_does_not_count(url: str) -> None:
    ledger = study(url)
    assert ledger.lease("host:1:2", 2, seconds=0.01) is not None
    time.sleep(0.05)
    copied = housekeeping.copy(url, "s", url, "copy")
    assert {row["state"] for row in copied.export()["slots"]} == {"open"}
    finish_all(known_for_long(copied))


@pytest.mark.parametrize("action", ["delete", "rename", "copy", "merge"])
def test_a_process_that_is_killed_leaves_the_study_whole(
    fork_server: ForkServer, url: str, tmp_path: Path, action: str
) -> None:
    """Killed before every statement in turn, until a call ends undisturbed."""
    other = f"sqlite:///{tmp_path}/other.db"
    statement = killed = 0
    finished(url)
    target = finished(url, "t", "C") if action == "merge" else None
    before = {"s": content(url)} | ({"t": content(url, "t")} if target else {})
    while True:
        statement += 1 if statement < 12 else 7
        arguments = ACTIONS[action](url, other)
        if action == "merge":
            arguments = (url, "s", "t")
        child = fork_server.start("killed_call:call", action, statement, *arguments, output=tmp_path / "o.txt")
        code = child.wait(60)
        present = names(connect(url))
        for name in present:
            now, key = content(url, name), "s" if name == "new" else name
            merged = action == "merge" and key == "s" and len(now["slots"]) > len(before["s"]["slots"])
            assert now == before[key] or merged, f"{name} after {statement} statements"
        if code == 0:
            break
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), child.text()
        killed += 1
        done = (
            (action == "delete" and not present)
            or present == ["new"]
            or (action == "copy" and names(connect(other)) == ["copy"])
        )
        if done:
            break
    assert killed > 3
    if action == "copy":
        assert content(other, "copy") == before["s"]
        Mirror(load_study(connect(other), "copy")).repair()
        assert len(shown(other, "copy")) == 8
    if action == "merge":
        housekeeping.merge(url, "s", "t")
        assert len(content(url)["slots"]) == len(before["t"]["slots"])
    if action == "rename":
        assert len(shown(url, "new")) == 8 and not shown(url)
