"""Memory of this process, in MiB."""

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def in_use() -> float:
    """What the process holds now; where the system does not say, its peak."""
    return _of_process("VmRSS")


def peak() -> float:
    """The most that the process held since it began, or since `forget_peak`."""
    return _of_process("VmHWM")


def forget_peak() -> None:
    """Makes the peak start anew; where the system cannot, the earlier one stays."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _of_process(name: str) -> float:
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` hands down the parent's peak there
        return int(re.findall(rf"{name}:\s+(\d+) kB", status.read_text())[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / of_usage()


def of_usage() -> float:
    """How many of the units that `getrusage` counts in make a MiB."""
    return 2**20 if sys.platform == "darwin" else 2**10
