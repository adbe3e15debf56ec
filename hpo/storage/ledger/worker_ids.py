"""Who holds a lease: a key for this process, and whether the process behind a key of this machine is gone."""

import hashlib
import os
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path


def new_worker_id() -> str:
    """A key that no other process has, ever: "host:pid:process start time:random"."""
    pid = os.getpid()
    return f"{host()}:{pid}:{_start_time(pid)}:{uuid.uuid4().hex[:12]}"


def has_ended(worker_id: str) -> bool:
    """True if `worker_id` ran on this machine and its process is no longer there."""
    try:
        where, pid, started, _ = worker_id.split(":")
        return where == host() and sys.platform != "win32" and _start_time(int(pid)) != started
    except ValueError:  # a key of another shape: only its lease's end counts
        return False


@cache
def host() -> str:
    """The machine's name and a mark of its process table: containers may share a name but not process ids."""
    mark = ""
    with suppress(OSError):
        table = Path("/proc/self/ns/pid").readlink()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        mark = "+" + hashlib.sha256(f"{table}{boot}".encode()).hexdigest()[:8]
    return socket.gethostname().replace(":", "_") + mark


def _start_time(pid: int) -> str:
    """When the process began, in the system's own unit; '' if there is none (a process id is used again)."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    if sys.platform == "win32":
        return "0"
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip().replace(":", ".")
