"""Training and evaluation with every kind of targets, against a plain loop of PyTorch and scikit-learn's metrics."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import targets
import torch
import torch.nn.functional as F
from networks import FEATURES
from sklearn.metrics import accuracy_score, f1_score, r2_score
from torch import Tensor, nn

from hpo.data import Dataset, Source, check_source, identify, split
from hpo.errors import UsageError
from hpo.models.losses import BinaryCrossEntropy, CrossEntropy, cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import stream
from hpo.tasks import IGNORED, TASKS
from hpo.training.initial_models import build
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"learning_rate": 0.05, "weight_decay": 0.0, "momentum": 0.9}
CASES = [case for case in targets.KINDS if case != "class weights"]
EPOCHS, BATCH = 3, 8


def source_of(case: str) -> Source:
    kind = targets.KINDS[case]
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(70, FEATURES, generator=generator, dtype=torch.float64)
    labels = kind.targets(inputs)
    classes = {"classification": 2, "tokens": targets.WORDS}.get(kind.task)
    return Source(inputs[:50], labels[:50], inputs[50:], labels[50:], classes)


def dataset_of(case: str, **fields: Any) -> Dataset:
    @dataclass(frozen=True)
    class Own(Dataset):
        task: ClassVar[str] = targets.KINDS[case].task

        def load(self) -> Source:
            return source_of(case)

    return Own(**fields)


def recipe_of(case: str, **changes: Any) -> Recipe:
    kind = targets.KINDS[case]
    parts = (REGULARIZERS["none"], OPTIMIZERS["sgd"])
    recipe = Recipe(
        dataset_of(case), source_of(case), lambda: kind.network().double(), *parts, EPOCHS, BATCH, sample_loss=kind.loss
    )
    return recipe._replace(**changes)


def plain_loop(case: str, seed: int) -> tuple[nn.Module, list[float]]:
    """One model by torch.optim; and its training loss by epoch."""
    kind, source = targets.KINDS[case], source_of(case)
    training = split(source, dataset_of(case), seed).training
    module = build(lambda: kind.network().double(), seed)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    curve = []
    for epoch in range(1, EPOCHS + 1):
        order = training[torch.randperm(len(training), generator=stream(seed, "data", "order", epoch))]
        losses = []
        for places in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = targets.one_by_one(kind)(module(source.inputs[places]), source.labels[places]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(sum(losses) / len(losses))
    return module, curve


def expected_metrics(case: str, outputs: Tensor, labels: Tensor) -> dict[str, float]:
    kind = targets.KINDS[case]
    loss = targets.one_by_one(kind)(outputs, labels).mean().item()
    if kind.task == "regression":
        predicted, given = outputs.reshape(labels.shape).numpy(), labels.numpy()
        error = float(np.sqrt(np.mean((predicted - given) ** 2)))
        return {"loss": loss, "r2": float(r2_score(given, predicted)), "rmse": error}
    if kind.task == "multilabel":
        marks = (outputs > 0).numpy()
        exact = accuracy_score(labels, marks)
        return {"loss": loss, "f1": float(f1_score(labels, marks, average="micro")), "exact_match": float(exact)}
    if kind.task == "tokens":
        kept = labels != IGNORED
        loss = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=IGNORED).item()
        right = (outputs.argmax(-1) == labels)[kept].double().mean().item()
        return {"loss": loss, "perplexity": float(np.exp(loss)), "accuracy": right}
    return {"loss": loss, "accuracy": ((outputs[:, 0] > 0) == (labels == 1)).double().mean().item()}


def trained(case: str, members: int = 2, **changes: Any) -> list[Result]:
    return train(recipe_of(case, **changes), [Member(seed, SGD) for seed in range(members)], test=True)


@pytest.mark.parametrize("case", CASES)
def test_curves_and_metrics_equal_those_of_a_plain_loop(case: str) -> None:
    source = source_of(case)
    for seed, result in enumerate(trained(case)):
        module, curve = plain_loop(case, seed)
        assert result.curves["train_loss"] == pytest.approx(curve, rel=1e-9)
        parts = split(source, dataset_of(case), seed)
        for part, inputs, labels in (
            ("train", source.inputs[parts.training], source.labels[parts.training]),
            ("validation", source.inputs[parts.validation], source.labels[parts.validation]),
            ("test", source.test_inputs, source.test_labels),
        ):
            with torch.no_grad():
                expected = expected_metrics(case, module(inputs), labels)
            actual = {name: result.final[f"{part}_{name}"] for name in expected}
            assert actual == pytest.approx(expected, rel=1e-6), part
            reported = {name.removeprefix(f"{part}_") for name in result.final if name.startswith(f"{part}_")}
            assert reported - {"samples"} == {*expected}, "and nothing else"
        assert ("classes" in result.final) == TASKS[targets.KINDS[case].task].has_classes


@pytest.mark.parametrize("case", CASES)
def test_a_member_gives_what_it_gives_alone(case: str) -> None:
    together = trained(case)
    [alone] = train(recipe_of(case), [Member(1, SGD)], test=True)
    assert alone.final == pytest.approx(together[1].final, rel=1e-9)


@pytest.mark.parametrize("case", ["one number", "tokens", "several labels"])
def test_stopped_members_leave_the_others_as_they_are(case: str) -> None:
    members = [Member(seed, SGD) for seed in range(3)]
    stopped = train(recipe_of(case), members, prune=lambda epoch, _: [1] if epoch == 1 else [])
    whole = train(recipe_of(case), members)
    for number in (0, 2):
        assert stopped[number].final == pytest.approx(whole[number].final, rel=1e-9)
    assert stopped[1].stopped_epoch == 1


def test_r2_is_exact_for_targets_far_from_zero() -> None:
    """Years: their variance is a millionth of their square."""
    case = "one number"
    source = source_of(case)
    far = source._replace(labels=source.labels + 2000, test_labels=source.test_labels + 2000)
    model = targets.KINDS[case].network

    def offset() -> nn.Module:
        module = model()
        torch.nn.init.constant_(module[-1].bias, 2000.0)
        return module

    recipe = recipe_of(case, source=far._replace(inputs=far.inputs.float(), test_inputs=far.test_inputs.float()))
    [result] = train(recipe._replace(model=offset), [Member(0, SGD | {"learning_rate": 1e-9})], test=True)
    module = build(offset, 0)
    with torch.no_grad():
        predicted = module(far.test_inputs.float())[:, 0]
    assert result.final["test_r2"] == pytest.approx(r2_score(far.test_labels, predicted), rel=1e-3)


def test_constant_targets_have_no_r2_and_do_not_diverge() -> None:
    source = source_of("one number")
    constant = source._replace(test_labels=torch.ones(20, dtype=torch.float64))
    [result] = trained("one number", 1, source=constant)
    assert np.isnan(result.final["test_r2"]) and result.diverged_epoch is None
    assert np.isfinite(result.final["test_rmse"])


def test_float_types_and_columns_become_one_kind_of_targets() -> None:
    source = source_of("one number")
    plain = check_source(source, "regression")
    for convert in (Tensor.half, Tensor.bfloat16, Tensor.int, Tensor.numpy, lambda labels: labels[:, None]):
        changed = source._replace(labels=convert(source.labels), test_labels=convert(source.test_labels))
        checked = check_source(changed, "regression")
        assert checked.labels.shape == plain.labels.shape and checked.labels.dtype in (torch.float32, torch.float64)
        assert checked.classes is None
        if convert not in (Tensor.half, Tensor.bfloat16, Tensor.int):
            torch.testing.assert_close(checked.labels.double(), plain.labels)


SHAPE = torch.zeros(50, 2, 2, dtype=torch.int64)
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("one number", {"labels": torch.full((50,), torch.nan)}, r"labels\[0\] contains NaN.*50 of 50"),
    ("one number", {"labels": torch.zeros(50, dtype=torch.complex64)}, "complex64"),
    ("one number", {"labels": ["a"] * 50}, "labels is a list"),
    ("one number", {"test_labels": torch.zeros(20, 3)}, r"shape \(\) .*\(3,\)"),
    ("several labels", {"labels": torch.full((50, 4), 2)}, r"labels\[0\] is \[2, 2, 2, 2\]"),
    ("several labels", {"labels": torch.zeros(50)}, "0 or 1 for each of L labels"),
    ("tokens", {"labels": torch.zeros(50, dtype=torch.int64)}, r"one class per token, \[M, T\]"),
    ("tokens", {"labels": SHAPE}, r"shape \(50, 2, 2\)"),
    ("tokens", {"labels": torch.full((50, 3), 7)}, r"labels\[0\] contains 7.*classes=8"),
    ("tokens", {"labels": torch.full((50, 3), -1)}, "use -100 for tokens without a target"),
    ("tokens", {"labels": torch.full((50, 3), IGNORED)}, "all labels are -100"),
    ("tokens", {"test_labels": torch.zeros(20, 5, dtype=torch.int64)}, "3 tokens and test_labels 5"),
    ("tokens", {"classes": None}, "classes is None"),
    ("one logit", {"labels": torch.zeros(50, 4, dtype=torch.int64)}, "the task 'multilabel'"),
    ("one logit", {"labels": torch.rand(50)}, "the task 'regression'"),
]


@pytest.mark.parametrize(("case", "changes", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_unusable_targets_are_refused_in_one_sentence(case: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_source(source_of(case)._replace(**changes), targets.KINDS[case].task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "network", "words"),
    [
        (
            "one number",
            lambda: nn.Linear(FEATURES, 2),
            r"\(2,\), and a target of the data is one number; give it 1 output$",
        ),
        ("several numbers", lambda: nn.Linear(FEATURES, 1), r"shape \(1,\).*shape \(2,\); give it 2 outputs"),
        ("several labels", lambda: nn.Linear(FEATURES, 3), r"shape \(3,\).*shape \(4,\)"),
        ("tokens", lambda: nn.Linear(FEATURES, 4), r"return logits \[N, T, classes\]"),
        (
            "tokens",
            lambda: nn.Sequential(nn.Linear(FEATURES, 6), nn.Unflatten(1, (3, 2))),
            "2 outputs, and the data set has 4",
        ),
    ],
)
def test_networks_with_other_outputs_than_the_targets_need(case: str, network: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trained(case, model=lambda: network().double())


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classification"}))
def test_label_noise_is_for_classes_only(task: str) -> None:
    case = next(case for case, kind in targets.KINDS.items() if kind.task == task)
    with pytest.raises(UsageError, match=r"label_noise is 0\.1, but it redraws classes"):
        dataset_of(case, label_noise=0.1)


def test_a_loss_that_broadcasts_is_explained() -> None:
    """[N, 1] − [N] is [N, N]."""
    loss = lambda outputs, labels: (outputs - labels) ** 2  # noqa: E731
    with pytest.raises(UsageError, match=r"\(8, 1\), labels \(8,\); use outputs\[:, 0\]\).*one float a sample"):
        trained("one number", sample_loss=loss)


def test_weights_of_classes_are_pytorchs_up_to_their_normalisation() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (20,), generator=generator)
    weights = (0.5, 2.0, 1.5)
    for smoothing in (0.0, 0.2):
        expected = F.cross_entropy(
            outputs, labels, torch.tensor(weights).double(), reduction="none", label_smoothing=smoothing
        )
        torch.testing.assert_close(CrossEntropy(smoothing, weights)(outputs, labels), expected)
    for weights in ((3.0,), (1.0, 2.0, 5.0)):
        expected = F.binary_cross_entropy_with_logits(
            outputs, (outputs < 1).double(), pos_weight=torch.tensor(weights).double(), reduction="none"
        ).mean(1)
        torch.testing.assert_close(BinaryCrossEntropy(weights)(outputs, (outputs < 1).long()), expected)
    with pytest.raises(UsageError, match="class_weights has 2 numbers, and the network distinguishes 3"):
        CrossEntropy(class_weights=(1, 2))(outputs, labels)
    with pytest.raises(UsageError, match="class_weights is"):
        CrossEntropy(class_weights=(1, -2))


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
def test_one_logit_is_that_of_class_one(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(20, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (20,), generator=generator)
    expected = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none")
    torch.testing.assert_close(cross_entropy(logits.reshape(shape), labels), expected)
    both = torch.stack([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(cross_entropy(both, labels), expected)
    for smoothing in (0.1, 0.4):
        smoothed = CrossEntropy(smoothing)(logits.reshape(shape), labels)
        wanted = F.binary_cross_entropy_with_logits(
            logits, labels.double() * (1 - smoothing) + smoothing / 2, reduction="none"
        )
        torch.testing.assert_close(smoothed, wanted)
    for smoothing in (0.0, 0.1, 0.4):
        given = torch.tensor((1.0, 10.0)).double()
        expected = F.cross_entropy(both, labels, given, reduction="none", label_smoothing=smoothing)
        loss = CrossEntropy(smoothing, (1, 10))
        torch.testing.assert_close(loss(logits.reshape(shape), labels), expected)
        torch.testing.assert_close(loss(both, labels), expected)
        torch.testing.assert_close(loss(logits.reshape(shape), F.one_hot(labels, 2).double()), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), (1.0, 10.0)])
def test_one_logit_of_every_token(smoothing: float, weights: tuple[float, ...]) -> None:
    """Tokens without a target do not count."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 5, 1, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (4, 5), generator=generator)
    labels[1, 3:], labels[2] = IGNORED, IGNORED
    both = torch.cat([torch.zeros_like(logits), logits], -1)
    given = torch.tensor(weights).double() if weights else None
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": smoothing, "ignore_index": IGNORED}
    losses = F.cross_entropy(both.mT, labels, given, **options).sum(1) / torch.tensor([5, 3, 1, 5])
    torch.testing.assert_close(CrossEntropy(smoothing, weights)(logits, labels), losses)


