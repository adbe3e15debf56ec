"""Inputs other than float32 (integers, booleans, half precision) train as in a plain loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import references
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.data import Dataset, Source, split
from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Range
from hpo.training.initial_models import build_population
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe
from hpo.training.samples import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, BATCH, CLASSES = 2, 8, 3


class Scaled(nn.Module):
    """Converts its inputs to the dtype of its parameters, around 0."""

    def __init__(self, size: float = 1.0) -> None:
        super().__init__()
        self.hidden, self.last, self.size = nn.Linear(6, 5), nn.Linear(5, CLASSES), size

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.hidden(inputs.to(self.last.weight.dtype) / self.size - 0.5).tanh())


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(9, 5, padding_idx=0), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.words(inputs).mean(1))


@dataclass(frozen=True)
class Kind(Dataset):
    """Samples of a dtype, whose numbers follow the label."""

    kind: str = "uint8"
    high: int = 256

    def load(self) -> Source:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(90) % CLASSES
        inputs = torch.randint(self.high, (90, 6), generator=generator)
        inputs[:, 0] = labels * (self.high // CLASSES)
        inputs = inputs.to(getattr(torch, self.kind))
        return Source(inputs[:60], labels[:60], inputs[60:], labels[60:], CLASSES)


KINDS: dict[str, tuple[Kind, Callable[[], nn.Module]]] = {
    "bytes": (Kind(), lambda: Scaled(255.0)),
    "bytes, float64 network": (Kind(), lambda: Scaled(255.0).double()),
    "int16": (Kind(kind="int16"), lambda: Scaled(255.0)),
    "tokens": (Kind(kind="int64", high=9), Words),
    "short tokens": (Kind(kind="int32", high=9), Words),
    "truth values": (Kind(kind="bool", high=2), Scaled),
    "float16": (Kind(kind="float16", high=2), Scaled),
    "bfloat16": (Kind(kind="bfloat16", high=2), Scaled),
    "float64": (Kind(kind="float64", high=2), lambda: Scaled().double()),
}


def recipe(kind: str, optimizer: str = "sgd", regularizer: str = "none", **parts: Any) -> Recipe:
    data, model = KINDS[kind]
    parts = {"epochs": EPOCHS, "batch_size": BATCH, "schedule": lambda step, *_: 1 / (1 + step)} | parts
    return Recipe(data, data.load(), model, REGULARIZERS[regularizer], OPTIMIZERS[optimizer], **parts)


def members(count: int, optimizer: str, regularizer: str = "none") -> list[Member]:
    defaults = {**OPTIMIZERS[optimizer].hyperparameters, **REGULARIZERS[regularizer].hyperparameters}
    values = {name: entry.middle() if isinstance(entry, Range) else entry for name, entry in defaults.items()}
    return [Member(seed, values | {"learning_rate": 0.03 * (1 + seed)}) for seed in range(count)]


def plain_loop(chosen: Recipe, member: Member, module: nn.Module, optimizer: str) -> dict[str, list[float]]:
    """Losses and accuracies by epoch of one model, trained by torch.optim in its own precision."""
    parts = split(chosen.source, chosen.dataset, member.seed)
    samples = Samples(chosen.dataset, chosen.source, {member.seed: parts}, [member.seed], "cpu")
    stepper = references.OPTIMIZERS[optimizer](list(module.parameters()), member.hyperparameters)
    curves: dict[str, list[float]] = {"train_loss": [], "validation_loss": [], "validation_accuracy": []}
    done = 0
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for places in references.minibatches(samples.epoch_order(epoch)[0], BATCH):
            stepper.param_groups[0]["lr"] = member.hyperparameters["learning_rate"] / (1 + done)
            stepper.zero_grad()
            loss = F.cross_entropy(module(chosen.source.inputs[places]), parts.labels[places])
            loss.backward()
            stepper.step()
            losses.append(loss.item())
            done += 1
        actual = references.evaluate(module, chosen.source.inputs[parts.validation], parts.labels[parts.validation])
        for name, value in zip(curves, (sum(losses) / len(losses), *actual), strict=True):
            curves[name].append(value)
    curves["test"] = list(references.evaluate(module, chosen.source.test_inputs, chosen.source.test_labels))
    return curves


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_trains_as_in_a_plain_loop(kind: str, optimizer: str) -> None:
    chosen = recipe(kind, optimizer)
    for count in (1, 3):
        results = train(chosen, members(count, optimizer), test=True)
        begun = build_population(chosen, members(count, optimizer), chosen.source.inputs).params
        for place, (member, result) in enumerate(zip(members(count, optimizer), results, strict=True)):
            module = chosen.model()
            module.load_state_dict({name: leaf[place] for name, leaf in begun.items()})
            expected = plain_loop(chosen, member, module, optimizer)
            for name in ("train_loss", "validation_loss", "validation_accuracy"):
                assert result.curves[name] == pytest.approx(expected[name], rel=1e-5), name
            assert [result.final["test_loss"], result.final["test_accuracy"]] == pytest.approx(
                expected["test"], rel=1e-5
            )
            assert result.curves["train_loss"][-1] != result.curves["train_loss"][0]


@pytest.mark.parametrize("regularizer", ["gvr", "gnvr", "sgsc", "clip_sample", "vasso"])
@pytest.mark.parametrize("kind", ["bytes", "tokens", "truth values", "float16"])
def test_every_regularizer_supports_every_dtype(kind: str, regularizer: str) -> None:
    """Compared with the same numbers in float64 and a float64 network."""
    runs = []
    for data, model in (KINDS[kind], (Kind(kind="float64", high=KINDS[kind][0].high), KINDS[kind][1])):
        if model is Words and data.kind == "float64":
            data = Kind(kind="int32", high=data.high)
        chosen = recipe(kind, "adamw", regularizer)._replace(dataset=data, source=data.load())
        chosen = chosen._replace(model=lambda model=model: model().double())
        runs.append(train(chosen, members(3, "adamw", regularizer), test=True))
    for actual, expected in zip(*runs, strict=True):
        assert actual.final == pytest.approx(expected.final, rel=1e-9)
        assert actual.curves["train_loss"] == pytest.approx(expected.curves["train_loss"], rel=1e-9)


@pytest.mark.parametrize("regularizer", ["none", "gnvr"])
@pytest.mark.parametrize("kind", ["bytes", "tokens", "float16"])
def test_mixed_precision_supports_every_dtype(kind: str, regularizer: str) -> None:
    """bfloat16 has two decimal digits."""
    for count in (1, 3):
        reduced = train(recipe(kind, "adamw", regularizer, precision="bfloat16"), members(count, "adamw", regularizer))
        full = train(recipe(kind, "adamw", regularizer), members(count, "adamw", regularizer))
        for one, other in zip(reduced, full, strict=True):
            assert one.curves["train_loss"] == pytest.approx(other.curves["train_loss"], rel=0.03)
            assert one.curves["train_loss"] != other.curves["train_loss"]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("models", [1, 2])
def test_evaluation_counts_exactly_in_half_precision(kind: torch.dtype, models: int) -> None:
    """float16 counts to 2048 and bfloat16 to 256."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(CLASSES, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs + 0 * self.linear(inputs)).to(kind)

    hyper = {name: torch.full((models,), 0.1) for name in ("learning_rate", "weight_decay", "momentum")}
    inputs, labels = torch.eye(CLASSES).repeat(3000, 1), torch.arange(9000) % CLASSES
    labels[:3333] = (labels[:3333] + 1) % CLASSES
    metrics = {"large": lambda _, labels: torch.full(labels.shape, 3001.0)}
    modules = [Half() for _ in range(models)]
    population = Population(
        modules, REGULARIZERS["none"], OPTIMIZERS["sgd"], hyper, references.cross_entropy, inputs[:4], metrics=metrics
    )
    places = torch.arange(9000).expand(models, -1)
    [actual] = population.evaluate(inputs, places, torch.ones(models, 9000), labels[places], custom_metrics=True)
    assert actual["accuracy"].tolist() == pytest.approx([5667 / 9000] * models, rel=1e-6)
    assert actual["large"].tolist() == pytest.approx([3001] * models, rel=1e-6)


