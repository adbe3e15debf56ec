"""SIGTERM to a real worker whose database holds the connection and is silent, or which computes without a pause."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa
from postgres_server import PostgresServer

import hpo
from hpo.storage.database import connect
from hpo.storage.ledger import load_study

ROOT = Path(hpo.__file__).parents[1]
STUDY = '''
"""A study whose training takes long."""
import threading

import torch
from hpo import MLP, Configuration, Mnist1d, Regularizer, Study


def grads(objective, params, state, hyper):
    return objective.grad(params), state, {}


def loss(outputs, labels):
    PAUSE
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


STUDY = Study(
    data=Mnist1d(samples=400), model=MLP((40, 32, 10)), epochs=100000, trials=4, seeds=2, tuning_runs=1, loss=loss,
    baseline="A", configurations=(Configuration("A"), Configuration("B", regularizer=Regularizer("b", grads, {}))),
)
'''
# Ten seconds and more in one call, once the worker holds a lease.
LONG_OPERATION = """if any(t.name == "hpo-heartbeat" and t._target.__self__.work for t in threading.enumerate()):
        torch.linalg.eigvalsh(torch.ones(6000, 6000))"""


def start(folder: Path, url: str, pause: str) -> subprocess.Popen[str]:
    """A worker of the study, once it has a lease."""
    (folder / "studies").mkdir()
    (folder / "studies" / "slow.py").write_text(STUDY.replace("PAUSE", pause))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HPO_STORAGE": url, "HPO_CACHE": str(folder / "cache")}
    worker = subprocess.Popen(
        [sys.executable, "-m", "hpo", "worker", "slow"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    engine = connect(url)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            leased = sa.text("select count(*) from hpo_slots where state = 'leased' and setting is not null")
            if connection.scalar(leased):
                break
        time.sleep(0.2)
    else:
        worker.kill()
        raise AssertionError(worker.communicate())
    engine.dispose()
    time.sleep(2)
    return worker


def stop(worker: subprocess.Popen[str]) -> tuple[float, str]:
    """Sends SIGTERM; returns the seconds until the worker ended, and what it said."""
    sent = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 128 + signal.SIGTERM
    return time.monotonic() - sent, said


def backends(url: str) -> list[int]:
    with connect(url).connect() as connection:
        query = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        return list(connection.scalars(sa.text(query)))


def postmaster(server: PostgresServer) -> int:
    (file,) = server.folder.rglob("postmaster.pid")
    return int(file.read_text().split()[0])


def test_a_stopped_server_process_does_not_keep_a_worker(postgresql: PostgresServer, tmp_path: Path) -> None:
    url = postgresql.create()
    worker = start(tmp_path, url, "pass")
    stopped = [*backends(url), postmaster(postgresql)]  # and the one that would accept another connection
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        seconds, said = stop(worker)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert seconds < 5
    assert re.search(r"still leased; another worker takes over at \d\d:\d\d:\d\d", said)


def test_a_locked_table_does_not_keep_a_worker(postgresql: PostgresServer, tmp_path: Path) -> None:
    url = postgresql.create()
    worker = start(tmp_path, url, "pass")
    with connect(url).begin() as connection:
        connection.execute(sa.text("lock table hpo_slots in access exclusive mode"))
        seconds, said = stop(worker)
    assert seconds < 5
    assert "still leased" in said


def test_an_operation_that_does_not_return_does_not_keep_a_worker(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    worker = start(tmp_path, url, LONG_OPERATION)
    seconds, said = stop(worker)
    assert seconds < 5
    assert "still leased" not in said
    slots = load_study(connect(url), "slow").export()["slots"]
    assert {slot["state"] for slot in slots} == {"open"}
