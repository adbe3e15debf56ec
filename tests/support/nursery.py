"""Processes forked from one that has imported everything: a worker of a test starts in milliseconds.

Run as a program it is that process: it reads one JSON request a line and answers each with one line.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hpo

ROOT = Path(hpo.__file__).parents[1]
PRELOADED = ("storage_worker", "hpo.cli", "psycopg", "psycopg_binary", "sqlalchemy.dialects.postgresql.psycopg")


class Child:
    """A process of the nursery: a process id, signals, and an exit code as `subprocess` gives it."""

    def __init__(self, nursery: "Nursery", pid: int, output: Path) -> None:
        self.nursery, self.pid, self.output = nursery, pid, output
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self.nursery.ask({"poll": self.pid})
        return self.code

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code; a process that takes longer is killed, and that is an error."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                self.send(signal.SIGABRT)
                raise TimeoutError(f"process {self.pid} still ran after {timeout} s:\n{self.text()}")
            time.sleep(0.005)
        return code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    def text(self) -> str:
        """What it wrote to its standard output and error."""
        return self.output.read_text(errors="replace")


class Nursery:
    """Starts functions of the tests' modules in processes of their own, warnings being errors there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def start(
        self,
        function: str,
        *arguments: Any,
        output: Path,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Child:
        """Calls "module:function" with JSON arguments in a new process, whose output goes to a file."""
        request = {"call": function, "arguments": arguments, "options": options, "output": str(output)}
        request["folder"] = str(Path.cwd())
        return Child(self, self.ask(request | {"environment": dict(environment or {})}), output)

    def ask(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the nursery and whatever it still has."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    _warm_up()
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            answer = _poll(request["poll"], children)
        else:
            answer = os.fork()
            if answer == 0:
                _become(request)
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _warm_up() -> None:
    """A small study worked through: what is loaded and prepared on first use is there in every child."""
    from storage_study import make, outcomes

    from hpo.storage.database import connect
    from hpo.storage.ledger import new_worker_id
    from hpo.worker.loop import run_worker

    with tempfile.TemporaryDirectory() as folder:
        ledger = make(connect(f"sqlite:///{folder}/t.db"), trials=1, seeds=1)
        run_worker(ledger, outcomes, new_worker_id(), 1)
        ledger.engine.dispose()


def _poll(pid: int, children: set[int]) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    if found == 0:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _become(request: dict[str, Any]) -> None:
    """Runs the call and ends this process as an interpreter of its own would have ended."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target, source in enumerate((nothing, output, output)):
            os.dup2(source, target)
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        module, _, name = request["call"].partition(":")
        getattr(importlib.import_module(module), name)(*request["arguments"], **request["options"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
