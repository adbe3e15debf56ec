"""A process whose main thread does not end after a signal is ended by another thread, unless a person works in it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hpo.worker.signals import Stop, Stopped

PROGRAM = """
import os, signal, sys, time
from hpo.worker.signals import Stop

{interactive}
stop = Stop()
stop.last_resort, stop.unreleased = lambda: {released}, lambda: "4 trials still leased"
with stop.installed():
    os.kill(os.getpid(), signal.{signal})
    end = time.monotonic() + 6
    while time.monotonic() < end:  # as in a transaction, in which a signal is only remembered
        time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("name", "interactive", "released", "code", "said"),
    [
        ("SIGTERM", "", True, 128 + signal.SIGTERM, "unfinished trials and reruns were released"),
        ("SIGINT", "", False, 128 + signal.SIGINT, "4 trials still leased"),
        ("SIGTERM", "sys.ps1 = '>>> '", True, 128 + signal.SIGTERM, "released"),
        ("SIGINT", "sys.ps1 = '>>> '", True, 0, ""),
    ],
)
def test_the_process_is_ended(name: str, interactive: str, released: bool, code: int, said: str) -> None:
    program = PROGRAM.format(signal=name, interactive=interactive, released=released)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and bool(said) == bool(done.stderr)


def test_a_signal_in_a_destructor_is_repeated_and_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Python ignores what a destructor raises, and would print its traceback."""

    class Late:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    stop = Stop()
    with pytest.raises(Stopped), stop.installed(), stop.interruptible():
        Late()
        time.sleep(5)
    assert "Stopped" not in capsys.readouterr().err
