"""Networks whose outputs depend on more than inputs, parameters and buffers are refused; harmless state is not."""

import contextvars
import itertools
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import random_unstructured
from torch.utils.checkpoint import checkpoint

from hpo.errors import UsageError
from hpo.random import normal
from hpo.training.initial_models import check_model
from hpo.training.loop import train
from hpo.training.plain_calls import check_plain_calls
from hpo.training.recipe import Member
from hpo.user_code.python_state import unchanged_state
from tests.training.test_training import CLASSES, FEATURES, SGD, Blobs, network, recipe

pytestmark = pytest.mark.usefixtures("one_thread")

INPUTS = torch.linspace(-1, 1, 8 * FEATURES, dtype=torch.float64).reshape(8, FEATURES).sin()


class Net(nn.Module):
    """A network with attributes besides its layers: `kept` from earlier calls, and its tensors in a list `held`."""

    def __init__(self, scale: Callable[["Net", Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        self.register_buffer("mean", torch.zeros(FEATURES, dtype=torch.float64))
        self.scale = scale
        self.kept: Any = None
        self.held = [self.layer.weight, self.mean]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * self.scale(self, inputs)


def first_batch(net: Net, inputs: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = inputs.mean()
    return net.kept


def cached_weight(net: Net, _: Tensor) -> Tensor:
    """A cache that training passes clear, which a replayed step does not do."""
    if net.training:
        net.kept = None
        return net.layer.weight.sum()
    if net.kept is None:
        net.kept = net.layer.weight.sum()
    return net.kept


def weight_in_a_list(net: Net, _: Tensor) -> Tensor:
    return net.held[0].sum()


def buffer_in_a_list(net: Net, inputs: Tensor) -> Tensor:
    if net.training:
        net.mean += inputs.mean(0)
    return 1 + net.held[1].sum()


REFUSED = {
    first_batch: "earlier call",
    cached_weight: "earlier call",
    weight_in_a_list: "also holds in a list",
    buffer_in_a_list: "also holds in a list",
}


@pytest.mark.parametrize("scale", REFUSED)
@pytest.mark.parametrize("members", [1, 3])
def test_networks_with_other_dependencies_are_refused(scale: Callable[[Net, Tensor], Any], members: int) -> None:
    with pytest.raises(UsageError, match=REFUSED[scale]):
        train(recipe()._replace(model=lambda: Net(scale)), [Member(seed, SGD) for seed in range(members)])


def mask(net: Net, inputs: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.linspace(1, 2, CLASSES, dtype=inputs.dtype)
    return net.kept


def last_activations(net: Net, inputs: Tensor) -> float:
    net.kept = inputs.detach()
    return 1.0


def replaced_buffer(net: Net, inputs: Tensor) -> Tensor:
    if net.training:
        net.mean = 0.9 * net.mean + 0.1 * inputs.mean(0)
    return 1 + net.mean.sum()


def late_buffer(net: Net, inputs: Tensor) -> Tensor:
    if not hasattr(net, "late"):
        net.register_buffer("late", torch.ones(CLASSES, dtype=inputs.dtype))
    return net.late


def dropped(net: Net, inputs: Tensor) -> Tensor:
    return F.dropout(torch.ones(len(inputs), 1, dtype=inputs.dtype), 0.5, net.training)


@pytest.mark.parametrize("scale", [mask, last_activations, replaced_buffer, late_buffer, dropped])
def test_harmless_attributes_are_allowed(scale: Callable[[Net, Tensor], Any]) -> None:
    torch.manual_seed(0)
    fresh, used = Net(scale), Net(scale)
    used.load_state_dict(fresh.state_dict())
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    check_plain_calls(fresh, used, INPUTS)
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in before.items())


class Shared(nn.Module):
    drawn = torch.zeros(())
    made = 0

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        Shared.drawn, Shared.made = draw(), Shared.made + 1

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * self.drawn


def test_a_random_class_attribute_is_refused_and_a_count_is_not() -> None:
    with pytest.raises(UsageError, match=r"Shared\.drawn"):
        check_model(lambda: Shared(lambda: torch.rand(())), INPUTS)
    check_model(lambda: Shared(lambda: torch.ones(())), INPUTS)


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook", "register_full_backward_hook"])
def test_hooks_of_the_backward_pass_are_refused(hook: str) -> None:
    def model() -> nn.Module:
        module = network()
        layer = next(part for part in module.modules() if isinstance(part, nn.Linear))
        getattr(layer if "full" in hook else layer.weight, hook)(lambda *_: None)
        return module

    with pytest.raises(UsageError, match="hook"):
        train(recipe()._replace(model=model), [Member(0, SGD)])


@dataclass(frozen=True)
class Augmented(Blobs):
    vary: Callable[[Tensor, Tensor], Tensor] = field(default=lambda inputs, _: inputs, metadata={"described": False})

    def augment(self, inputs: Tensor, keys: Tensor) -> Tensor:
        return self.vary(inputs, keys)


def by_the_first_key(inputs: Tensor, keys: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(int(keys[0]))
    return inputs + torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)


@pytest.mark.parametrize(
    "vary", [by_the_first_key, lambda inputs, _: inputs - inputs.mean(0), lambda inputs, _: inputs + inputs.roll(1, 0)]
)
def test_augmentations_that_mix_samples_are_refused(vary: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(UsageError, match="other samples are in the batch"):
        train(recipe()._replace(dataset=Augmented(vary=vary)), [Member(0, SGD), Member(1, SGD)])


def test_an_augmentation_of_single_samples_trains() -> None:
    def noise(inputs: Tensor, keys: Tensor) -> Tensor:
        return inputs + normal(keys[:, None], torch.arange(FEATURES)).to(inputs.dtype)

    [result] = train(recipe()._replace(dataset=Augmented(vary=noise)), [Member(0, SGD)])
    assert result.diverged_epoch is None


def in_a_context(variable: contextvars.ContextVar[int]) -> None:
    variable.set(variable.get() + 1)


def in_a_thread(local: Any) -> None:
    local.count = getattr(local, "count", 0) + 1


def in_weak_keys(counts: Any) -> None:
    counts[Net] = counts.get(Net, 0) + 1


def step(values: Iterator[Any]) -> None:
    next(values)


@pytest.mark.parametrize(
    ("change", "make"),
    [
        (in_a_context, lambda: contextvars.ContextVar("count", default=0)),
        (in_a_thread, threading.local),
        (in_weak_keys, weakref.WeakKeyDictionary),
        (step, lambda: enumerate([1, 2, 3])),
        (step, lambda: zip([1, 2, 3], [1, 2, 3], strict=True)),
        (step, lambda: map(abs, [1, 2, 3])),
    ],
)
def test_state_inside_python_objects_is_seen(change: Callable[[Any], None], make: Callable[[], Any]) -> None:
    kept = make()
    with unchanged_state({"the code": lambda: kept}):
        pass
    with pytest.raises(UsageError, match="changes in a call"), unchanged_state({"the code": lambda: kept}):
        change(kept)


@pytest.mark.parametrize("kept", [itertools.repeat(1), random.SystemRandom()])
def test_objects_without_state_are_ignored(kept: Any) -> None:
    with unchanged_state({"the code": lambda: kept}):
        pass


class OverTheFirst:
    """A loss divided by that of the first batch."""

    first: Tensor | None = None

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, labels, reduction="none")
        if self.first is None:
            self.first = losses.detach().mean()
        return losses / self.first


class Weighted(OverTheFirst):
    """A loss with weights from its first call, the same for all models."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        if self.first is None:
            self.first = torch.zeros_like(outputs)[0] + torch.arange(1, 1 + CLASSES, dtype=outputs.dtype)
        return F.cross_entropy(outputs, labels, self.first, reduction="none")


def test_a_loss_may_keep_constants_from_its_first_call() -> None:
    members = [Member(seed, SGD) for seed in range(3)]
    with pytest.raises(UsageError, match="the loss: first is kept"):
        train(recipe()._replace(sample_loss=OverTheFirst()), members)
    solo, together = (
        train(recipe()._replace(sample_loss=Weighted()), some)[0].final for some in (members[:1], members)
    )
    assert together == pytest.approx(solo)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:There is a performance drop")  # the older weight_norm
@pytest.mark.parametrize(
    "change", [nn.utils.weight_norm, nn.utils.spectral_norm, lambda layer: random_unstructured(layer, "weight", 0.5)]
)
def test_a_weight_that_is_computed_before_each_call(change: Callable[[nn.Module], Any]) -> None:
    def model() -> nn.Module:
        layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        change(layer)
        return layer

    members = [Member(seed, SGD) for seed in range(3)]
    solo, together = (train(recipe()._replace(model=model), some)[0].final for some in (members[:1], members))
    assert together == pytest.approx(solo)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * inputs

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return 2 * gradients[0]


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (lambda: Net(lambda _, inputs: Doubled.apply(inputs.sum(-1, keepdim=True).clone())), "setup_context"),
        (lambda: Net(lambda net, inputs: checkpoint(net.layer, inputs, use_reentrant=False)), "without them"),
        (lambda: nn.DataParallel(nn.Linear(FEATURES, CLASSES, dtype=torch.float64)), "leave that out"),
        (lambda: torch.compile(nn.Linear(FEATURES, CLASSES, dtype=torch.float64), backend="eager"), "torch.compile"),
    ],
)
def test_networks_that_torch_func_does_not_support_are_refused(
    model: Callable[[], nn.Module], advice: str, members: int
) -> None:
    with pytest.raises(UsageError, match=advice):
        train(recipe()._replace(model=model), [Member(seed, SGD) for seed in range(members)])
