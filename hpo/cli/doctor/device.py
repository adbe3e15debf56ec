"""The device that training would use: that it is there, computes, and has memory left."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.cli.doctor.check import Check
from hpo.errors import HpoError

if TYPE_CHECKING:
    import torch

LITTLE = 10**9  # bytes


def check_device(name: str) -> list[Check]:
    """One line for every device that `--device name` stands for; `auto` and `cuda` are all GPUs."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it needs cannot be loaded
        words = str(error).partition("\n")[0]
        return [Check("device", "fails", f"PyTorch cannot be loaded ({words}); install it again")]
    from hpo.training.devices import choose_device

    with warnings.catch_warnings(record=True) as caught:  # PyTorch says in a warning why it cannot use a GPU
        warnings.simplefilter("always")
        try:
            chosen = choose_device(name)
        except HpoError as error:
            why = _why_no_cuda(torch.version.cuda, [str(entry.message) for entry in caught])
            return [Check("device", "fails", f"{error}{f' ({why})' if why else ''}")]
    if chosen.type == "cuda":
        numbers = [chosen.index] if chosen.index is not None else range(torch.cuda.device_count())
        return [_try(torch.device("cuda", number)) for number in numbers]
    checks = [_try(chosen)]
    why = _why_no_cuda(torch.version.cuda, [str(entry.message) for entry in caught]) if name == "auto" else ""
    if why:
        checks.append(Check("device", "warning", f"{why}; until then everything is trained on the CPU"))
    return checks


def _try(place: "torch.device") -> Check:
    """Multiplies two small matrices there, with a gradient."""
    import torch

    from hpo.training.devices import device_name

    try:
        matrix = torch.ones(64, 64, device=place, requires_grad=True)
        (matrix @ matrix).sum().backward()
        right = matrix.grad is not None and bool((matrix.grad == 128).all())
        free = torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else _free_memory()
        label = f"{place} ({device_name(place)})"
    except RuntimeError as error:
        words = str(error).partition("\n")[0]
        return Check("device", "fails", f"{place} does not compute ({words}); try another --device")
    if not right:
        return Check("device", "fails", f"{label} computes a wrong product; do not use it")
    if free is None:
        return Check("device", "ok", f"{label} computes")
    if free < LITTLE:
        text = (
            f"{label} has only {free / 1e6:.0f} MB of memory left; end what else runs there, or take another --device"
        )
        return Check("device", "warning", text)
    return Check("device", "ok", f"{label} computes, {free / 1e9:.1f} GB of memory free")


def _why_no_cuda(built_for: str | None, said: list[str]) -> str:
    """Why a GPU of this machine is not used and what to do; '' where there is none."""
    if not _has_gpu():
        return ""
    if built_for is None:
        return "there is an NVIDIA GPU, but PyTorch is built without CUDA: install its CUDA build"
    words = said[0].partition("\n")[0].partition(". ")[0] if said else "CUDA_VISIBLE_DEVICES may hide it"
    return f"there is an NVIDIA GPU that PyTorch cannot use: {words}"


def _has_gpu() -> bool:
    """Whether NVIDIA's driver knows a GPU here, whatever PyTorch says."""
    return Path("/dev/nvidia0").exists() or any(Path("/proc/driver/nvidia/gpus").glob("*"))


def _free_memory() -> int | None:
    """Bytes that this process may still take: of the machine, or of its container where that has a limit."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{part}").read_text().strip() for part in ("max", "current"))
        found += [max(0, int(limit) - int(used))] if limit != "max" else []
    except (OSError, ValueError):
        pass
    return min(found, default=None)
