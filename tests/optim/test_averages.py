"""Averages of the weights, as sums over all earlier weights; what is evaluated, saved and kept."""

import io
from typing import Any

import pytest
import references
import torch
from networks import CLASSES, FEATURES
from populations import batches
from torch import Tensor, nn
from torch_loops import MEMBERS, batch, modules, populate

from hpo import MLP, Configuration, Mnist1d, Study
from hpo.errors import UsageError
from hpo.gradients.draws import Moment
from hpo.optim.averages import EMA, SWA
from hpo.optim.optimizers import OPTIMIZERS, per_model
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import from_torch
from hpo.search_space import linear_range, log_range
from hpo.snippet.average_text import average_lines
from hpo.study.configuration_options import check_options
from hpo.study.definition import describe
from hpo.training.population import Population
from hpo.tree import Tree
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

DECAYS = (0.0, 0.5, 0.99)
SGD = {"momentum": 0.9, "weight_decay": 0.0}


def normalized() -> list[nn.Module]:
    """Networks with BatchNorm."""
    networks: list[nn.Module] = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        layers = nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES)
        networks.append(nn.Sequential(*layers).double())
    return networks


def averaged(average: Any, **values: Any) -> Population:
    return populate(OPTIMIZERS["sgd"], normalized(), average=average, **SGD, **values)


