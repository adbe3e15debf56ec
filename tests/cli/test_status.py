"""The progress of studies: numbers and tables of hand-made ledgers, and the watch that redraws them."""

import io
import json
import os
import re
import statistics
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from storage_study import finish_all, make, outcomes

from hpo.cli.terminal.messages import error_line, user_traceback
from hpo.cli.terminal.status import read_status, status_text
from hpo.cli.terminal.watch import watch_status
from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, new_worker_id
from hpo.storage.ledger.stored_study import LEASE
from hpo.trials import CAUSES

TRACE = 'Traceback\n  File "/home/me/studies/mine.py", line 7, in grads\n    1 / 0\nZeroDivisionError: division by zero'


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """An empty study in SQLite, or in the databases of the fixture `url` for tests that ask for it."""
    return make(
        connect(request.getfixturevalue("url") if "url" in request.fixturenames else f"sqlite:///{tmp_path}/t.db")
    )


BOTH = pytest.mark.usefixtures("url")


def take(ledger: Ledger, worker_id: str, count: int) -> Work:
    work = ledger.lease(worker_id, count)
    assert work is not None
    settings = [{"learning_rate": 0.001 * (slot.slot + 1)} for slot in work.slots if slot.setting is None]
    return ledger.assign(worker_id, work, settings)


def every_cause(ledger: Ledger) -> str:
    """One trial of A diverges, and one attempt ends for each of the other causes; returns the worker's key."""
    worker_id = new_worker_id()
    ledger.register(worker_id, "a device")
    work = take(ledger, worker_id, 10)
    (diverged,) = outcomes(work.with_slots(work.slots[:1]))
    ledger.finish(worker_id, [Outcome(diverged.id, diverged.attempt, 0.1, "diverged")])
    for slot, cause in zip(work.slots[1:], CAUSES[1:], strict=False):
        ledger.fail(worker_id, [slot], cause, TRACE)
    ledger.finish(worker_id, outcomes(work.with_slots(work.slots[5:])))
    return worker_id


@BOTH
def test_all_five_causes_are_shown(ledger: Ledger) -> None:
    every_cause(ledger)
    study = read_status(ledger.engine, "s")["s"]
    entry = study["configurations"]["A"]
    assert (entry["diverged"], entry["failed"], entry["trials_done"]) == (1, 0, 6)
    assert entry["failures"] == {"out of memory": 1, "exception": 1, "lost worker": 1, "timeout": 1}
    assert entry["last_error"] == "mine.py, line 7: ZeroDivisionError: division by zero"
    assert "last_error" not in study["configurations"]["B"]
    text = status_text({"s": study})
    assert (
        "    A: diverged × 1, out of memory × 1, exception × 1, lost worker × 1, timeout × 1; "
        "the last exception: mine.py, line 7: ZeroDivisionError: division by zero"
    ) in text.splitlines()
    assert not any(line.startswith("    B:") for line in text.splitlines())


@BOTH
def test_the_newest_exception_of_each_configuration_is_shown(ledger: Ledger) -> None:
    worker_id = new_worker_id()
    for error in ("KeyError: 'first'", "KeyError: 'second'"):
        ledger.fail(worker_id, take(ledger, worker_id, 1).slots, "exception", f"Traceback\n{error}")
    ledger.fail(worker_id, take(ledger, worker_id, 1).slots, "timeout", "TimeoutError: late")
    assert ledger.activity().exceptions == {"A": "Traceback\nKeyError: 'second'"}


@BOTH
def test_runs_that_failed_for_good_are_counted(ledger: Ledger) -> None:
    worker_id = new_worker_id()
    finish_all(ledger, until="rerun")
    for _ in range(2):
        ledger.fail(worker_id, take(ledger, worker_id, 1).slots, "exception", TRACE)
    assert "A: exception × 2; 1 run failed for good; the last exception: mine.py" in status_text(
        read_status(ledger.engine)
    )


def test_the_table_of_a_finished_study(ledger: Ledger) -> None:
    finish_all(ledger)
    assert status_text(read_status(ledger.engine, "s")).splitlines() == [
        "s: finished",
        "  configuration  trials  reruns  in training  best validation accuracy",
        "  A              12/12   3/3     0            0.999",
        "  B              12/12   3/3     0            0.999",
    ]
    assert read_status(ledger.engine)["s"]["planned"] == {"trials": 12, "seeds": 3, "tuning_runs": 1}


def test_no_best_score_where_every_trial_diverged(ledger: Ledger) -> None:
    worker_id = new_worker_id()
    for _ in range(2):
        work = take(ledger, worker_id, 1)
        ledger.finish(worker_id, [Outcome(slot.id, slot.attempt, 0.1, "diverged") for slot in work.slots])
    lines = status_text(read_status(ledger.engine)).splitlines()
    assert [line.split()[-1] for line in lines[2:4]] == ["–", "–"]
    assert read_status(ledger.engine)["s"]["configurations"]["A"]["best"] == 0.1


def test_a_database_without_studies(tmp_path: Path) -> None:
    assert status_text(read_status(connect(f"sqlite:///{tmp_path}/empty.db"))).startswith("no studies yet")


def test_an_unknown_study(ledger: Ledger) -> None:
    make(ledger.engine, "gnvr")
    with pytest.raises(UsageError, match=r"'gnrv' .* gnvr, s; did you mean 'gnvr'\?"):
        read_status(ledger.engine, "gnrv")


