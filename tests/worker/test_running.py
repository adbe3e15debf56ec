"""`hpo run` and its workers: their messages are shown, and it ends when they end."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from storage_study import finish_all, make

from hpo.errors import HpoError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.worker.processes import describe_failure, message_line, run_workers


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(connect(f"sqlite:///{tmp_path}/t.db"))


def worker(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def sends(kind: str, end: str = "", **details: Any) -> list[str]:
    """A worker that sends one message, then runs more code."""
    return worker(f"print({message_line(kind, **details)!r}, flush=True){end}")


def test_messages_are_shown_with_their_worker(ledger: Ledger) -> None:
    finish_all(ledger)
    shown: list[Any] = []
    commands = [
        sends("warning", text="one"),
        worker("print('the user prints'); print('[1, 2]')"),
        worker('import os; print(\'{"hpo_message": "warning", "text": "\' + os.environ[\'GIVEN\'] + \'"}\')'),
    ]
    run_workers(ledger, commands, {"GIVEN": "three"}, lambda number, message: shown.append((number, message)))
    assert sorted(shown, key=lambda entry: (entry[0], str(entry[1]))) == [
        (0, {"kind": "warning", "text": "one"}),
        (1, {"kind": "print", "text": "[1, 2]"}),
        (1, {"kind": "print", "text": "the user prints"}),
        (2, {"kind": "warning", "text": "three"}),
    ]


def test_an_error_message_is_shown_and_not_repeated_at_the_end(ledger: Ledger) -> None:
    shown: list[str] = []
    failing = sends("error", "; raise SystemExit(1)", text="no shape")
    with pytest.raises(HpoError, match="fix the error above"):
        run_workers(ledger, [failing] * 2, {}, lambda _, message: shown.append(message["text"]))
    assert shown == ["no shape"] * 2


def test_a_message_after_a_print_without_a_newline_is_shown(ledger: Ledger) -> None:
    shown: list[Any] = []
    message = {"kind": "error", "text": 'no {"hpo_message": "x"} here'}
    line = message_line(**message)
    failing = worker(f"print('loading … ', end=''); print({line!r}, flush=True); raise SystemExit(1)")
    with pytest.raises(HpoError, match="fix the error above"):
        run_workers(ledger, [failing], {}, lambda _, message: shown.append(message))
    assert shown == [{"kind": "print", "text": "loading … "}, message]


@pytest.mark.parametrize(
    "text",
    ["9" * 10_000, '{"hpo_message": ', '{"hpo_message": }', "[1]", '{"a": {"hpo_message": 1}}', '{"kind": "error"}'],
)
def test_what_user_code_prints_is_no_message(ledger: Ledger, text: str) -> None:
    finish_all(ledger)
    shown: list[Any] = []
    run_workers(ledger, [worker(f"print({text!r}); print('end')")], {}, lambda _, message: shown.append(message))
    assert shown == [{"kind": "print", "text": text}, {"kind": "print", "text": "end"}]


def test_bytes_that_are_no_text_block_no_worker(ledger: Ledger) -> None:
    """The worker writes more than a pipe holds: it would wait for ever for a reader that has failed."""
    finish_all(ledger)
    shown: list[Any] = []
    program = "import os; os.write(1, b'a\\xffb\\n'); [print('x' * 999) for _ in range(500)]"
    run_workers(ledger, [worker(program)], {}, lambda _, message: shown.append(message["text"]))
    assert shown[0].startswith("a") and shown[0].endswith("b") and shown[1:] == ["x" * 999] * 500


def test_workers_that_end_without_a_message(ledger: Ledger) -> None:
    killed = worker(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    for commands, words in (
        ([worker("0"), worker("raise SystemExit(3)")], r"exit codes 0, 3"),
        ([killed], "1 of 1 were killed"),
    ):
        with pytest.raises(HpoError, match=words):
            run_workers(ledger, commands, {}, lambda *_: None)


def test_a_worker_that_fails_after_the_study_is_done_is_no_failure(ledger: Ledger) -> None:
    finish_all(ledger)
    run_workers(ledger, [worker("raise SystemExit(3)")], {}, lambda *_: None)


@pytest.mark.parametrize(
    ("codes", "error_shown", "words"),
    [
        ([-9, 1], True, "fix the error above"),
        ([0, -9], False, "1 of 2 were killed"),
        ([7], False, "(exit code 7)"),
    ],
)
def test_the_failure_says_why_and_what_to_do(codes: list[int], error_shown: bool, words: str) -> None:
    assert words in describe_failure(codes, error_shown)
