"""The benchmarks of training steps, norms and start-up say what they measured; no test depends on how fast they are."""

import itertools
import json
import time
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from hpo.bench import limits, norms, startup, steps, timing, training_steps
from hpo.bench.table import Table
from hpo.bench.training_steps import Setting
from hpo.cli import app
from hpo.errors import HpoError
from hpo.models import ResNet
from hpo.training import step_times
from tests.bench.tables import check_table

CPU = torch.device("cpu")
LAYERS = [40 * 256, 256 * 256, 256 * 10]
PARAMETERS = sum(LAYERS) + 256 + 256 + 10


def test_steps_are_timed_and_compared_with_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    monkeypatch.setattr(limits, "COPIED", 2**20)
    monkeypatch.setattr(limits, "SQUARE", 128)
    printed: list[Any] = []
    result = steps.measure(["none", "gnvr"], [1, 2], Setting("mlp", 4, CPU), printed.append)
    assert result["rows"] == printed
    check_table(steps, result, printed[-1])
    rows = {(row["regularizer"], row["population"]): row for row in result["rows"]}
    assert set(rows) == {(name, size) for name in ("none", "gnvr") for size in ("naive", 1, 2)}
    rates = result["limits"]
    for name in ("none", "gnvr"):
        naive = rows[name, "naive"]
        assert naive["times_naive"] == 1 and "mflop" not in naive
        for row in (rows[name, 1], rows[name, 2]):
            seconds = row["ms"] / 1e3
            assert row["times_naive"] == pytest.approx(row["naive_ms"] / row["ms"])
            assert row["model_steps_per_second"] == pytest.approx(1 / seconds)
            assert row["products_share"] == pytest.approx(row["mflop"] * 1e6 / rates["operations"] / seconds)
            assert row["copies_share"] == pytest.approx(row["mb"] * 1e6 / rates["bytes"] / seconds)
            assert row["roofline_share"] == max(row["products_share"], row["copies_share"]) > 0
            assert row["own_products_share"] > 0
    assert rows["gnvr", 2]["mflop"] > rows["none", 2]["mflop"] == rows["none", 1]["mflop"]


def test_a_table_leaves_cells_empty_that_a_row_does_not_have() -> None:
    lines: list[str] = []
    table = Table({"name": (4, "{name}"), "ms": (6, "{ms:.2f}"), "share": (5, "{rate[share]:.0%}")}, lines.append)
    table({"name": "a", "ms": 1.234, "rate": {"share": 0.5}})
    table({"name": "b", "rate": None})
    assert lines == ["name      ms  share", "   a    1.23    50%", "   b"]


def test_mixed_precision_is_timed_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive loop and the population both compute the network's products in bfloat16."""
    setting = Setting("resnet18", 2, CPU, bfloat16=True)
    monkeypatch.setitem(training_steps.MODELS, "resnet18", (ResNet(width=2, norm="group"), (3, 8, 8)))
    population, batch = training_steps.make_population("none", 1, setting)
    for step in (training_steps.naive_step("none", setting), lambda: population.step(*batch)):
        with limits.ProductRecorder() as recorder:
            step()
        assert {operands[0].dtype for _, operands, _ in recorder.calls} == {torch.bfloat16}


def count_work(name: str, models: int) -> limits.Amount:
    """The work of a step after the first ones, which check its trace."""
    population, batch = training_steps.make_population(name, models, Setting("mlp", 8, CPU))
    for _ in range(3):
        population.step(*batch)
    return limits.count_work(lambda: population.step(*batch), population, batch)


def test_a_steps_work_is_counted_by_hand() -> None:
    """An MLP 40-256-256-10 multiplies matrices forward, and twice backward except for the inputs' gradient."""
    work = count_work("none", 3)
    assert work.operations == 2 * 8 * (3 * sum(LAYERS) - LAYERS[0])
    # Weights, gradient and both moments read and written, the optimizer's step, 8 samples of 40 numbers and a label.
    assert work.bytes == 2 * 4 * (4 * PARAMETERS + 1) + 8 * (40 * 4 + 8)
    # VaSSO has a direction and one number more than SAM, read and written.
    assert count_work("vasso", 2).bytes - count_work("sam", 2).bytes == 2 * 4 * (PARAMETERS + 1)


