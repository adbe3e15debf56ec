"""The device of every worker."""

import gc
import subprocess
import sys

import pytest
import torch

from hpo import reference_cycles
from hpo.training import devices
from hpo.training.devices import cpu_cores, describe_workers, worker_devices


@pytest.mark.parametrize(
    ("device", "workers", "places"),
    [
        ("cuda", None, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 1, ["cuda:0"]),
        ("cuda:1", None, ["cuda:1"]),
        ("cuda:1", 2, ["cuda:1", "cuda:1"]),
        ("cpu", 3, ["cpu", "cpu", "cpu"]),
    ],
)
def test_worker_devices(device: str, workers: int | None, places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert worker_devices(torch.device(device), workers, 12) == places


def test_on_the_cpu_there_is_one_worker_per_core_or_two_per_tuning_run() -> None:
    assert worker_devices(torch.device("cpu"), None, 1) == ["cpu"] * min(2, cpu_cores())
    assert worker_devices(torch.device("cpu"), None, 10_000) == ["cpu"] * cpu_cores()


def test_describe_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"cuda:0": "H100", "cuda:1": "H100", "cuda:2": "A10", "cpu": "EPYC"}
    monkeypatch.setattr(devices, "device_name", lambda device: names[str(device)])
    assert describe_workers(["cpu"]) == "1 worker on cpu (EPYC)"
    assert describe_workers(["cuda:0", "cuda:1", "cuda:0"]) == "3 workers on cuda:0, cuda:1 (H100)"
    assert describe_workers(["cuda:0", "cuda:2"]) == "2 workers on cuda:0 (H100) and cuda:2 (A10)"


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_process_works_on_its_own_gpu_whatever_launches_there(
    name: str, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton launches on the current GPU, wherever its tensors are."""
    seen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.append(str(device)))
    devices.prepare_process(torch.get_num_threads(), torch.device(name))
    assert seen == chosen


def test_a_process_that_trains_searches_for_reference_cycles_as_usual() -> None:
    """A few objects that refer to each other may hold the memory of many steps."""
    usual = gc.get_threshold()
    try:
        reference_cycles.search_rarely()
        assert gc.get_threshold()[0] > 10 * usual[0]
        devices.prepare_process(torch.get_num_threads(), torch.device("cpu"))
        assert gc.get_threshold() == usual
        gc.set_threshold(321, 5, 5)  # as a user of a notebook may have chosen
        devices.prepare_process(torch.get_num_threads(), torch.device("cpu"))
        assert gc.get_threshold() == (321, 5, 5)
    finally:
        gc.set_threshold(*usual)


def test_pytorchs_own_warnings_reach_nobody() -> None:
    program = """
import torch
from hpo.training.devices import prepare_process
prepare_process(1, torch.device("cpu"))
print(torch.nn.LSTM(2, 3, proj_size=2)(torch.zeros(4, 1, 2))[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    untouched = program.replace("prepare_process(1,", "(lambda *_: 0)(1,")
    assert (
        "Triggered internally"
        in subprocess.run([sys.executable, "-c", untouched], capture_output=True, text=True).stderr
    )
