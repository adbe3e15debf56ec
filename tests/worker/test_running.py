"""`hpo run` and its workers: what they say reaches the display, and how it ends when they do."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from storage_study import finish_all, make

from hpo.errors import HpoError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.worker.processes import ending, run_workers


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(connect(f"sqlite:///{tmp_path}/t.db"))


def worker(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def says(code: int, **message: Any) -> list[str]:
    return worker(f"print({json.dumps(message)!r}, flush=True); raise SystemExit({code})")


def test_messages_reach_the_display_with_their_worker(ledger: Ledger) -> None:
    finish_all(ledger)
    heard: list[Any] = []
    commands = [
        says(0, kind="warning", text="one"),
        worker("print('the user prints'); print('[1, 2]')"),
        worker('import os; print(\'{"kind": "warning", "text": "\' + os.environ[\'GIVEN\'] + \'"}\')'),
    ]
    run_workers(ledger, commands, {"GIVEN": "three"}, lambda number, message: heard.append((number, message)))
    assert sorted(heard, key=lambda entry: (entry[0], str(entry[1]))) == [
        (0, {"kind": "warning", "text": "one"}),
        (1, {"kind": "print", "text": "[1, 2]"}),
        (1, {"kind": "print", "text": "the user prints"}),
        (2, {"kind": "warning", "text": "three"}),
    ]


def test_an_error_is_not_said_again_at_the_end(ledger: Ledger) -> None:
    heard: list[str] = []
    with pytest.raises(HpoError) as caught:
        run_workers(
            ledger, [says(1, kind="error", text="no shape")] * 2, {}, lambda _, message: heard.append(message["text"])
        )
    assert heard == ["no shape"] * 2
    assert str(caught.value) == (
        "the workers ended before the study was done; mend what is said above, then the same command goes on from here"
    )


def test_workers_that_end_without_a_word(ledger: Ledger) -> None:
    with pytest.raises(HpoError, match=r"before the study was done \(exit codes 0, 3\); the same command goes on"):
        run_workers(ledger, [worker("0"), worker("raise SystemExit(3)")], {}, lambda *_: None)
    killed = worker(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    with pytest.raises(HpoError, match=r"1 of 1 were killed, as a system does that runs out of memory"):
        run_workers(ledger, [killed], {}, lambda *_: None)


def test_a_worker_that_fails_beside_a_study_that_is_done_is_no_failure(ledger: Ledger) -> None:
    finish_all(ledger)
    run_workers(ledger, [worker("raise SystemExit(3)")], {}, lambda *_: None)


def test_endings_say_what_to_do() -> None:
    assert "mend what is said above" in ending([-9, 1], said=True)
    assert "smaller --population or --workers" in ending([0, -9], said=False)
    assert "(exit code 7)" in ending([7], said=False)
