"""How many models train side by side: the rule, compared with counts by hand."""

import functools
from typing import Any

import pytest
import torch
from torch import nn

from hpo import MLP, Configuration, Mnist1d, Study, choice
from hpo.errors import UsageError
from hpo.models import ConvNet1d
from hpo.training.population_size import MAX_POPULATION, Cost, measure_cost, population_size
from hpo.trials import Slot, Work
from hpo.worker import trainer as trainer_module
from hpo.worker.trainer import Trainer

GIB = 2.0**30
SMALL, USUAL = Mnist1d(samples=200), MLP((40, 256, 256, 10))


def trainer(model: Any = USUAL, device: str = "cpu", **changes: Any) -> Trainer:
    configurations = (Configuration("A"), Configuration("B"))
    fields: dict[str, Any] = {"data": SMALL, "model": model, "baseline": "A", "configurations": configurations}
    return Trainer(Study(**(fields | changes)), device)


def cost(model: Any) -> Cost:
    subject = trainer(model)
    return measure_cost(subject.recipe(subject.configuration("A"), rerun=False))


def test_a_forward_pass_is_counted_as_by_hand() -> None:
    products, outputs = 40 * 256 + 256 * 256 + 256 * 10, 2 * 256 + 2 * 256 + 10  # of each layer, and of each ReLU
    parameters = products + 2 * 256 + 10
    assert cost(USUAL) == Cost(2 * products, 4 * outputs, 4 * parameters)


def test_small_networks_train_in_large_populations() -> None:
    assert population_size(cost(USUAL), 64, "cpu", 8 * GIB) == 8
    assert population_size(cost(USUAL), 64, "cuda", 80 * GIB) == MAX_POPULATION["cuda"]
    assert population_size(cost(MLP((40, 8, 10))), 64, "cpu", 8 * GIB) == MAX_POPULATION["cpu"]
    assert 8 <= population_size(cost(ConvNet1d()), 64, "cpu", 8 * GIB) <= MAX_POPULATION["cpu"]
    image = Cost(1.1e9, 8e6, 45_000_000)  # ResNet-18 on CIFAR
    assert population_size(image, 128, "cpu", 8 * GIB) == 1


def test_larger_batches_give_smaller_populations() -> None:
    sizes = [population_size(Cost(1e5, 1e3, 10**5), batch, "cpu", 8 * GIB) for batch in (16, 32, 64, 128, 4096)]
    assert sizes == [32, 26, 13, 6, 1]  # 0.25e9 / (3 × 1e5 × batch)


def test_memory_limits_the_population_where_work_is_small() -> None:
    table = Cost(0.0, 4e3, 400_000_000)  # an embedding, which multiplies nothing
    assert [population_size(table, 64, "cuda", gib * GIB) for gib in (16, 80)] == [1, 6]
    wide = Cost(1e3, 1e6, 4e3)
    assert population_size(wide, 64, "cuda", 8 * GIB) == int(8 * GIB / 4 / (8 * 4e3 + 4 * 64 * 1e6))
    assert population_size(table, 64, "cpu", float("inf")) == MAX_POPULATION["cpu"]


@pytest.mark.usefixtures("one_thread")
def test_measuring_leaves_global_generators_unchanged() -> None:
    before = torch.get_rng_state()
    assert cost(lambda: nn.Sequential(nn.Linear(40, 10), nn.BatchNorm1d(10), nn.Dropout())).operations == 800
    assert torch.equal(torch.get_rng_state(), before)


def test_a_convolution_is_counted_as_by_hand() -> None:
    def image() -> nn.Module:
        return nn.Sequential(nn.Unflatten(-1, (1, 5, 8)), nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(54, 10))

    assert cost(image).operations == 2 * 3 * 9 * (3 * 6) + 2 * 54 * 10


def test_a_trial_counts_as_its_number_of_models() -> None:
    assert trainer().size() == 8 and trainer(seeds_per_trial=3).size() == 2 and trainer(seeds_per_trial=20).size() == 1


def test_a_given_population_size_is_not_computed() -> None:
    def refused() -> nn.Module:
        raise AssertionError

    subject = trainer(refused)
    subject.limits.given = 5
    assert subject.size() == 5


def test_the_populations_of_a_configuration_do_not_depend_on_the_first_one() -> None:
    """The first one may have a batch size of its own, and another that of the study."""
    first, second = Configuration("A", space={"batch_size": 16}), Configuration("B")
    limits = []
    for configurations in ((first, second), (second, first)):
        subject = trainer(data=Mnist1d(samples=2000), batch_size=1024, configurations=configurations)
        subject.size()
        limits.append(subject.limits.of("B", (), 100))
    assert limits == 2 * [population_size(cost(USUAL), 1024, "cpu", 8 * GIB)]


def test_a_broken_network_fails_in_training() -> None:
    def broken() -> nn.Module:
        raise ValueError("no network")

    def refused() -> nn.Module:
        raise UsageError("no network; write one")

    assert trainer(broken).size() == MAX_POPULATION["cpu"]
    with pytest.raises(UsageError, match="write one"):
        trainer(refused).size()


@pytest.mark.usefixtures("one_thread")
def test_each_shape_has_a_population_size_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide network trains in smaller populations than the narrow one that the leases are made for."""
    populations: list[tuple[int, int]] = []
    train = trainer_module.train

    def counted(recipe: Any, members: Any, *rest: Any, **options: Any) -> Any:
        populations.append((recipe.model.keywords["width"], len(members)))
        return train(recipe, members, *rest, **options)

    def network(width: int) -> nn.Module:
        return MLP((40, width, width, 10))()

    monkeypatch.setattr(trainer_module, "train", counted)
    space = {"model.width": choice(8, 512)}
    subject = trainer(
        network, epochs=1, configurations=(Configuration("A", space=space), Configuration("B", space=space))
    )
    assert subject.size() == MAX_POPULATION["cpu"]
    rate = {"learning_rate": 0.001, "weight_decay": 0.0}
    slots = [Slot(n, n, 0, 1, {**rate, "model.width": width}) for n, width in enumerate([8, 512] * 5)]
    subject(Work("A", "tune", slots))
    wide = population_size(cost(functools.partial(network, width=512)), 64, "cpu", 8 * GIB)
    assert 1 <= wide < 5
    assert [count for width, count in populations if width == 8] == [5]
    assert max(count for width, count in populations if width == 512) <= wide
    assert sum(count for width, count in populations if width == 512) == 5
