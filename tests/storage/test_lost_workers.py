"""Lost workers: retried without limit, unless one setting costs every worker that takes it, and only those."""

import errno
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from storage_study import make, outcomes

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Slot, Work, new_worker_id
from hpo.storage.ledger.worker_ids import has_ended

LOST = -1.0  # seconds of a lease that has run out at once, as that of a killed worker does after a while
NUMBERS = itertools.count()


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def lease(ledger: Ledger, seconds: float = 60.0, size: int = 4) -> tuple[str, Work] | None:
    """Work of a new worker on another machine, with a setting for every slot."""
    worker_id = f"elsewhere:{next(NUMBERS)}:0:x"
    work = ledger.lease(worker_id, size, seconds)
    if work is None:
        return None
    settings = [{"learning_rate": 0.001 * (1 + slot.slot)} for slot in work.slots if slot.setting is None]
    return worker_id, ledger.assign(worker_id, work, settings)


def states(ledger: Ledger) -> Counter[tuple[str, str | None]]:
    return Counter((row["state"], row["cause"]) for row in ledger.export()["slots"])


def is_killer(slot: Slot, work: Work) -> bool:
    return work.configuration == "A" and work.phase == "rerun" and slot.slot == 1


def test_workers_killed_again_and_again_cost_no_result(ledger: Ledger) -> None:
    chance = random.Random(0)
    held: list[tuple[str, Work]] = []
    for _ in range(400):
        ledger.reopen_lost()  # as every new worker does
        taken = lease(ledger, LOST if chance.random() < 0.6 else 60.0, size=2)
        if taken:
            held.append(taken)
        if len(held) > 3 or not taken:
            if not held:
                break
            worker_id, work = held.pop(0)  # a killed worker's lease may have been taken over by now
            ledger.finish(worker_id, outcomes(work) if ledger.extend_lease(worker_id, [work.slots[0].id], 60.0) else [])
    assert ledger.state() == "done" and set(states(ledger)) == {("done", None)}
    assert max(row["attempt"] for row in ledger.export()["slots"]) > 3


@pytest.mark.parametrize("kills", [3, 6, 30])
def test_one_worker_that_is_preempted_again_and_again_loses_nothing(ledger: Ledger, kills: int) -> None:
    for _ in range(kills):
        assert lease(ledger, LOST)
    while taken := lease(ledger):
        ledger.finish(taken[0], outcomes(taken[1]))
    assert set(states(ledger)) == {("done", None)}
    assert ledger.counts()["A"]["failures"]["lost worker"] >= kills


def killed_by_its_setting(ledger: Ledger) -> int:
    """Works through the study; each worker that takes one of the reruns is killed. Returns how many were."""
    lost = 0
    for _ in range(200):
        taken = lease(ledger, LOST)
        if taken is None:
            return lost
        worker_id, work = taken
        if any(is_killer(slot, work) for slot in work.slots):
            lost += 1
        else:
            ledger.extend_lease(worker_id, [slot.id for slot in work.slots], 60.0)
            ledger.finish(worker_id, outcomes(work))
    raise AssertionError("the setting is tried for ever")


def test_a_setting_that_kills_all_its_workers_and_only_those_is_set_aside(ledger: Ledger) -> None:
    assert killed_by_its_setting(ledger) == 5
    assert states(ledger) == {("done", None): 29, ("failed", "lost worker"): 1}
    messages = [entry["message"] for entry in ledger.export()["failures"]]
    assert sum("set aside" in message for message in messages) == 1


def test_a_new_worker_opens_what_failed_for_want_of_one(ledger: Ledger) -> None:
    killed_by_its_setting(ledger)
    ledger.reopen_lost()
    assert states(ledger) == {("done", None): 29, ("open", None): 1}
    assert killed_by_its_setting(ledger) == 1, "it is known"
    ledger.reopen_lost()
    taken = lease(ledger)
    assert taken is not None
    ledger.finish(taken[0], outcomes(taken[1]))
    assert set(states(ledger)) == {("done", None)}


def test_what_cannot_be_known_of_a_process_is_not_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_id = new_worker_id()
    with monkeypatch.context() as patch:  # as with hidepid=2, where another user's process has no folder in /proc

        def refuse(*_: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        patch.setattr(os, "kill", refuse)
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
        assert not has_ended(worker_id)
    with monkeypatch.context() as patch:  # no file descriptor is left
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "")))
        assert not has_ended(worker_id)
    host, pid, started, key = worker_id.split(":")
    assert has_ended(":".join((host, pid, str(int(started) - 1), key))), "the id belongs to a later process"
    child = os.fork()
    if not child:
        os._exit(0)
    ended = new_worker_id(child)
    os.waitpid(child, 0)
    assert has_ended(ended)


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="only Linux has such files")
def test_a_process_whose_name_is_no_text_is_present() -> None:
    program = "open('/proc/self/comm', 'wb').write(b'\\xff'); print(flush=True); input()"
    command = [sys.executable, "-S", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        worker_id = new_worker_id(process.pid)
        assert not has_ended(worker_id)
        process.kill()
        process.wait()
        assert has_ended(worker_id)
