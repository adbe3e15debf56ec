"""The devices for training: whether they exist, compute correctly, and have memory left."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.cli.doctor.check import Check
from hpo.errors import HpoError

if TYPE_CHECKING:
    import torch

MIN_MEMORY = 10**9  # bytes


def check_device(name: str) -> list[Check]:
    """One result for each device that `--device name` means; `auto` and `cuda` mean all GPUs."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        reason = str(error).partition("\n")[0]
        return [Check("device", "fails", f"PyTorch cannot be loaded ({reason}); reinstall it")]
    from hpo.training.devices import choose_device

    with warnings.catch_warnings(record=True) as caught:  # PyTorch warns why it cannot use a GPU
        warnings.simplefilter("always")
        try:
            chosen, failure = choose_device(name), ""
        except HpoError as error:
            chosen, failure = torch.device("cpu"), str(error)
    unused = _why_no_cuda(torch.version.cuda, [str(entry.message) for entry in caught])
    if failure:
        return [Check("device", "fails", f"{failure} ({unused})" if unused else failure)]
    if chosen.type == "cuda":
        numbers = [chosen.index] if chosen.index is not None else range(torch.cuda.device_count())
        return [_try(torch.device("cuda", number)) for number in numbers]
    if name == "auto" and unused:
        return [_try(chosen), Check("device", "warning", f"{unused}; until then training runs on the CPU")]
    return [_try(chosen)]


def _try(device: "torch.device") -> Check:
    """Multiplies two small matrices on the device, with a gradient."""
    import torch

    from hpo.training.devices import device_name

    try:
        matrix = torch.ones(64, 64, device=device, requires_grad=True)
        (matrix @ matrix).sum().backward()
        right = matrix.grad is not None and bool((matrix.grad == 128).all())
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        label = f"{device} ({device_name(device)})"
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        return Check("device", "fails", f"{device} does not compute ({reason}); use another --device")
    if not right:
        return Check("device", "fails", f"{label} computes a wrong product; use another --device")
    if free is not None and free < MIN_MEMORY:
        text = f"{label} has only {free / 1e6:.0f} MB of free memory; end other programs there, or use another --device"
        return Check("device", "warning", text)
    return Check("device", "ok", f"{label} works" + ("" if free is None else f", {free / 1e9:.1f} GB of memory free"))


def _why_no_cuda(built_for: str | None, messages: list[str]) -> str:
    """Why a GPU of this machine is not used and what to do; '' if there is no GPU."""
    if not _has_gpu():
        return ""
    if built_for is None:
        return "there is an NVIDIA GPU, but PyTorch is built without CUDA; install its CUDA build"
    reason = messages[0].partition("\n")[0].partition(". ")[0] if messages else "CUDA_VISIBLE_DEVICES may hide it"
    return f"there is an NVIDIA GPU that PyTorch cannot use: {reason}"


def _has_gpu() -> bool:
    """Whether NVIDIA's driver knows a GPU of this machine, whatever PyTorch says."""
    return Path("/dev/nvidia0").exists() or any(Path("/proc/driver/nvidia/gpus").glob("*"))
