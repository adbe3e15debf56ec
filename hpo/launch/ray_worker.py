"""What an actor does on its node of a Ray cluster: it runs one worker as a process of its own.

The worker stops when its standard input ends, which happens when the actor's process ends, whatever ended it: within
0.5 s of `ray stop`, `ray.kill` or SIGTERM, 3 s after its raylet is killed. It then releases its leases.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

GRACE = 6.0  # seconds that a worker gets to release its leases and end
# Without it, Ray kills the worker with SIGKILL when its actor ends in an orderly way.
KEEP_CHILDREN = {"RAY_kill_child_processes_on_worker_exit": "0"}


class WorkerActor:
    """One worker process, on the node that Ray chooses.

    Args:
        arguments: of `python -m hpo`. log: the name of its log on the node. environment: added to that of the node.
        in_copy: whether the actor runs in the copy of a folder, where the worker finds its study.
    """

    def __init__(self, arguments: list[str], log: str, environment: Mapping[str, str], in_copy: bool) -> None:
        self._log = _logs() / log
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as file:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "hpo", *arguments, "--stop-with-parent"], stdin=subprocess.PIPE, stdout=file,
                stderr=file, env={"PYTHONHASHSEED": "0", **os.environ, **environment},
                cwd=None if in_copy else self._log.parent,
                start_new_session=True,  # since Ray kills the process group of an ended actor
            )  # fmt: skip
        self._stopping = False
        self._say(f"started on {self.where()}")
        threading.Thread(target=self._end_with_worker, daemon=True).start()

    def _end_with_worker(self) -> None:
        """Ends the actor with its worker: for good, or so that Ray starts both again if a signal ended the worker."""
        import ray

        code = self._worker.wait()
        lost = not self._stopping and (code < 0 or code > 128)
        self._say(f"ended with exit code {code if code >= 0 else 128 - code}" + "; Ray starts it again" * lost)
        if lost:
            os._exit(1)
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _say(self, text: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"hpo: {time.strftime('%Y-%m-%d %H:%M:%S')} worker {text}\n")

    def where(self) -> str:
        """The node's name and the worker's process."""
        return f"{socket.gethostname()}, process {self._worker.pid}"

    def stop(self) -> None:
        """Lets the worker release its leases, and waits until it has ended."""
        self._stopping = True
        self._worker.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._worker.wait(GRACE)


def _logs() -> Path:
    """The folder of all launches' logs on a node."""
    return Path(tempfile.gettempdir()) / f"hpo-launches-{os.getuid()}"


def read_logs(folder: str) -> dict[str, str]:
    """The logs that this node has in a launch's folder, by name."""
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in (_logs() / folder).glob("*.log")}
