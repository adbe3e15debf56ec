"""Ctrl-C while a command starts or ends: exit code 130 and no word."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fork_server import ROOT

PROGRAM = """
import atexit, os, runpy, signal, sys

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class Destructor:
    def __del__(self):
        interrupt()

def caught():
    try:
        interrupt()
    except BaseException:
        pass

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            {where}()

sys.meta_path.insert(0, Interrupt())
if {moment!r} == "the end":
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.{handler})
sys.argv = {words}
runpy.run_module("hpo", run_name="__main__")
"""
# In the order of the start: the command line's own modules, and those that the command imports.
MOMENTS = ["hpo.cli", "typer", "hpo.cli.commands.bench", "sqlalchemy", "hpo.storage.ledger", "the end"]


def start(moment: str, handler: str, folder: Path, where: str = "interrupt", *words: str) -> tuple[int, str, str]:
    program = PROGRAM.format(moment=moment, handler=handler, where=where, words=["hpo", *(words or ("status",))])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_without_a_traceback(moment: str, tmp_path: Path) -> None:
    code, output, errors = start(moment, "default_int_handler", tmp_path)
    assert (code, errors) == (128 + signal.SIGINT, "")
    assert ("no studies" in output) == (moment == "the end")


@pytest.mark.parametrize("where", ["Destructor", "caught"])
def test_it_ends_also_where_python_or_a_library_catches_the_exception(where: str, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "slow.py").write_text("import time, sqlalchemy.dialects.postgresql\ntime.sleep(30)")
    before = time.monotonic()
    moment, command = "sqlalchemy.dialects.postgresql", ("try", "slow", "-c", "A")
    assert start(moment, "default_int_handler", tmp_path, where, *command) == (130, "", "")
    assert time.monotonic() - before < 20


def test_a_worker_that_starts_is_ended_by_the_system(tmp_path: Path) -> None:
    """Also in a call that does not return to Python; shells show 130 for it."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "slow.py").write_text("import sqlalchemy.dialects.postgresql")
    moment = "sqlalchemy.dialects.postgresql"
    ended = start(moment, "default_int_handler", tmp_path, "caught", "worker", "slow")
    assert ended == (-signal.SIGINT, "", "")


def test_it_is_ignored_where_the_shell_ignores_it(tmp_path: Path) -> None:
    code, output, errors = start("typer", "SIG_IGN", tmp_path)
    assert (code, errors) == (0, "") and "no studies" in output
