"""The benchmarks run and say what they measured; how fast they are is no test's business."""

import pytest
import torch

from hpo import bench
from hpo.bench_norms import measure_norms

CPU = torch.device("cpu")


def test_steps_are_timed_beside_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    lines: list[str] = []
    found = bench.measure(["none", "gnvr"], [1, 2], CPU, batch_size=4, show=lines.append)
    rows = {(row["regularizer"], row["population"]): row for row in found["rows"]}
    assert set(rows) == {(name, size) for name in ("none", "gnvr") for size in ("naive", 1, 2)}
    for name in ("none", "gnvr"):
        assert rows[name, "naive"]["times_naive"] == 1
        for row in (rows[name, 1], rows[name, 2]):
            assert row["times_naive"] == pytest.approx(rows[name, "naive"]["ms"] / row["ms"])
            assert row["model_steps_per_second"] == pytest.approx(1000 / row["ms"])
    assert len(lines) == 2 + len(rows)


@pytest.mark.parametrize("population", [1, 2])
def test_norms_are_timed_and_their_memory_is_weighed(population: int) -> None:
    lines: list[str] = []
    found = measure_norms("convnet1d", population, 256, CPU, lines.append)
    assert (found["model"], found["population"], found["batch_size"]) == ("convnet1d", population, 256)
    assert set(found["ways"]) == {"rules", "vmap(grad)"} and len(lines) == 3
    # Per-sample gradients of 256 samples take 4 bytes for each of the network's parameters and samples.
    parameters = sum(leaf.numel() for leaf in bench.MODELS["convnet1d"][0]().parameters())
    assert found["ways"]["vmap(grad)"]["mib"] > population * parameters * 256 * 4 / 2**20
    assert all(way["ms"] > 0 and way["mib"] >= 0 for way in found["ways"].values())
