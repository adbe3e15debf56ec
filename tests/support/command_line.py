"""`hpo COMMAND` in processes forked from one that has imported PyTorch: each saves seconds of start-up."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from fork_server import Child, ForkServer, LoggedChild, serve

import hpo.storage.database
from hpo.worker import processes

TIMEOUT = 120.0  # seconds that a command may take


class CommandLine:
    """Commands that run in one folder.

    Attributes:
        folder: where each command runs; study files lie in its folder "studies".
        environment: variables that each command gets.
    """

    def __init__(self, server: ForkServer, folder: Path, **environment: str) -> None:
        self.server, self.folder, self.environment = server, folder, environment
        self._logs, self._numbers = folder.parent / f"{folder.name}-output", count()
        (folder / "studies").mkdir(parents=True)
        self._logs.mkdir()

    def write_study(self, name: str, text: str) -> None:
        (self.folder / "studies" / f"{name}.py").write_text(text)

    def start(self, *words: str, **environment: str) -> LoggedChild:
        """Starts `hpo WORDS`."""
        number = next(self._numbers)
        files = {name: self._logs / f"{number}.{name}" for name in ("output", "errors")}
        variables = self.environment | environment
        return self.server.start("command_line:command", *words, **files, folder=self.folder, environment=variables)

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """Runs `hpo WORDS` and checks its exit code; returns its standard output, or standard error if it fails."""
        return self.finish(self.start(*words, **environment), code)

    def finish(self, child: LoggedChild, code: int = 0) -> str:
        assert child.wait(TIMEOUT) == code, child.text()
        return (child.errors if code else child.output).read_text()


def command(*words: str, connect_timeout: float = 0.2) -> None:
    """Becomes `hpo WORDS`, which waits at most `connect_timeout` seconds for its first contact with a database.

    Worker processes of `hpo run` are forked as well.
    """
    from hpo.cli import main

    hpo.storage.database.CONNECT_TIMEOUT = connect_timeout
    if words[0] == "run":
        fork_workers()
    sys.argv = ["hpo", *words]
    main()


def fork_workers() -> None:
    """Lets `hpo run` fork its workers, from this process as it is now: without threads and open databases."""
    here, there = socket.socketpair()
    if os.fork() == 0:
        here.close()
        for pid in serve(there):  # they notice the end of the process that started them, and stop
            os.waitpid(pid, 0)
        os._exit(0)
    there.close()
    server = ForkServer(here)
    processes.start_process = lambda words, environment: _Worker(server, words, environment)  # type: ignore[assignment]


class _Worker(Child):
    """`hpo worker` with pipes for its standard input and output, as `hpo run` starts it."""

    def __init__(self, server: ForkServer, words: Sequence[str], environment: Mapping[str, str]) -> None:
        assert list(words[:3]) == [sys.executable, "-m", "hpo"]
        request: dict[str, Any] = {"call": "command_line:command", "arguments": words[3:], "options": {}}
        request |= {"folder": str(Path.cwd()), "environment": dict(environment)}
        (its_input, input_), (output, its_output) = os.pipe(), os.pipe()
        super().__init__(server, server.request(request, (its_input, its_output, 2)))
        os.close(its_input)
        os.close(its_output)
        self.stdin, self.stdout = os.fdopen(input_, "w"), os.fdopen(output)
