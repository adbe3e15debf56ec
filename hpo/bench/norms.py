"""Benchmark: per-sample gradient norms by the layer rules, compared with `vmap(grad)` over the same population."""

import multiprocessing
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.func import vmap

from hpo.bench.table import OnRow, Row
from hpo.bench.timing import seconds
from hpo.bench.training_steps import MODELS, random_batch
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models.losses import cross_entropy
from hpo.training.devices import device_name

METHODS = {"rules": True, "vmap(grad)": False}
COLUMNS = {"method": (12, "{method}"), "ms/model": (10, "{ms:.3f}"), "MiB": (8, "{mib:.0f}")}


def measure(model: str, population: int, batch_size: int, device: torch.device, on_row: OnRow) -> Row:
    """Computes norms [population, batch_size] of a network's per-sample gradients by both methods.

    Both are timed in this process. The memory of each is its peak above the loaded network, in a separate process
    (CUDA, or Linux).

    Args:
        model: a key of `hpo.bench.training_steps.MODELS`.

    Returns:
        JSON values: the setting, and a row for each method with `ms` (per model) and `mib` (of the population).
    """
    steps = {method: _norms(model, population, batch_size, device, rules) for method, rules in METHODS.items()}
    torch.testing.assert_close(*(step() for step in steps.values()), rtol=1e-3, atol=1e-6)
    rows: list[Row] = []
    for method, step in steps.items():
        arguments = (model, population, batch_size, str(device), METHODS[method], torch.get_num_threads())
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            mib = pool.apply(_peak_memory, arguments)
        rows.append({"method": method, "ms": seconds(step, device) / population * 1e3, "mib": mib})
        on_row(rows[-1])
    setting = {"model": model, "population": population, "batch_size": batch_size, "threads": torch.get_num_threads()}
    return {"torch": torch.__version__, "device": device_name(device), **setting, "rows": rows}


def summary(result: Row) -> str:
    return (
        f"per-sample gradient norms of {result['model']}, population {result['population']}, "
        f"batch {result['batch_size']}, {result['device']}, {result['threads']} threads"
    )


def _norms(model: str, population: int, batch_size: int, device: torch.device, rules: bool) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    modules = [MODELS[model][0]().to(device) for _ in range(population)]
    inputs, labels = random_batch((population, 1, batch_size), MODELS[model][1], device)
    network = Network(modules[0], inputs[0, 0])
    if not rules:
        network.disable_rules("measured without them")
    trees = [{name: leaf.detach() for name, leaf in module.named_parameters()} for module in modules]

    def norms(params: dict[str, Tensor], views: Tensor, classes: Tensor) -> Tensor:
        return Objective(network, cross_entropy, views, classes).sample_grad_norms(params)

    if population == 1:  # as in training: no vmap for a single model
        return lambda: norms(trees[0], inputs[0], labels[0])[None]
    stacked = {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}
    return lambda: vmap(norms)(stacked, inputs, labels)


def _peak_memory(model: str, population: int, batch_size: int, device: str, rules: bool, threads: int) -> float:
    """Peak MiB of a call above what is loaded before it; the first call, which checks the rules, is not counted."""
    torch.set_num_threads(threads)
    step = _norms(model, population, batch_size, torch.device(device), rules)
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    before = _process_memory("VmRSS")
    step()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    step()
    return (_process_memory("VmHWM") - before) / 2**10


def _process_memory(name: str) -> int:
    """KiB of this process, now ("VmRSS") or at its peak ("VmHWM"); 0 where the system has no such file."""
    status = Path("/proc/self/status")
    return int(re.findall(rf"{name}:\s+(\d+) kB", status.read_text())[0]) if status.exists() else 0