@pytest.mark.parametrize("members", [1, 2])
def test_the_evaluated_loss_of_tokens_with_weights_of_classes(members: int) -> None:
    """The sum over the tokens over their number, for sequences of different lengths."""
    weights, source = torch.tensor((0.2, 5.0, 1.0, 2.0), dtype=torch.float64), source_of("tokens")
    recipe = recipe_of("tokens", sample_loss=CrossEntropy(0.1, tuple(weights.tolist())), epochs=1)
    results = train(recipe, [Member(seed, SGD) for seed in range(members)], test=True, keep_weights=True)
    module = targets.KINDS["tokens"].network().double()
    for seed, result in enumerate(results):
        module.load_state_dict(result.weights or {})
        parts = split(source, dataset_of("tokens"), seed)
        for name, inputs, labels in (
            ("validation", source.inputs[parts.validation], source.labels[parts.validation]),
            ("test", source.test_inputs, source.test_labels),
        ):
            flat = module(inputs).detach().flatten(0, 1), labels.flatten()
            total = F.cross_entropy(*flat, weights, reduction="sum", ignore_index=IGNORED)
            expected = (total / (labels != IGNORED).sum()).item()
            assert result.final[f"{name}_loss"] == pytest.approx(expected, rel=1e-9)


class Squared(CrossEntropy):
    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().__call__(outputs, labels).square()


def test_a_loss_of_tokens_that_extends_cross_entropy_is_evaluated_by_sample() -> None:
    source, recipe = source_of("tokens"), recipe_of("tokens", sample_loss=Squared(), epochs=1)
    [result] = train(recipe, [Member(0, SGD)], test=True, keep_weights=True)
    module = targets.KINDS["tokens"].network().double()
    module.load_state_dict(result.weights or {})
    losses = Squared()(module(source.test_inputs).detach(), source.test_labels)
    assert result.final["test_loss"] == pytest.approx(losses.mean().item(), rel=1e-9)


def test_targets_of_workers_are_compared_with_a_tolerance() -> None:
    source = check_source(source_of("one number"), "regression")
    close = identify(source._replace(labels=source.labels * (1 + 1e-9)))
    assert identify(source)["labels"] == pytest.approx(close["labels"]) and isinstance(close["labels"], list)
