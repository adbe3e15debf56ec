"""Worker ids, and whether the process of an id that belongs to this machine has ended."""

import hashlib
import os
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path


def new_worker_id(pid: int | None = None) -> str:
    """An id that no other process ever has: "host:pid:process start time:random"; of this process by default."""
    pid = pid or os.getpid()
    return f"{host()}:{pid}:{_start_time(pid)}:{uuid.uuid4().hex[:12]}"


def has_ended(worker_id: str) -> bool:
    """True if the worker ran on this machine and its process has ended."""
    try:
        worker_host, pid, started, _ = worker_id.split(":")
        return worker_host == host() and sys.platform != "win32" and _start_time(int(pid)) != started
    except ValueError:  # an id of another form: only its lease's end counts
        return False


@cache
def host() -> str:
    """The machine's name and a digest of its process table: containers may share a name but not process ids."""
    table = ""
    with suppress(OSError):
        namespace = Path("/proc/self/ns/pid").readlink()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        table = "+" + hashlib.sha256(f"{namespace}{boot}".encode()).hexdigest()[:8]
    return socket.gethostname().replace(":", "_") + table


def _start_time(pid: int) -> str:
    """When the process started, in the system's own unit, because process ids are reused; '' if there is none."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    if sys.platform == "win32":
        return "0"
    result = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return result.stdout.strip().replace(":", ".")