def step(population: Population, number: int, rows: Any = range(MEMBERS)) -> dict[str, Tensor]:
    """One step; returns the parameters and the floating-point buffers after it."""
    inputs, labels = (part[list(rows)] for part in batch(number))
    keys = torch.zeros(len(labels), dtype=torch.int64)
    population.step(inputs, labels, moment=Moment(keys, keys + number, keys + 1 + number // 4))
    return weights(population.params, population.buffers)


def weights(params: Tree, buffers: Tree) -> dict[str, Tensor]:
    floats = {name: leaf for name, leaf in buffers.items() if leaf.is_floating_point()}
    return {name: leaf.clone() for name, leaf in (params | floats).items()}


def evaluated(population: Population) -> dict[str, Tensor]:
    """The parameters and buffers with which the population's losses are computed."""
    inputs, labels = batches([77], 8)
    models = len(population)
    indices = torch.arange(8).expand(models, -1)
    ones = torch.ones(models, 8, dtype=torch.float64)
    [metrics] = population.evaluate(inputs[0, 0], indices, ones, labels.expand(models, -1))
    state = population.average_state
    network = normalized()[0].eval()
    for member in range(models):
        used = {name: leaf[member] for name, leaf in {**state["params"], **state["buffers"]}.items()}
        outputs = torch.func.functional_call(network, used, (inputs[0, 0],))
        loss = references.cross_entropy(outputs, labels[0]).mean()
        assert float(metrics["loss"][member]) == pytest.approx(float(loss), rel=1e-12)
    return weights(state["params"], state["buffers"])


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, leaf in expected.items():
        torch.testing.assert_close(actual[name], leaf, rtol=1e-12, atol=1e-13, msg=name)


def test_ema_is_the_weighted_mean_of_all_weights_after_steps() -> None:
    population, history = averaged(EMA(), ema_decay=0.9), []
    population.hyperparameters["ema_decay"] = torch.tensor(DECAYS, dtype=torch.float64)
    for number in range(7):
        history.append(step(population, number))
        expected = {}
        for name in history[0]:
            rows = []
            for member, decay in enumerate(DECAYS):
                terms = [decay ** (number - index) * each[name][member] for index, each in enumerate(history)]
                rows.append((1 - decay) * sum(terms) / (1 - decay ** (number + 1)))
            expected[name] = torch.stack(rows)
        assert_same(evaluated(population), expected)
        assert_same({name: leaf[0] for name, leaf in expected.items()}, {n: v[0] for n, v in history[-1].items()})
    assert int(population.average_state["buffers"]["1.num_batches_tracked"][0]) == 7


@pytest.mark.parametrize(("start", "first"), [(0.5, 4), (2, 3), (0, 1), (0.99, 6)])
def test_swa_is_the_mean_of_the_weights_at_the_ends_of_the_last_epochs(start: float, first: int) -> None:
    """Six epochs of four steps; `first` is the first epoch whose end counts."""
    population, ends = averaged(SWA(), swa_start=start), []
    for epoch in range(1, 7):
        for number in range(4):
            last = step(population, 4 * (epoch - 1) + number)
        population.finish_epoch(epoch, 6)
        ends.append(last)
        counted = ends[first - 1 :] or ends[-1:]
        expected = {name: sum(each[name] for each in counted) / len(counted) for name in last}
        assert_same(evaluated(population), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epochs", [*range(1, 31), 50, 100, 300])
def test_swa_starts_after_the_share_of_the_run(epochs: int, dtype: torch.dtype) -> None:
    """For every share in percent, computed in whole numbers; in a script as well."""
    percents = range(1, 100)
    first = torch.tensor([1 + percent * epochs // 100 for percent in percents])
    hyper = {"swa_start": torch.tensor([percent / 100 for percent in percents], dtype=dtype)}
    state = SWA().init({"w": torch.zeros(99)}, {})
    for epoch in range(1, epochs + 1):
        SWA().after_epoch(state, {"w": torch.full((99,), float(epoch))}, {}, hyper, epoch, epochs)
    counted = [range(min(int(each), epochs), epochs + 1) for each in first]
    means = torch.tensor([sum(each) / len(each) for each in counted])
    torch.testing.assert_close(state["params"]["w"], means, rtol=1e-4, atol=0)
    for percent, each in zip(percents, first.tolist(), strict=True):
        [line] = average_lines(SWA(), {"swa_start": percent / 100}, epochs).after_epoch
        assert line.endswith(f"1 / max(1, epoch - {each - 1}))")


@pytest.mark.parametrize("average", [EMA(), SWA()])
def test_averages_are_saved_and_kept(average: Any) -> None:
    values = average.hyperparameters
    full, loaded, pruned = (averaged(average, **values) for _ in range(3))

    def epochs(population: Population, numbers: range, rows: Any = range(MEMBERS)) -> None:
        for epoch in numbers:
            for number in range(3):
                step(population, 3 * epoch + number, rows)
            population.finish_epoch(epoch + 1, 4)

    epochs(full, range(3))
    epochs(pruned, range(2))
    pruned.keep([0, 2])
    epochs(pruned, range(2, 4), [0, 2])
    buffer = io.BytesIO()
    torch.save(full.states(), buffer)
    buffer.seek(0)
    loaded.restore(torch.load(buffer, weights_only=True))
    epochs(loaded, range(3, 4))
    epochs(full, range(3, 4))
    assert_same(evaluated(loaded), evaluated(full))
    assert_same(evaluated(pruned), {name: leaf[[0, 2]] for name, leaf in evaluated(full).items()})


def slow_update(grads: Tree, state: Any, params: Tree, hyper: Tree) -> tuple[Tree, Any]:
    """Gradient descent that keeps the mean of all weights."""
    moved = {name: leaf - hyper["learning_rate"] * grads[name] for name, leaf in params.items()}
    count = state["count"] + 1
    return moved, {
        "count": count,
        "mean": {name: mean + (moved[name] - mean) / count for name, mean in state["mean"].items()},
    }


def slow_init(params: Tree) -> Any:
    return {"count": torch.zeros((), dtype=torch.float64), "mean": {name: 0 * leaf for name, leaf in params.items()}}


OWN = per_model("own", slow_init, slow_update, {"learning_rate": 0.1}, evaluated=lambda _, state: state["mean"])


def test_an_optimizer_may_say_which_weights_are_evaluated() -> None:
    population, history = populate(OWN, modules()), []
    inputs, labels = batches([77], 8)
    for number in range(5):
        population.step(*batch(number))
        history.append({name: leaf.clone() for name, leaf in population.params.items()})
        indices = torch.arange(8).expand(MEMBERS, -1)
        ones = torch.ones(MEMBERS, 8, dtype=torch.float64)
        [metrics] = population.evaluate(inputs[0, 0], indices, ones, labels.expand(MEMBERS, -1))
        for member in range(MEMBERS):
            mean = {name: sum(each[name][member] for each in history) / len(history) for name in history[0]}
            outputs = torch.func.functional_call(modules()[0], mean, (inputs[0, 0],))
            loss = references.cross_entropy(outputs, labels[0]).mean()
            assert float(metrics["loss"][member]) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("returned", [None, {}, {"linear1.weight": torch.zeros(2)}])
def test_wrong_evaluated_weights_are_refused(returned: Any) -> None:
    optimizer = OPTIMIZERS["sgd"]._replace(name="own", evaluated=lambda *_: returned)
    population = populate(optimizer, modules(), **SGD)
    with pytest.raises(UsageError, match="optimizer 'own': its evaluated"):
        population.states()


class Switching(torch.optim.SGD):
    def eval(self) -> None:
        pass


def test_two_averages_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'own' has evaluated=\.\.\. itself; leave out average"):
        check_options(Configuration("A", optimizer=OWN, average=EMA()))
    with pytest.raises(UsageError, match=r"'Switching' has weights of its own that are evaluated"):
        populate(from_torch(Switching, lr=0.1), modules(), average=EMA(), ema_decay=0.9)
    for wrong in (EMA, 0.999, "ema"):
        with pytest.raises(UsageError, match=r"average is .*; give hpo.EMA\(\) or hpo.SWA\(\), or None"):
            check_options(Configuration("A", average=wrong))


@pytest.mark.parametrize(
    ("average", "field"),
    [(lambda: EMA(1), "EMA: decay"), (lambda: EMA(linear_range(0.9, 1)), "EMA: decay"), (lambda: SWA(-1), "SWA: start"),
     (lambda: EMA("high"), "EMA: decay")],
)  # fmt: skip
def test_wrong_averages_are_refused(average: Any, field: str) -> None:
    with pytest.raises(UsageError, match=rf"^{field} is .*; give a "):
        average()


def study(**fields: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B", **fields))
    data, model = Mnist1d(samples=200, label_noise=0.2), MLP((40, 8, 10))
    return Study(data=data, model=model, configurations=configurations, baseline="A", epochs=4, batch_size=32)


def final(average: Any, **setting: float) -> dict[str, float]:
    trainer = Trainer(study(average=average), "cpu")
    return trainer.try_once("B", trainer.setting_to_try("B", setting), seed=0).final


def test_a_study_evaluates_the_average() -> None:
    plain = final(None)
    assert final(EMA(0.0)) == plain
    assert final(SWA(start=3)) == plain
    slow = final(EMA(log_range(0.9, 0.99)), ema_decay=0.95)
    assert slow["validation_loss"] != plain["validation_loss"] and slow["train_loss"] != plain["train_loss"]
    assert final(SWA(start=0)) != plain


def test_the_average_is_in_the_definition_and_its_decay_is_a_hyperparameter() -> None:
    entry = describe(study(average=EMA(log_range(0.9, 0.99)), space={"weight_decay": 0.1}))["configurations"][1]
    assert entry["average"] == "EMA" and entry["space"]["ema_decay"]["low"] == 0.9
    assert describe(study(average=SWA(), space={"swa_start": 0.5}))["configurations"][1]["space"]["swa_start"] == 0.5
    with pytest.raises(UsageError, match="space names 'ema_decay'"):
        describe(study(space={"ema_decay": 0.5}))


def test_regularizers_get_the_trained_weights() -> None:
    """The average changes nothing in training."""
    rho = REGULARIZERS["sam"].hyperparameters.keys()
    values = SGD | dict.fromkeys(rho, 0.1)
    plain = populate(OPTIMIZERS["sgd"], modules(), "sam", **values)
    other = populate(OPTIMIZERS["sgd"], modules(), "sam", average=EMA(), ema_decay=0.9, **values)
    for number in range(5):
        for population in (plain, other):
            population.step(*batch(number))
        evaluated_params = other.average_state["params"]
    for name, leaf in plain.params.items():
        assert torch.equal(other.params[name], leaf) and evaluated_params[name].shape == leaf.shape
