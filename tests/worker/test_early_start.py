"""Workers that are started early wait for their device, and end where nobody needs them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpo.worker import processes
from hpo.worker.early_start import EarlyWorkers

# Prints how it was started, as a worker does that got its device early or with its command.
PROGRAM = """
import os, sys, time

class Slow:
    def find_spec(self, name, *_):
        if name == "hpo.worker.work":
            time.sleep(600)

if "SLOW" in os.environ:
    sys.meta_path.insert(0, Slow())
if sys.argv[-1] == "--wait":
    from hpo.worker.early_start import wait_for_start
    sys.argv[-1:] = ["waited", *wait_for_start()]
print(*sys.argv[1:], os.environ.get("GIVEN"), os.environ.get("LATE"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(Path(processes.__file__).parents[2]))
    return [sys.executable, str(tmp_path / "program.py"), "study"]


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    line = process.stdout.readline()
    process.stdin.close()
    process.wait()
    process.stdout.close()
    return line.strip()


def test_waiting_processes_get_their_device_and_others_are_new(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EarlyWorkers(command, 1) as early:
        monkeypatch.setenv("LATE", "set since")
        started = [early.start([*command, "--device", device], {"GIVEN": "here"}) for device in ("cpu", "cuda:1")]
        lines = [line_of(process) for process in started]
    assert lines == ["study waited --device cpu here set since", "study --device cuda:1 here set since"]


def test_a_process_that_ended_while_waiting_is_replaced(command: list[str]) -> None:
    with EarlyWorkers(command, 1) as early:
        early._waiting[0].kill()
        early._waiting[0].wait()
        assert line_of(early.start([*command, "--device", "cpu"], {})) == "study --device cpu None None"


def test_processes_that_nobody_needs_end(command: list[str]) -> None:
    with EarlyWorkers(command, 2) as early:
        waiting = list(early._waiting)
    assert all(process.poll() is not None for process in waiting)


def test_those_beyond_the_number_that_is_needed_end_at_once(command: list[str]) -> None:
    with EarlyWorkers(command, 3) as early:
        waiting = list(early._waiting)
        early.keep(1)
        assert [process.poll() is None for process in waiting] == [True, False, False]
        assert line_of(early.start([*command, "--device", "cpu"], {})) == "study waited --device cpu None None"


@pytest.mark.parametrize("moment", ["waiting", "loading"])
def test_a_process_whose_starter_was_killed_ends(
    command: list[str], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    if moment == "loading":
        monkeypatch.setenv("SLOW", "yes")
    starter = """
import json, os, sys
from hpo.worker.early_start import EarlyWorkers
early = EarlyWorkers(json.loads(sys.argv[1]), 1)
print(early._waiting[0].pid, flush=True)
os.kill(os.getpid(), 9)
"""
    words = [sys.executable, "-c", starter, json.dumps(command)]
    killed = subprocess.run(words, capture_output=True, text=True, check=False)
    state, deadline = Path(f"/proc/{killed.stdout.strip()}/stat"), time.monotonic() + 60
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "it still waits"
        time.sleep(0.05)
