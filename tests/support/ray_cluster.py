"""A Ray cluster on this host whose nodes can be added, killed and stopped, apart from any other cluster here."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

NODE = "HPO_TEST_RAY_NODE"  # marks what a node's workers start; Ray's own processes overwrite their variables
# `ray stop` ends every Ray process of the host; here, those of one session.
STOP = """
import os, sys
import ray, psutil
found, session = psutil.process_iter, int(sys.argv[1])
psutil.process_iter = lambda *fields: (process for process in found(*fields) if os.getsid(process.pid) == session)
from ray.scripts.scripts import cli
cli(["stop"])
"""


# The number of nodes that Ray takes for alive.
ALIVE = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
print(sum(node["Alive"] for node in ray.nodes()))
"""


class RayCluster:
    """Starts with a head node of the given CPUs.

    Everything ends with `close`, or when this process is killed: another process waits for that.
    """

    def __init__(self, cpus: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-ray-"))  # a short path: Ray has sockets in it
        self.address = f"127.0.0.1:{_free_port()}"
        self._sessions: dict[str, int] = {}  # of the nodes
        self._cleaner = subprocess.Popen([sys.executable, __file__, self.folder], stdin=subprocess.PIPE, text=True)
        port = self.address.partition(":")[2]
        try:
            self._start("head", "--head", f"--port={port}", f"--num-cpus={cpus}", "--include-dashboard=false")
        except BaseException:
            self.close()
            raise

    def add(self, node: str, *resources: str, **environment: str) -> None:
        """Starts one more node, with resources such as "--num-gpus=1"."""
        self._start(node, f"--address={self.address}", *resources, **environment)

    def _start(self, node: str, *arguments: str, **environment: str) -> None:
        """Starts the processes of a node, in a session of their own."""
        own = {"RAY_TMPDIR": str(self.folder), "TMPDIR": str(self.folder), NODE: f"{self.folder}/{node}"}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0"}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats", *arguments]
        variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        log = self.folder / f"start-{node}.log"
        with log.open("wb") as file:  # a pipe would stay open in what is started
            process = subprocess.Popen(
                command, env=variables | quiet | own | environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip
        self._sessions[node] = process.pid
        assert self._cleaner.stdin
        print(process.pid, file=self._cleaner.stdin, flush=True)
        assert process.wait(120) == 0, log.read_text()

    def processes(self, node: str = "") -> list[psutil.Process]:
        """The running processes of a node, workers included; of all nodes by default."""
        sessions = [session for name, session in self._sessions.items() if name.startswith(node)]
        return _processes(f"{self.folder}/{node}", sessions)

    def kill_raylet(self, node: str) -> None:
        """Kills the daemon that starts all others of a node."""
        (raylet,) = [process for process in self.processes(node) if process.name() == "raylet"]
        raylet.send_signal(signal.SIGKILL)

    def stop(self, node: str) -> subprocess.Popen[bytes]:
        """Starts `ray stop` on a node; returns when its daemon has ended."""
        command = [sys.executable, "-c", STOP, str(self._sessions[node])]
        variables = os.environ | {"RAY_TMPDIR": str(self.folder)}
        stopping = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while any(process.name() == "raylet" for process in self.processes(node)):
            assert stopping.poll() is None, "ray stop has not stopped the node"
            time.sleep(0.05)
        return stopping

    def alive_nodes(self) -> int:
        """How many nodes Ray takes for alive; one that was killed counts for some seconds more."""
        command = [sys.executable, "-W", "ignore", "-c", ALIVE, self.address]
        variables = os.environ | {"RAY_TMPDIR": str(self.folder)}
        said = subprocess.check_output(command, env=variables, stderr=subprocess.DEVNULL, timeout=60, text=True)
        return int(said.split()[0])  # Ray prints its messages behind it

    def close(self) -> None:
        """Kills all nodes and their workers."""
        assert self._cleaner.stdin
        self._cleaner.stdin.close()
        assert self._cleaner.wait(60) == 0


def _processes(mark: str, sessions: Collection[int]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            marked = process.environ().get(NODE, "").startswith(mark)
            if (marked or os.getsid(process.pid) in sessions) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _clean(folder: str) -> None:
    """Waits for the end of the input, which has the sessions of the nodes; then kills all of their processes."""
    sessions = [int(line) for line in sys.stdin]
    deadline = time.monotonic() + 30
    while (processes := _processes(folder, sessions)) and time.monotonic() < deadline:
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.2)
    shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    _clean(sys.argv[1])
