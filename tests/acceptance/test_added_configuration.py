"""A configuration is added to a finished study, and to one that a worker is training, by the real command."""

import csv
import sqlite3
import time
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ForkServer

from hpo import results

HEAD = """
from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, log_range

{code}
STUDY = Study(
    data=Mnist1d(samples=400), model=MLP((40, 8, 10)), baseline="AdamW", epochs={epochs}, trials=4, seeds=3,
    tuning_runs=3, configurations=(Configuration("AdamW"), {others}),
)
"""
CLIPPED = """
def grads(objective, params, state, hyper):
    gradient = objective.grad(params)
    return {name: hyper["share"] * leaf for name, leaf in gradient.items()}, state, {}
"""
SAM = 'Configuration("SAM", regularizer="sam")'
OWN = 'Configuration("Own", regularizer=Regularizer("own", grads, {"share": log_range(0.1, 1)}), against="SAM")'


@pytest.fixture
def hpo(fork_server: ForkServer, tmp_path: Path, url: str) -> CommandLine:
    return CommandLine(fork_server, tmp_path / "project", HPO_STORAGE=url, HPO_CACHE=str(tmp_path / "cache"))


def write(hpo: CommandLine, code: str, *others: str, epochs: int = 2) -> None:
    hpo.write_study("s", HEAD.format(code=code, others=", ".join(others), epochs=epochs))


def tables(hpo: CommandLine) -> dict[str, str]:
    folder = hpo.folder / "reports" / "s"
    return {name: (folder / f"{name}.csv").read_text() for name in ("trials", "reruns")}


def test_a_finished_study_takes_a_further_configuration(hpo: CommandLine) -> None:
    write(hpo, "", SAM)
    hpo.run("run", "s", "--workers", "1")
    before = {name: text.splitlines() for name, text in tables(hpo).items()}
    write(hpo, CLIPPED, SAM, OWN)
    second = hpo.start("run", "s", "--workers", "1")
    hpo.finish(second)
    assert "Own added to s" in second.text()
    for name, text in tables(hpo).items():
        rows = list(csv.DictReader(text.splitlines()))
        old = list(csv.DictReader(before[name]))
        kept = [{key: row[key] for key in old[0]} for row in rows if row["configuration"] != "Own"]
        assert kept == old, "nothing old was trained again"
        added = [row for row in rows if row["configuration"] == "Own"]
        assert len(added) == {"trials": 12, "reruns": 3}[name] and {row["state"] for row in added} == {"done"}
        of_sam = [row for row in rows if row["configuration"] == "SAM"]
        assert [(row["seed"], row["tuning_run"]) for row in added] == [(r["seed"], r["tuning_run"]) for r in of_sam]
    verdicts = results("s", hpo.environment["HPO_STORAGE"]).verdicts
    assert list(zip(verdicts.configuration, verdicts.against, strict=True)) == [
        ("SAM", "AdamW"), ("Own", "AdamW"), ("Own", "SAM"),
    ]  # fmt: skip
    text = (hpo.folder / "reports" / "s" / "README.md").read_text()
    assert f"Configuration Own was added to the study on {time.strftime('%Y-%m-%d', time.gmtime())}" in text
    assert "after a report" in text and "m = 3" in text
    write(hpo, CLIPPED, SAM, OWN, epochs=3)
    assert "only configurations can be added" in hpo.run("run", "s", code=2)
    write(hpo, "", SAM)
    assert "add configuration Own to the study file" in hpo.run("run", "s", code=2)
    assert tables(hpo)["trials"].count("Own") == 12


def test_workers_with_the_old_file_finish_while_a_configuration_is_added(hpo: CommandLine) -> None:
    write(hpo, "", SAM, epochs=40)
    worker = hpo.start("worker", "s")
    while not _leased(hpo):
        assert worker.poll() is None, worker.text()
        time.sleep(0.05)
    write(hpo, CLIPPED, SAM, OWN, epochs=40)
    hpo.run("run", "s", "--workers", "1")
    hpo.finish(worker)
    table = results("s", hpo.environment["HPO_STORAGE"])
    assert set(table.trials.state) == set(table.reruns.state) == {"done"}
    assert len(table.trials) == 36 and len(table.reruns) == 9 and not table.reruns.superseded.any()


def _leased(hpo: CommandLine) -> bool:
    try:
        return "leased" in set(results("s", hpo.environment["HPO_STORAGE"]).trials.state)
    except Exception as error:  # the worker has not created the study yet
        assert not isinstance(error, sqlite3.ProgrammingError)
        return False
