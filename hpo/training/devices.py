"""The devices, threads and package versions with which training runs."""

import ctypes
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hpo.errors import UsageError, plural
from hpo.processor import cpu_cores, use_one_openblas_thread
from hpo.reference_cycles import search_as_usual


def choose_device(name: str) -> torch.device:
    """The device of this name; `auto` is CUDA if there is a GPU, else the CPU.

    Raises:
        UsageError: the name is unknown or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"--device is {name!r}; give auto, cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device is {name!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The model of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def worker_devices(device: torch.device, workers: int | None, tuning_runs: int) -> list[str]:
    """The device of every worker process that a study starts on this machine; all GPUs are used round-robin.

    Args:
        device: the chosen device; `cuda` without a number means all GPUs.
        workers: how many; None for one per GPU or, on the CPU, one per core but at most two per tuning run.
        tuning_runs: of all configurations together; each has about two populations to train at a time.
    """
    if device.type == "cuda" and device.index is None:
        gpus = torch.cuda.device_count()
        return [f"cuda:{worker % gpus}" for worker in range(workers or gpus)]
    default = 1 if device.type == "cuda" else min(cpu_cores(), 2 * tuning_runs)
    return [str(device)] * (workers or default)


def describe_workers(devices: Sequence[str]) -> str:
    """For example "2 workers on cpu (AMD EPYC)"."""
    by_name: dict[str, list[str]] = {}
    for device in dict.fromkeys(devices):
        by_name.setdefault(device_name(torch.device(device)), []).append(device)
    where = " and ".join(f"{', '.join(same)} ({name})" for name, same in by_name.items())
    return f"{plural(len(devices), 'worker')} on {where}"


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished all operations."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def total_memory(device: torch.device) -> float:
    """Bytes of the device, whether free or not; infinite if the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def prepare_process(threads: int, device: torch.device) -> None:
    """Settings of a process that trains: threads, its GPU, TF32, and how Python and glibc free memory.

    TF32 matrix products on CUDA have 10 bits of mantissa instead of 23 and are several times as fast. By default glibc
    returns large freed blocks to the system at once, so that every tensor of a step costs page faults again.
    """
    search_as_usual()
    warnings.filterwarnings("ignore", r"(?s).*\(Triggered internally at")  # PyTorch's own, about its kernels
    torch.set_num_threads(threads)
    if threads == 1:
        use_one_openblas_thread()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # Triton launches there, and this process takes no memory on other GPUs
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL("libc.so.6").mallopt
        except (OSError, AttributeError):  # another C library
            return
        mmap_threshold, trim_threshold = -3, -1
        mallopt(mmap_threshold, 1 << 25)
        mallopt(trim_threshold, 1 << 30)


def environment() -> dict[str, Any]:
    """Versions and commit, so that a report can say which code computed its results."""
    distributions = {"hpo": "hpo-studies"} | {name: name for name in ("torch", "optuna", "numpy", "mnist1d")}
    packages = {name: version(distribution) for name, distribution in distributions.items()}
    system = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    return {**system, **packages, "commit": _commit()}


def _commit() -> str:
    """The commit of the working directory, marked if files differ from it; empty outside a git checkout."""
    commands = (["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, changes = (
            subprocess.run(command, capture_output=True, check=True, timeout=5).stdout.strip() for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.decode() + (" with changes" if changes else "")