def test_hyperparameters_have_the_dtype_of_the_parameters() -> None:
    for kind, digits in (
        ("bytes", torch.float32),
        ("bytes, float64 network", torch.float64),
        ("tokens", torch.float32),
    ):
        chosen = recipe(kind, "adamw")
        population = build_population(chosen, members(2, "adamw"), chosen.source.inputs)
        assert {value.dtype for value in population.hyperparameters.values()} == {digits}
        expected = torch.tensor([0.999, 0.999], dtype=digits)
        torch.testing.assert_close(population.hyperparameters["beta2"], expected, rtol=0, atol=0)


def plain(kind: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(6, CLASSES).to(kind)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("kind", "network", "words"),
    [
        (
            "float64",
            torch.float32,
            "the inputs are float64, and the network's parameters are float32; .*inputs.float()",
        ),
        ("uint8", torch.float32, "the inputs are uint8, and .*inputs.float()"),
        ("float16", torch.float32, "the inputs are float16, and .*inputs.float()"),
        ("float32", torch.float64, "the inputs are float32, and .*inputs.double()"),
        ("complex64", torch.float32, "the inputs are complex64, and .*view_as_real"),
    ],
)
def test_inputs_of_a_wrong_dtype_are_refused(kind: str, network: torch.dtype, words: str, count: int) -> None:
    data = Kind(kind=kind, high=2)
    chosen = recipe("bytes")._replace(dataset=data, source=data.load(), model=plain(network))
    with pytest.raises(UsageError, match=words) as caught:
        train(chosen, members(count, "sgd"))
    assert "\n" not in str(caught.value)


