"""Benchmark: per-sample gradient norms by the per-layer rules, beside `vmap(grad)` over the same population."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hpo.bench import memory
from hpo.bench.training_steps import MODELS, random_batch
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.models.losses import cross_entropy
from hpo.training.devices import device_name, synchronize

WAYS = {"rules": True, "vmap(grad)": False}
REPETITIONS = 15
SECONDS = 20.0  # after which fewer repetitions do


def measure_norms(
    model: str, population: int, batch_size: int, device: torch.device, show: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Norms [population, batch_size] of a network's per-sample gradients, computed both ways.

    Both are timed in turn in this process; each one's memory is the peak above the loaded network, in a process of
    its own.

    Args:
        model: a key of `hpo.bench.training_steps.MODELS`. show: told a line of a table as each figure is known.

    Returns:
        JSON values: the setting, and for each way `ms` (per model) and `mib` (of the whole population; `mib_first` at
        the first call, which compares the rules with per-sample gradients of a few samples).
    """
    steps = {way: _question(model, population, batch_size, device, rules) for way, rules in WAYS.items()}
    torch.testing.assert_close(*(step() for step in steps.values()), rtol=1e-3, atol=1e-6)
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    begun = time.perf_counter()
    while len(seconds["rules"]) < REPETITIONS and (len(seconds["rules"]) < 3 or time.perf_counter() < begun + SECONDS):
        for way, step in steps.items():
            start = time.perf_counter()
            step()
            synchronize(device)
            seconds[way].append(time.perf_counter() - start)
    del steps
    ways = {}
    for way, found in seconds.items():
        first, later = _memory(model, population, batch_size, device, WAYS[way])
        ways[way] = {"ms": statistics.median(found) / population * 1e3, "mib": later, "mib_first": first}
    setting = {"model": model, "population": population, "batch_size": batch_size, "threads": torch.get_num_threads()}
    if show:
        show(
            f"per-sample gradient norms of {model}, population {population}, batch {batch_size}, {device_name(device)}"
        )
        for way, row in ways.items():
            memory = f"{row['mib']:8.0f} MiB, {row['mib_first']:.0f} at the first call"
            show(f"{way:12} {row['ms']:10.3f} ms/model {memory}")
    return {"torch": torch.__version__, "device": device_name(device), **setting, "ways": ways}


def _question(model: str, population: int, batch_size: int, device: torch.device, rules: bool) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    modules = [MODELS[model][0]().to(device) for _ in range(population)]
    inputs, labels = random_batch((population, 1, batch_size), MODELS[model][1], device)
    network = Network(modules[0], inputs[0, 0])
    if not rules:
        network.without_rules("measured without them")
    trees = [{name: leaf.detach() for name, leaf in module.named_parameters()} for module in modules]

    def norms(params: dict[str, Tensor], own: Tensor, classes: Tensor) -> Tensor:
        return Objective(network, cross_entropy, own, classes).sample_grad_norms(params)

    if population == 1:  # as in training: a single model is not lifted
        return lambda: norms(trees[0], inputs[0], labels[0])[None]
    stacked = {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}
    return lambda: vmap(norms)(stacked, inputs, labels)


def _memory(model: str, population: int, batch_size: int, device: torch.device, rules: bool) -> tuple[float, float]:
    """Peak MiB of the first and of a second call above what is loaded before them, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (model, population, batch_size, str(device), rules, torch.get_num_threads()))


def _peak(model: str, population: int, batch_size: int, device: str, rules: bool, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    step = _question(model, population, batch_size, torch.device(device), rules)
    before = _in_use(device)
    peaks = []
    for _ in range(2):
        _forget_peak(device)
        step()
        peaks.append(_peak_so_far(device) - before)
    return peaks[0], peaks[1]


def _in_use(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device) / 2**20
    return memory.in_use()


def _forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    memory.forget_peak()


def _peak_so_far(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return memory.peak()
