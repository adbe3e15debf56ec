"""The benchmarks run and say what they measured; how fast they are is no test's business."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.bench import limits, search, steps, timing, training_steps
from hpo.bench.norms import measure_norms
from hpo.bench.search import measure_search
from hpo.models import ResNet18
from hpo.storage.ledger import Outcome, Work
from hpo.worker.trainer import Trainer

CPU = torch.device("cpu")


def test_steps_are_timed_beside_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    monkeypatch.setattr(limits, "COPIED", 2**20)
    monkeypatch.setattr(limits, "SQUARE", 128)
    lines: list[str] = []
    found = steps.measure(["none", "gnvr"], [1, 2], CPU, batch_size=4, show=lines.append)
    rows = {(row["regularizer"], row["population"]): row for row in found["rows"]}
    assert set(rows) == {(name, size) for name in ("none", "gnvr") for size in ("naive", 1, 2)}
    for name in ("none", "gnvr"):
        assert rows[name, "naive"]["times_naive"] == 1
        for row in (rows[name, 1], rows[name, 2]):
            assert row["times_naive"] == pytest.approx(rows[name, "naive"]["ms"] / row["ms"])
            assert row["model_steps_per_second"] == pytest.approx(1000 / row["ms"])
            assert row["operations"] > 0 and row["bytes"] > 0 and row["of_own_products"] > 0
            assert row["of_products"] == pytest.approx(
                row["operations"] / found["limits"]["operations"] / (row["ms"] / 1e3)
            )
            assert row["of_roofline"] == max(row["of_products"], row["of_copy"]) > 0
        assert rows[name, "naive"]["operations"] is rows[name, "naive"]["of_roofline"] is None
    assert rows["gnvr", 2]["operations"] > rows["none", 2]["operations"] == rows["none", 1]["operations"]
    assert len(lines) == 3 + len(rows)
    assert found["limits"]["operations"] > 0 and found["limits"]["bytes"] > 0


def test_mixed_precision_is_timed_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive loop and the population both run the network's products in bfloat16."""
    setting = training_steps.Setting("resnet18", 2, CPU, bfloat16=True)
    kinds: list[set[torch.dtype]] = []
    monkeypatch.setitem(training_steps.MODELS, "resnet18", (ResNet18(width=2, norm="group"), (3, 8, 8)))
    population, batch = training_steps.population_of("none", 1, setting)
    for step in (training_steps.naive_step("none", setting), lambda: population.step(*batch)):
        with limits._Products() as seen:
            step()
        kinds.append({operands[0].dtype for _, operands, _ in seen.calls})
    assert kinds == [{torch.bfloat16}, {torch.bfloat16}]


def work_of(name: str, models: int) -> limits.Work:
    """Of a step past the first ones, which check its trace."""
    population, batch = training_steps.population_of(name, models, training_steps.Setting("mlp", 8, CPU))
    for _ in range(3):
        population.step(*batch)
    return limits.work_of(lambda: population.step(*batch), population, batch)


LAYERS = [40 * 256, 256 * 256, 256 * 10]
PARAMETERS = sum(LAYERS) + 256 + 256 + 10


def test_a_steps_work_is_counted_by_hand() -> None:
    """An MLP 40-256-256-10 multiplies matrices forward, and twice backward but for the inputs' gradient."""
    work = work_of("none", 3)
    assert work.operations == 2 * 8 * (3 * sum(LAYERS) - LAYERS[0])
    # Weights, gradient and both moments read and written, the optimizer's step, 8 samples of 40 numbers and a label.
    assert work.bytes == 2 * 4 * (4 * PARAMETERS + 1) + 8 * (40 * 4 + 8)


def test_a_regularizers_state_is_moved_as_well() -> None:
    # VaSSO's direction and one number more, read and written.
    assert work_of("vasso", 2).bytes - work_of("sam", 2).bytes == 2 * 4 * (PARAMETERS + 1)


def test_a_steps_products_are_made_by_themselves() -> None:
    population, batch = training_steps.population_of("gnvr", 2, training_steps.Setting("mlp", 8, CPU))
    for _ in range(4):
        population.step(*batch)
    products = limits.products_of(lambda: population.step(*batch), CPU)
    with FlopCounterMode(display=False) as counter:
        products()
    assert counter.get_total_flops() / 2 == work_of("gnvr", 2).operations > 0