def test_an_embedding_of_floats_asks_for_integers() -> None:
    chosen = recipe("bytes")._replace(
        dataset=(data := Kind(kind="float32", high=2)), source=data.load(),
        model=lambda: nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(30, CLASSES)),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"the inputs are float32, and an embedding .*inputs\.long\(\)"):
        train(chosen, members(1, "sgd"))


class Columns(nn.Module):
    """An embedding table per column, with 9 and 4 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Embedding(9, 5), nn.Embedding(4, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.long()
        return self.last(self.first(inputs[:, 0]) + self.second(inputs[:, 1] % 5))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("part", ["inputs", "test_inputs"])
@pytest.mark.parametrize(
    ("model", "kind", "places", "number", "layer"),
    [
        (Words, torch.int64, 6, 9, "words"),
        (Words, torch.int32, 6, -1, "words"),
        (Words, torch.int64, 120, 9, "words"),
        (Columns, torch.int64, 2, 4, "second"),
        (Columns, torch.float32, 2, 4, "second"),
    ],
)
def test_a_number_without_an_embedding_row_is_refused_before_training(
    model: Callable[[], nn.Module], kind: torch.dtype, places: int, number: int, layer: str, part: str, count: int
) -> None:
    data, _ = KINDS["tokens"]
    source = data.load()
    parts = {name: (getattr(source, name) % 4).repeat(1, 20)[:, :places] for name in ("inputs", "test_inputs")}
    source = source._replace(**{name: inputs.to(kind) for name, inputs in parts.items()})
    chosen = recipe("tokens")._replace(source=source, model=model)
    train(chosen, members(count, "sgd"), test=True)
    changed = getattr(source, part).clone()
    changed[17, 1] = number
    with pytest.raises(UsageError, match=rf"layer '{layer}' \(Embedding\) looks up a number for which it has no row"):
        train(chosen._replace(source=source._replace(**{part: changed})), members(count, "sgd"))


@dataclass(frozen=True)
class Converted(Kind):
    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        return inputs / (255 + 0 * keys[:, None])


def test_augmented_inputs_keep_their_dtype() -> None:
    """Evaluation uses inputs without augmentation."""
    chosen = recipe("bytes")._replace(dataset=Converted())
    with pytest.raises(UsageError, match=r"augment returns a tensor of float32 .* for a tensor of uint8"):
        train(chosen, members(1, "sgd"))
