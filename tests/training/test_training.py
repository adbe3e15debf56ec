"""Training: what a seed fixes, what a run reports, and how members diverge."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import references
import torch
from populations import middle
from torch import Tensor, nn

from hpo.data import Dataset, Source, Split, split
from hpo.data.loading import _Checked
from hpo.errors import UsageError
from hpo.gradients.objective import Objective
from hpo.models import MLP
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.schedules import Cosine
from hpo.random import stream
from hpo.training.evaluation import validate
from hpo.training.initial_models import build_population
from hpo.training.loop import train
from hpo.training.population import Population
from hpo.training.recipe import Member, Recipe, Result
from hpo.training.samples import Samples
from hpo.tree import Tree

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES, CLASSES = 6, 3
SGD = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9}
ADAMW = {"learning_rate": 0.01, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


@dataclass(frozen=True)
class Blobs(Dataset):
    """Three overlapping clouds."""

    samples: int = 60

    def load(self) -> Source:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(self.samples + 15) % CLASSES
        inputs = torch.randn(self.samples + 15, FEATURES, generator=generator, dtype=torch.float64)
        inputs[:, 0] += 2 * labels
        kept = self.samples
        return Source(inputs[:kept], labels[:kept], inputs[kept:], labels[kept:], CLASSES)


def network() -> nn.Module:
    return MLP((FEATURES, 7, CLASSES))().double()


def recipe(dataset: Dataset | None = None, **changes: Any) -> Recipe:
    dataset = dataset or Blobs(label_noise=0.3, validation=0.25)
    chosen = {"regularizer": REGULARIZERS["none"], "optimizer": OPTIMIZERS["sgd"], "epochs": 3, "batch_size": 8}
    return Recipe(dataset, dataset.load(), network, **(chosen | changes))


class Witness:
    """Records the arguments of every step, and the populations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.initial: list[Tree] = []
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.rates: list[float] = []
        self.populations: list[Population] = []
        original = Population.step

        def step(
            population: Population, inputs: Tensor, labels: Tensor, factors: Mapping[str, Tensor], moment: Any
        ) -> Tree:
            if not any(population is known for known in self.populations):
                self.populations.append(population)
                self.initial.append({name: leaf.clone() for name, leaf in population.params.items()})
                self.batches.clear()
                self.rates.clear()
            self.batches.append((inputs.clone(), labels.clone()))
            self.rates.append(float(factors["learning_rate"]))
            return original(population, inputs, labels, factors, moment)

        monkeypatch.setattr(Population, "step", step)

    def module(self, member: int, params: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The member of the latest population as a module; by default with its present parameters."""
        module = network()
        chosen = self.populations[-1].params if params is None else params
        module.load_state_dict({name: leaf[member] for name, leaf in chosen.items()})
        return module


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(monkeypatch)


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9)


def test_training_does_not_use_the_global_generator() -> None:
    before = torch.get_rng_state()
    train(recipe(), [Member(0, SGD)])
    assert torch.equal(before, torch.get_rng_state())


def test_a_seed_fixes_weights_labels_split_and_order_in_any_population(witness: Witness) -> None:
    """Seed 5 alone, and as the third of four with other seeds and hyperparameters."""
    chosen = recipe()
    other = SGD | {"learning_rate": 0.01}
    train(chosen, [Member(5, SGD)])
    solo = witness.initial[-1], list(witness.batches)
    train(chosen, [Member(0, other), Member(1, SGD), Member(5, other), Member(0, SGD)])
    stacked = witness.initial[-1], list(witness.batches)
    for name in solo[0]:
        assert torch.equal(solo[0][name][0], stacked[0][name][2])
        assert torch.equal(stacked[0][name][0], stacked[0][name][3])
    assert not torch.equal(stacked[0]["linear1.weight"][0], stacked[0]["linear1.weight"][1])
    assert len(solo[1]) == len(stacked[1]) == 3 * (45 // 8)
    for (inputs, labels), (many, given) in zip(solo[1], stacked[1], strict=True):
        assert torch.equal(inputs[0], many[2])
        assert torch.equal(labels[0], given[2])
        assert torch.equal(many[0], many[3])
        assert not torch.equal(many[0], many[1])


def test_an_epoch_visits_training_samples_once_each_and_in_a_new_order(witness: Witness) -> None:
    chosen = recipe(batch_size=9)
    train(chosen, [Member(3, SGD)])
    data_split = split(chosen.source, chosen.dataset, 3)
    rows = {tuple(sample.tolist()): place for place, sample in enumerate(chosen.source.inputs)}
    epochs = []
    for epoch in range(3):
        steps = witness.batches[5 * epoch : 5 * epoch + 5]
        places = [rows[tuple(sample.tolist())] for inputs, _ in steps for sample in inputs[0, 0]]
        assert torch.equal(torch.cat([labels[0] for _, labels in steps]), data_split.labels[places])
        assert sorted(places) == sorted(data_split.training.tolist())
        epochs.append(places)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("regularizer", "hyper"), [("none", {}), ("gnvr", {"lambda": 0.3}), ("rogc", {"k": 0.5})])
def test_a_whole_run_equals_plain_pytorch(regularizer: str, hyper: dict[str, float], witness: Witness) -> None:
    """Curves and final metrics of three members with different seeds."""
    chosen = recipe(regularizer=REGULARIZERS[regularizer], optimizer=OPTIMIZERS["adamw"])
    members = [Member(seed, ADAMW | hyper | {"learning_rate": 0.01 * (seed + 1)}) for seed in range(3)]
    results = train(chosen, members, test=True)
    for number, (member, result) in enumerate(zip(members, results, strict=True)):
        data_split = split(chosen.source, chosen.dataset, member.seed)
        orders = [
            data_split.training[torch.randperm(45, generator=stream(member.seed, "data", "order", epoch))]
            for epoch in (1, 2, 3)
        ]
        module = witness.module(number, witness.initial[-1])
        inputs, true = chosen.source.inputs, chosen.source.labels
        curves = references.train(
            module, regularizer, "adamw", member.hyperparameters, inputs, data_split.labels, orders, batch_size=8
        )
        for name, values in curves.items():
            assert result.curves[name] == near(values), name
        assert result.diverged_epoch is None

        changed = references.changed_labels(data_split.labels, true, data_split.training)
        parts = {
            "train": (inputs[data_split.training], data_split.labels[data_split.training]),
            "validation": (inputs[data_split.validation], data_split.labels[data_split.validation]),
            "test": (chosen.source.test_inputs, chosen.source.test_labels),
        }
        expected: dict[str, float] = {}
        for part, samples in parts.items():
            expected[f"{part}_loss"], expected[f"{part}_accuracy"] = references.evaluate(module, *samples)
        expected["noisy_labels_fitted"] = references.evaluate(module, inputs[changed], data_split.labels[changed])[1]
        expected["noisy_labels_recovered"] = references.evaluate(module, inputs[changed], true[changed])[1]
        clean = [place for place in data_split.training.tolist() if data_split.labels[place] == true[place]]
        chosen_clean = [clean[number * len(clean) // len(changed)] for number in range(len(changed))]
        expected["clean_labels_fitted"] = references.evaluate(
            module, inputs[chosen_clean], data_split.labels[chosen_clean]
        )[1]
        sizes = {
            "training_samples": 45,
            "validation_samples": 15,
            "test_samples": 15,
            "changed_labels": len(changed),
            "classes": CLASSES,
            "epochs": 3,
            "steps": 15,
            "gradient_evaluations": 2 if regularizer == "gnvr" else 1,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "untrained_parameters": 0,
        }
        assert result.final == near(expected | sizes)
        fits = ("noisy_labels_fitted", "noisy_labels_recovered", "clean_labels_fitted")
        for name in ("validation_loss", "validation_accuracy", *fits):
            assert len(result.curves[name]) == 3
            assert result.curves[name][-1] == near(expected[name])


def test_the_schedule_multiplies_every_learning_rate(witness: Witness) -> None:
    train(recipe(schedule=Cosine(warmup_epochs=1)), [Member(0, SGD), Member(1, SGD)])
    schedule = Cosine(warmup_epochs=1)
    assert witness.rates == pytest.approx([schedule(step, 15, 5) for step in range(15)], rel=1e-6)


class Sealed:
    """A test set that must not be read."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the test set was read: {name}")

    def __len__(self) -> int:
        raise AssertionError("the test set was counted")

    __iter__ = __getitem__ = __len__