def test_populations_grow_while_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {1: 1.0, 2: 1.2, 4: 1.6, 8: 4.0, 16: 1.0}
    measured = {models: (whole / models, 0.5 * whole / models, limits.Work(1, 1)) for models, whole in taken.items()}
    monkeypatch.setattr(steps, "_measured", lambda _, models, *rest: measured[models])  # noqa: ARG005
    rows = list(steps._growing("none", None, training_steps.Setting("mlp", 8, CPU), 2.0, limits.Limits(4, 8)))
    assert [row["population"] for row in rows] == [1, 2, 4, 8]
    assert [row["times_naive"] for row in rows] == pytest.approx([2, 2 / 0.6, 5, 4])
    assert (rows[2]["of_products"], rows[2]["of_copy"]) == pytest.approx((0.625, 0.3125))
    assert rows[2]["of_own_products"] == pytest.approx(0.5)


def test_norms_are_timed_and_their_memory_is_weighed() -> None:
    population = 2
    lines: list[str] = []
    found = measure_norms("convnet1d", population, 256, CPU, lines.append)
    assert (found["model"], found["population"], found["batch_size"]) == ("convnet1d", population, 256)
    assert set(found["ways"]) == {"rules", "vmap(grad)"} and len(lines) == 3
    # Per-sample gradients of 256 samples take 4 bytes for each of the network's parameters and samples.
    parameters = sum(leaf.numel() for leaf in training_steps.MODELS["convnet1d"][0]().parameters())
    assert found["ways"]["vmap(grad)"]["mib"] > population * parameters * 256 * 4 / 2**20
    assert all(way["ms"] > 0 and way["mib"] >= 0 for way in found["ways"].values())


def tiny_trainer() -> Trainer:
    return Trainer(
        Study(
            data=Mnist1d(samples=120, label_noise=0.2),
            model=MLP((40, 8, 10)),
            baseline="A",
            configurations=(Configuration("A"), Configuration("B")),
            epochs=2,
            batch_size=20,
            name="tiny",
        ),
        CPU,
    )


def test_searches_side_by_side_are_the_searches_alone(one_thread: None) -> None:  # noqa: ARG001
    lines: list[str] = []
    both = measure_search(tiny_trainer(), "A", 12, [1, 4], repetitions=3, fresh_seeds=2, show=lines.append)
    assert [row["batch"] for row in both["rows"]] == [1, 4] and len(lines) == 4
    one, four = both["rows"]
    assert one["difference"] == 0 and len(one["quality"]) == len(four["quality"]) == 3
    differences = [b - a for a, b in zip(one["quality"], four["quality"], strict=True)]
    assert four["difference"] == pytest.approx(sum(differences) / 3)
    assert four["low"] <= four["difference"] <= four["high"]
    # In parts of one model each, as if every search had been run by itself.
    alone = measure_search(tiny_trainer(), "A", 12, [4], repetitions=3, fresh_seeds=2, side_by_side=1)
    assert alone["rows"][0]["quality"] == pytest.approx(four["quality"], abs=0.03)


def test_searches_side_by_side_are_not_pruned_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[float] = []

    def train(trainer: Trainer, work: Work) -> list[Outcome]:
        assert trainer.study.pruner is None
        trained.append(len(work.slots))
        return [Outcome(slot.id, slot.attempt, 0.5) for slot in work.slots]

    monkeypatch.setattr(Trainer, "__call__", train)
    trainer = tiny_trainer()
    trainer.study = dataclasses.replace(trainer.study, pruner=SuccessiveHalving(1, 2))
    measure_search(trainer, "A", 2, [1], repetitions=3, fresh_seeds=1)
    assert trained == [3, 3, 3] and trainer.study.pruner is not None


def test_a_search_learns_from_what_it_has_tried(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:  # noqa: ARG001
    asked: list[tuple[int, int]] = []

    def sample(ranges: Any, finished: Any, _: Any, count: int, *rest: Any) -> list[Any]:
        asked.append((len(finished), count))
        return real(ranges, finished, [], count, *rest)

    real = search.sample
    monkeypatch.setattr(search, "sample", sample)
    measure_search(tiny_trainer(), "A", 5, [2], repetitions=2, fresh_seeds=1)
    assert asked == [(0, 2), (0, 2), (2, 2), (2, 2), (4, 1), (4, 1)]
