"""Processes forked from one that has imported everything: a worker or a command starts in milliseconds.

Run as a program, this is that process. Requests come as lines of JSON over a socket; each is answered with one line.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hpo

ROOT = Path(hpo.__file__).parents[1]
PRELOADED = (
    *(
        "command_line",
        "storage_worker",
        "hpo.cli",
        "psycopg",
        "psycopg_binary",
        "sqlalchemy.dialects.postgresql.psycopg",
    ),
    *("torch", "hpo.worker.trainer", "hpo.report", "matplotlib.figure", "matplotlib.backends.backend_agg"),
)


class Child:
    """A forked process, with the attributes and methods of `subprocess.Popen` that are needed here."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self.server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.request({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout, output=self.text())
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()

    def text(self) -> str:
        """What it has written to standard output and error so far."""
        return ""


class LoggedChild(Child):
    """A forked process whose standard output and error go to files, which may be the same one."""

    def __init__(self, server: "ForkServer", pid: int, output: Path, errors: Path) -> None:
        super().__init__(server, pid)
        self.output, self.errors = output, errors

    def text(self) -> str:
        files = dict.fromkeys((self.output, self.errors))
        return "".join(file.read_text(errors="replace") for file in files)


class ForkServer:
    """Calls functions of the tests' modules in new processes, where warnings are errors."""

    def __init__(self, connection: socket.socket | None = None) -> None:
        """connection: to a server that runs already."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        if connection is None:
            connection, there = socket.socketpair()
            settings = ("HPO_", "OPTUNA_", "PG")
            inherited = {key: value for key, value in os.environ.items() if not key.startswith(settings)}
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", __file__, str(there.fileno())],
                env=inherited | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
            there.close()
        self._socket = connection
        self._answers = connection.makefile()

    def start(
        self,
        function: str,
        *arguments: Any,
        output: Path,
        errors: Path | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> LoggedChild:
        """Calls "module:function" with JSON arguments in a new process.

        Args:
            output, errors: files for what it writes; `output` for both where `errors` is None.
            folder: where it runs; the current one by default.
        """
        call = {"call": function, "arguments": arguments, "options": options, "folder": str(folder or Path.cwd())}
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("ab")) for path in (output, errors or output)]
            nothing = stack.enter_context(Path(os.devnull).open("rb"))
            streams = [file.fileno() for file in (nothing, *files)]
            pid = self.request(call | {"environment": dict(environment or {})}, streams)
        return LoggedChild(self, pid, output, errors or output)

    def request(self, request: Mapping[str, Any], streams: Sequence[int] = (0, 1, 2)) -> Any:
        """The server's answer; `streams` are the file descriptors of a new process's standard streams."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], streams)
            return json.loads(self._answers.readline())

    def close(self) -> None:
        """Ends the server and all its processes that still run."""
        self._answers.close()
        self._socket.close()
        if self._process is not None:
            self._process.wait()


def serve(connection: socket.socket) -> set[int]:
    """Answers requests until the other side closes; returns the processes that may still run."""
    children: set[int] = set()
    while message := _receive(connection):
        request, streams = message
        if "poll" in request:
            answer = _poll(request["poll"], children)
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                _run(request, streams)
            children.add(answer)
        for stream in streams:
            os.close(stream)
        connection.sendall(json.dumps(answer).encode() + b"\n")
    return children


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    text, streams = b"", list[int]()
    while not text.endswith(b"\n"):
        part, received, *_ = socket.recv_fds(connection, 65536, 3)
        if not part:
            return None
        text, streams = text + part, streams + received
    return json.loads(text), streams


def _poll(pid: int, children: set[int]) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended == 0:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _run(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Runs the call and ends this process as a separate interpreter would have ended."""
    code = 1
    try:
        for target, source in enumerate(streams):
            os.dup2(source, target)
            os.close(source)
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


def _warm_up() -> None:
    """A small study and its report, so that every child has what is loaded or prepared on first use."""
    import shown_study

    from hpo import api
    from hpo.storage.database import connect
    from hpo.storage.ledger import new_worker_id
    from hpo.worker.loop import run_worker

    with tempfile.TemporaryDirectory() as folder:
        ledger = shown_study.make(connect(f"sqlite:///{folder}/t.db"), trials=2, seeds=2)
        run_worker(ledger, shown_study.outcomes, new_worker_id(), 1)
        api.report(ledger, Path(folder))
        ledger.engine.dispose()


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    _warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        for pid in serve(connection):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