def test_the_test_set_is_read_only_on_request() -> None:
    chosen = recipe()
    inputs, labels, *_, classes = chosen.source
    # As if checked already: the check before training reads the test set as well.
    sealed = chosen._replace(source=_Checked(inputs, labels, Sealed(), Sealed(), classes))  # type: ignore[arg-type]
    (result,) = train(sealed, [Member(0, SGD)])
    assert not [name for name in (*result.final, *result.curves) if "test" in name]
    with pytest.raises(AssertionError, match="the test set was"):
        train(sealed, [Member(0, SGD)], test=True)
    (asked,) = train(chosen, [Member(0, SGD)], test=True)
    assert asked.curves == result.curves  # reading it changes nothing else
    assert asked.final.items() >= result.final.items()
    assert asked.final.keys() - result.final.keys() == {"test_loss", "test_accuracy", "test_samples"}


def _spoil(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> tuple[Tree, Tree, Tree]:
    """The plain gradient, but NaN from step `healthy_steps` (counted from 0) on."""
    gradient = objective.grad(params)
    spoilt = state["steps"] >= hyper["healthy_steps"]
    gradient = {name: torch.where(spoilt, torch.nan, leaf) for name, leaf in gradient.items()}
    return gradient, {"steps": state["steps"] + 1}, {"spoilt": spoilt.double()}


SPOILER = Regularizer("spoiler", _spoil, {"healthy_steps": 0}, lambda _: {"steps": torch.zeros(())})


@pytest.mark.parametrize(("healthy_steps", "epoch"), [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (14, 3), (15, None)])
def test_divergence_is_recorded_with_its_epoch(healthy_steps: int, epoch: int | None) -> None:
    """Five steps per epoch; the update that spoils the weights shows in the validation loss of the same epoch."""
    members = [Member(0, SGD | {"healthy_steps": steps}) for steps in (99, healthy_steps, 99)]
    results = train(recipe(regularizer=SPOILER), members, test=True)
    assert [result.diverged_epoch for result in results] == [None, epoch, None]
    ill = results[1]
    healthy_epochs = 3 if epoch is None else epoch - 1
    assert ill.curves.keys() == (results[0].curves.keys() if healthy_epochs else set())
    assert all(len(values) == healthy_epochs for values in ill.curves.values())
    assert all(math.isfinite(value) for values in ill.curves.values() for value in values)
    sizes = {"training_samples", "validation_samples", "test_samples", "changed_labels", "classes"}
    sizes |= {"epochs", "steps", "gradient_evaluations", "parameters", "untrained_parameters"}
    assert ill.final.keys() == (results[0].final.keys() if epoch is None else sizes)


def test_a_diverged_member_does_not_change_its_neighbours_results() -> None:
    def run(rate: float) -> list[Result]:
        hypers = [SGD, SGD | {"learning_rate": rate}, SGD]
        return train(recipe(), [Member(seed, hyper) for seed, hyper in enumerate(hypers)], test=True)

    healthy, ill = run(0.1), run(1e200)
    assert healthy[1].diverged_epoch is None
    assert ill[1].diverged_epoch == 1
    assert healthy[0] == ill[0]
    assert healthy[2] == ill[2]


def test_training_stops_when_all_members_have_diverged() -> None:
    epochs = []
    members = [Member(0, SGD | {"healthy_steps": steps}) for steps in (0, 7)]
    results = train(recipe(regularizer=SPOILER, epochs=50), members, progress=lambda epoch, _: epochs.append(epoch))
    assert [result.diverged_epoch for result in results] == [1, 2]
    assert epochs == [1, 2]


def test_progress_gets_every_epoch_of_every_member() -> None:
    heard: list[tuple[int, list[dict[str, float]]]] = []

    def progress(epoch: int, results: Sequence[Result]) -> None:
        heard.append((epoch, [{name: values[-1] for name, values in each.curves.items()} for each in results]))

    results = train(recipe(), [Member(0, SGD), Member(1, SGD)], progress=progress)
    assert [epoch for epoch, _ in heard] == [1, 2, 3]
    for epoch, rows in heard:
        assert rows == [{name: values[epoch - 1] for name, values in each.curves.items()} for each in results]


def test_seeds_with_different_numbers_of_changed_labels_share_a_population() -> None:
    """Padding changes nothing: every member's numbers are those of a separate run."""
    chosen = recipe()
    members = [Member(seed, SGD) for seed in range(4)]
    results = train(chosen, members)
    counts = []
    for member, result in zip(members, results, strict=True):
        data_split = split(chosen.source, chosen.dataset, member.seed)
        counts.append(len(references.changed_labels(data_split.labels, chosen.source.labels, data_split.training)))
        assert result.final["changed_labels"] == counts[-1]
        (solo,) = train(chosen, [member])
        assert result.final == near(solo.final)
        for name, values in solo.curves.items():
            assert result.curves[name] == near(values)
    assert len(set(counts)) > 1


def test_a_member_without_changed_labels_reports_none_next_to_one_that_has_some() -> None:
    """2 of 60 labels are redrawn, so that some seeds change none."""
    chosen = recipe(Blobs(label_noise=0.03))
    counts = {seed: len(split(chosen.source, chosen.dataset, seed).changed) for seed in range(20)}
    without = next(seed for seed, count in counts.items() if count == 0)
    some = next(seed for seed, count in counts.items() if count > 0)
    results = train(chosen, [Member(without, SGD), Member(some, SGD)])
    for result, count in zip(results, (0, counts[some]), strict=True):
        assert result.diverged_epoch is None
        assert result.final["changed_labels"] == count
        for names in (result.final, result.curves):
            assert ("noisy_labels_fitted" in names) == ("noisy_labels_recovered" in names) == (count > 0)
            assert ("clean_labels_fitted" in names) == (count > 0)
        assert all(math.isfinite(value) for value in result.final.values())


def test_without_clean_labels_their_fit_is_not_reported() -> None:
    data = Blobs(label_noise=1.0)
    chosen = recipe(data)
    data_split = split(chosen.source, data, 0)
    wrong = Split((chosen.source.labels + 1) % CLASSES, data_split.training, data_split.validation, data_split.training)
    samples = Samples(data, chosen.source, {0: wrong, 1: split(chosen.source, data, 1)}, [0, 1], "cpu")
    assert samples.unchanged.weights.sum(1).tolist()[0] == 0 < samples.unchanged.weights.sum(1).tolist()[1]
    assert [samples.reports(member, "clean_labels_fitted") for member in (0, 1)] == [False, True]
    solo = Samples(data, chosen.source, {0: wrong}, [0], "cpu")
    population = build_population(chosen, [Member(0, SGD)], solo.inputs)
    assert "clean_labels_fitted" not in validate(population, solo)
    assert validate(population, solo)["noisy_labels_recovered"].isfinite().all()


def test_without_label_noise_no_label_fits_are_reported() -> None:
    (result,) = train(recipe(Blobs()), [Member(0, SGD)])
    assert result.final["changed_labels"] == 0
    assert not [name for name in (*result.final, *result.curves) if "noisy" in name or "clean" in name]


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UsageError, match=r"batch_size is 46, but the training part has 45 samples; choose a smaller"):
        train(recipe(batch_size=46), [Member(0, SGD)])
    (result,) = train(recipe(batch_size=45, epochs=1), [Member(0, SGD)])
    assert result.diverged_epoch is None