@BOTH
def test_workers_are_those_seen_within_a_lease(ledger: Ledger) -> None:
    assert "no worker is ready yet" in status_text(read_status(ledger.engine))
    ledger.register("far:1:2:a", "a device")
    ledger.register("far:2:2:b", "a device")
    ledger.register("other:1:2:c", "GPU")
    ledger.register(f"{new_worker_id().rsplit(':', 2)[0]}:0:gone", "a device")  # of this machine, another start time
    workers = ledger.activity().workers
    assert [(worker["host"], worker["pid"], worker["device"]) for worker in workers] == [
        ("far", 1, "a device"), ("far", 2, "a device"), ("other", 1, "GPU")
    ]  # fmt: skip
    assert all(0 <= worker["seen"] < LEASE for worker in workers)
    assert "; 3 workers: 2 on far (a device), 1 on other (GPU)" in status_text(read_status(ledger.engine))
    assert ledger.activity(seconds=-1).workers == []


def test_this_process_is_a_worker(ledger: Ledger) -> None:
    ledger.register(new_worker_id(), "a device")
    (worker,) = ledger.activity().workers
    assert worker["pid"] == os.getpid()
    assert f"; 1 worker on {worker['host']} (a device)\n" in status_text(read_status(ledger.engine))
    finish_all(ledger)
    assert "worker" not in status_text(read_status(ledger.engine))


def watched(ledger: Ledger, steps: list[Any], study: str | None = "s", **options: Any) -> str:
    """The output of a watch with the next step on the ledger in every pause."""
    screen = io.StringIO()
    terminal = options.pop("terminal", False)
    console = Console(file=screen, force_terminal=terminal, width=100, height=30, highlight=False, color_system=None)
    pauses = iter(steps)

    def pause(seconds: float) -> None:
        assert seconds == 2
        next(pauses)()

    watch_status(ledger.engine, study, 2, console=console, sleep=pause, **options)
    assert next(pauses, None) is None, "the watch ended before the study was done"
    return screen.getvalue()


def one_step(ledger: Ledger) -> None:
    worker_id = new_worker_id()
    ledger.finish(worker_id, outcomes(take(ledger, worker_id, 10)))


def test_a_watch_prints_block_after_block_until_the_study_is_finished(ledger: Ledger) -> None:
    text = watched(ledger, [lambda: one_step(ledger), lambda: finish_all(ledger)])
    assert [text.count(words) for words in ("s: unfinished", "s: finished", "  A  ")] == [2, 1, 3]
    assert text.index("0/12") < text.index("10/12") < text.index("s: finished")
    assert "\x1b" not in text


def test_a_watch_redraws_in_place_on_a_terminal(ledger: Ledger) -> None:
    text = watched(ledger, [lambda: finish_all(ledger)], terminal=True)
    assert "\x1b[1A" in text and "\x1b[2K" in text  # up a line, clear it
    assert text.rindex("s: finished") > text.rindex("Ctrl-C quits")


def test_a_watch_in_json_prints_one_document_per_line(ledger: Ledger) -> None:
    text = watched(ledger, [lambda: finish_all(ledger)], as_json=True, terminal=True)
    first, last = map(json.loads, text.splitlines())
    assert (first["s"]["state"], last["s"]["state"]) == ("work", "done")


def test_a_watch_of_all_studies_runs_until_interrupted(ledger: Ledger) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    finish_all(ledger)
    for terminal in (False, True):
        with pytest.raises(KeyboardInterrupt):
            watched(ledger, [lambda: make(ledger.engine, "later"), interrupt], study=None, terminal=terminal)


def test_a_watch_of_all_studies_has_tables_of_the_unfinished_ones_alone(ledger: Ledger) -> None:
    finish_all(ledger)
    make(ledger.engine, "later")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=30, color_system=None)

    def pause(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_status(ledger.engine, None, 2, console=console, sleep=pause)
    text = screen.getvalue()
    assert text.count("later: unfinished") == text.count("finished: s\n") == text.count("  A  ") > 0


def test_the_status_reads_neither_settings_nor_curves(ledger: Ledger) -> None:
    """The watch reads every two seconds: the amount must not grow with settings, results and tracebacks."""
    from sqlalchemy import event

    finish_all(ledger)
    read: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: read.append(given[2]))
    read_status(ledger.engine, "s")
    assert 0 < len([statement for statement in read if statement.lstrip().upper().startswith("SELECT")]) <= 12
    for column in ("hpo_slots.setting", "hpo_slots.result", "hpo_curves", "environment"):
        assert not [statement for statement in read if column in statement]


if sys.platform == "win32":
    pytestmark = pytest.mark.skip(reason="processes of this machine are found in /proc")


def test_a_new_study_says_what_it_waits_for(ledger: Ledger) -> None:
    assert "no worker is ready yet" in status_text(read_status(ledger.engine, "s"))
    ledger.register(new_worker_id(), "a device")
    assert "1 worker loading data" in status_text(read_status(ledger.engine, "s"))
    old = {"s": read_status(ledger.engine, "s")["s"] | {"age": 3600.0, "workers": []}}
    assert "no worker is running" in status_text(old)


def test_the_line_of_an_error_is_the_users_also_where_pythons_own_code_raises_it() -> None:
    with pytest.raises(statistics.StatisticsError) as caught:
        statistics.mean([])
    line = error_line("".join(traceback.format_exception(caught.value)))
    assert re.fullmatch(r"test_status\.py, line \d+: statistics\.StatisticsError: .+", line)
    assert "test_status.py" in user_traceback(caught.value) and "statistics.py" not in user_traceback(caught.value)
