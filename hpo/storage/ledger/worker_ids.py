"""Worker ids, and whether the process of an id that belongs to this machine runs or has ended."""

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
    return f"{host()}:{pid}:{_start_time(pid) or ''}:{uuid.uuid4().hex[:12]}"


def has_ended(worker_id: str) -> bool:
    """True if the worker ran on this machine and its process has certainly ended.

    What cannot be known (another user's process behind hidepid, no file descriptor left to read /proc) counts as
    running: then the end of the lease decides.
    """
    try:
        worker_host, number, started, _ = worker_id.split(":")
        pid = int(number)
    except ValueError:  # an id of another form: only its lease's end counts
        return False
    if worker_host != host() or sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it exists and belongs to another user
        pass
    now = _start_time(pid)
    return now is not None and started != "" and now != started


def is_running(worker_id: str) -> bool:
    """True if the worker's process certainly runs on this machine: the process with its number started when it did."""
    worker_host, number, started, _ = worker_id.split(":")
    return worker_host == host() and started != "" and _start_time(int(number)) == started


@cache
def host() -> str:
    """The machine's name and a digest of its process table: containers may share a name but not process ids."""
    table = ""
    with suppress(OSError):
        namespace = Path("/proc/self/ns/pid").readlink()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        table = "+" + hashlib.sha256(f"{namespace}{boot}".encode()).hexdigest()[:8]
    return socket.gethostname().replace(":", "_") + table


def _start_time(pid: int) -> str | None:
    """When a process started, in the system's own unit, because process ids are reused.

    Returns:
        "ended" for a process that has ended and whose parent has not noticed; None if it cannot be known.
    """
    try:
        if Path("/proc/self/stat").exists():
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return "ended" if fields[0] in "ZX" else fields[19]
        result = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip().replace(":", ".") or None