@pytest.mark.parametrize(("changes", "words"), [
    ({"accumulate": 8}, "batch_size / accumulate is 1; choose a larger one"),
    ({"batch_size": 1}, "batch_size is 1; choose a larger one"),
])  # fmt: skip
def test_batches_in_which_a_regularizer_has_no_effect_are_refused(changes: dict[str, int], words: str) -> None:
    chosen = recipe(regularizer=REGULARIZERS["gnvr"], epochs=1, **changes)
    with pytest.raises(UsageError, match=f"^regularizer 'gnvr' needs at least 2 samples at once, and {words}$"):
        train(chosen, [Member(0, SGD | {"lambda": 0.1})])
    assert train(chosen._replace(regularizer=REGULARIZERS["none"]), [Member(0, SGD)])[0].diverged_epoch is None


@pytest.mark.parametrize("members", [1, 2])
def test_a_last_batch_of_one_sample(members: int) -> None:
    """The training part has 45 samples."""
    seeds, sizes = range(members), {"batch_size": 11, "last_batch": "keep"}
    results = train(
        recipe(regularizer=REGULARIZERS["gnvr"], **sizes), [Member(s, SGD | {"lambda": 0.1}) for s in seeds]
    )
    assert all(result.diverged_epoch is None for result in results)

    def normalized() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)).double()

    with pytest.raises(UsageError, match=r"^layer '1' \(BatchNorm1d\) .* a batch of one sample; .* last_batch='drop'$"):
        train(recipe(**sizes)._replace(model=normalized), [Member(seed, SGD) for seed in seeds])