def test_a_steps_products_are_computed_alone() -> None:
    population, batch = training_steps.make_population("gnvr", 2, Setting("mlp", 8, CPU))
    for _ in range(4):
        population.step(*batch)
    products = limits.extract_products(lambda: population.step(*batch), CPU)
    with FlopCounterMode(display=False) as counter:
        products()
    assert counter.get_total_flops() / 2 == count_work("gnvr", 2).operations > 0


def test_populations_grow_while_models_get_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {1: 1.0, 2: 1.2, 4: 1.6, 8: 4.0, 16: 1.0}
    measured = {
        models: (step / models, 2.0, 0.5 * step / models, limits.Amount(1, 1)) for models, step in seconds.items()
    }
    monkeypatch.setattr(steps, "naive_step", lambda *_: None)
    monkeypatch.setattr(steps, "seconds", lambda *_: 2.0)
    monkeypatch.setattr(steps, "_measure_population", lambda _, models, *__: measured[models])
    rows = list(steps._measure_regularizer("none", None, Setting("mlp", 8, CPU), limits.Amount(4, 8)))
    assert [row["population"] for row in rows] == ["naive", 1, 2, 4, 8]
    assert [row["times_naive"] for row in rows] == pytest.approx([1, 2, 2 / 0.6, 5, 4])
    assert [rows[3][key] for key in ("products_share", "copies_share", "own_products_share")] == pytest.approx(
        [0.625, 0.3125, 0.5]
    )


def test_steps_that_are_compared_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own median, over series that alternate."""
    monkeypatch.setattr(timing, "SECONDS", 0.07)
    calls: list[str] = []

    def step(name: str, duration: float) -> None:
        calls.append(name)
        end = time.process_time() + duration
        while time.process_time() < end:
            pass

    medians = timing.seconds_in_turns([lambda: step("short", 1e-3), lambda: step("long", 5e-3)], CPU)
    assert 1e-3 <= medians[0] < medians[1] and medians[1] >= 5e-3
    series = [name for name, _ in itertools.groupby(calls)]
    assert series == ["short", "long"] * (2 + step_times.ROUNDS)


def test_norms_are_timed_and_their_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    population = 2
    rows: list[Any] = []
    result = norms.measure("convnet1d", population, 256, CPU, rows.append)
    assert (result["model"], result["population"], result["batch_size"]) == ("convnet1d", population, 256)
    check_table(norms, result, rows[0])
    assert [row["method"] for row in rows] == ["rules", "vmap(grad)"] and all(row["ms"] > 0 for row in rows)
    # Per-sample gradients of 256 samples take 4 bytes for each of the network's parameters and samples.
    parameters = sum(leaf.numel() for leaf in training_steps.MODELS["convnet1d"][0]().parameters())
    assert rows[1]["mib"] > population * parameters * 256 * 4 / 2**20


def test_startup_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["bench", "startup", "--json", "--repetitions", "1", "--device", "cpu"])
    measured = json.loads(result.stdout)
    start, step, run = measured["rows"]
    check_table(startup, measured, start)
    assert (start["part"], start["limit_seconds"]) == ("hpo --help", 0.5)
    for row in (start, step):
        assert 0 < row["minimum"] <= row["seconds"] and row["processor_seconds"] > 0
    assert start["mib"] < 100 < step["mib"]
    assert (run["part"], run["seconds"]) == (startup.RUN, run["minimum"]) and run["seconds"] > start["seconds"]
    rows = {"rows": [], "cores": 2, "load": 0.5, "repetitions": 3}
    monkeypatch.setattr(startup, "measure", lambda *_, **__: rows)
    printed = CliRunner().invoke(app, ["bench", "startup"]).stdout
    assert printed.split()[0] == "part" and printed.splitlines()[-1] == startup.summary(rows)


def test_a_commands_own_time_and_memory_are_measured() -> None:
    program = "import time; time.sleep(0.2); kept = bytearray(200 << 20)"
    small, large = (startup.time_command(["-S", "-c", text], 1) for text in ("0", program))
    assert small["mib"] < 100 and 190 < large["mib"] - small["mib"] < 220  # not those of this process
    assert large["minimum"] >= 0.2
    with pytest.raises(HpoError, match="exit code 1: ZeroDivisionError"):
        startup.time_command(["-c", "0 / 0"], 1)