def test_an_empty_validation_part_is_refused() -> None:
    with pytest.raises(UsageError, match=r"validation is 0\.001.* of 60 samples; choose a larger share"):
        train(recipe(Blobs(validation=0.001)), [Member(0, SGD)])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("optimizer", [("sgd", SGD), ("adamw", ADAMW)], ids=lambda pair: pair[0])
@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_a_gpu_gives_what_the_cpu_gives(regularizer: Regularizer, optimizer: tuple[str, dict[str, float]]) -> None:
    members = [Member(seed, optimizer[1] | middle(regularizer)) for seed in range(3)]
    chosen = recipe(regularizer=regularizer, optimizer=OPTIMIZERS[optimizer[0]])
    for cpu, gpu in zip(train(chosen, members), train(chosen, members, "cuda"), strict=True):
        for name, values in cpu.curves.items():
            assert gpu.curves[name] == pytest.approx(values, rel=1e-6), name


def test_one_network_for_all_seeds_is_refused() -> None:
    only = network()
    with pytest.raises(UsageError, match="model returns the same network at every call; make a new one in it"):
        train(recipe()._replace(model=lambda: only), [Member(0, SGD), Member(1, SGD)])


class Saved:
    """A checkpointer that saves at one epoch, as bytes, and interrupts the run there; loads the members `wanted`."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.seen, self.saved = epoch, 0, b""
        self.wanted = slice(None)

    def load(self) -> Sequence[Mapping[str, Any]] | None:
        return torch.load(io.BytesIO(self.saved), weights_only=True)[self.wanted] if self.saved else None

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self.seen += 1
        if not self.saved and self.seen == self.epoch:
            stream = io.BytesIO()
            torch.save(states(), stream)
            self.saved = stream.getvalue()
            raise InterruptedError


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", ["gnvr", "vasso", "gvr"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(name: str, members: int) -> None:
    regularizer = REGULARIZERS[name]
    chosen = recipe(regularizer=regularizer, optimizer=OPTIMIZERS["adamw"], epochs=5, schedule=Cosine())
    runs = [Member(seed, ADAMW | middle(regularizer)) for seed in range(members)]
    full_run = train(chosen, runs, test=True)
    checkpointer = Saved(3)
    with pytest.raises(InterruptedError):
        train(chosen, runs, test=True, checkpointer=checkpointer)
    seen: list[int] = []
    resumed = train(chosen, runs, test=True, checkpointer=checkpointer, progress=lambda epoch, _: seen.append(epoch))
    assert resumed == full_run and seen == [4, 5]
    checkpointer.wanted = slice(members - 1, members)
    [solo] = train(chosen, runs[checkpointer.wanted], test=True, checkpointer=checkpointer)
    for name, values in solo.curves.items():
        assert values == near(full_run[-1].curves[name]), name


def test_a_custom_metric_is_the_mean_over_single_samples(witness: Witness) -> None:
    def margin(outputs: Tensor, labels: Tensor) -> Tensor:
        two = outputs.topk(2, -1).values
        return two[:, 0] - two[:, 1] + labels

    def hit(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.argmax(-1) == labels

    chosen = recipe(metrics={"margin": margin, "hit": hit})
    results = train(chosen, [Member(0, SGD), Member(5, SGD)], test=True)
    source, dataset = chosen.source, chosen.dataset
    for number, (seed, result) in enumerate(zip((0, 5), results, strict=True)):
        data_split, module = split(source, dataset, seed), witness.module(number)
        parts = {
            "validation": (source.inputs[data_split.validation], data_split.labels[data_split.validation]),
            "test": (source.test_inputs, source.test_labels),
        }
        for part, (inputs, labels) in parts.items():
            single = [margin(module(inputs[[i]]), labels[[i]]).item() for i in range(len(labels))]
            assert result.final[f"{part}_margin"] == near(sum(single) / len(single))
            assert result.final[f"{part}_hit"] == result.final[f"{part}_accuracy"]
        assert len(result.curves["validation_margin"]) == 3
        assert result.curves["validation_margin"][-1] == result.final["validation_margin"]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (lambda outputs, _: outputs.mean(), r"metric 'bad'.*shape \(\) for \d+ samples"),
        (lambda outputs, _: outputs, r"metric 'bad'.*shape \(\d+, 3\)"),
        (lambda _, __: 1.0, r"metric 'bad'.* 1\.0 for"),
    ],
)
def test_a_metric_of_another_shape_is_refused(metric: Any, words: str, members: int) -> None:
    with pytest.raises(UsageError, match=words):
        train(recipe(metrics={"bad": metric}), [Member(seed, SGD) for seed in range(members)])
