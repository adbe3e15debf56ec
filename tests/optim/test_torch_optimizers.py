"""Optimizers written for PyTorch, one instance per model, against a plain loop over the models."""

import io
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from networks import CLASSES
from torch import Tensor, nn
from torch_loops import (
    MEMBERS,
    RATES,
    SAMPLES,
    STEPS,
    assert_equal,
    batch,
    factor,
    modules,
    plain_loop,
    populate,
    train,
)

from hpo.gradients.draws import Moment
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.torch_optimizer import TorchOptimizer, from_torch
from hpo.training.population import Population
from hpo.training.update_types import UnsavableState

pytestmark = pytest.mark.usefixtures("one_thread")


def compare(source: Callable[..., Any], closure: bool = False, steps: range = range(STEPS), **arguments: Any) -> None:
    population = populate(from_torch(source, learning_rate=0.1, **arguments), modules())
    train(population, steps)
    networks = modules()
    plain_loop(networks, lambda network, rate: [source(network.parameters(), lr=rate, **arguments)], closure, steps)
    assert all(
        not torch.equal(one, other)
        for one, other in zip(networks[0].parameters(), modules()[0].parameters(), strict=True)
    )
    assert_equal(population, networks)


TORCH: dict[str, dict[str, Any]] = {
    "Adadelta": {"weight_decay": 0.01},
    "Adafactor": {"weight_decay": 0.01},
    "Adagrad": {"lr_decay": 0.01, "weight_decay": 0.01},
    "Adam": {"betas": (0.8, 0.99), "weight_decay": 0.01, "amsgrad": True},
    "AdamW": {"betas": (0.8, 0.99), "weight_decay": 0.1},
    "Adamax": {"weight_decay": 0.01},
    "ASGD": {"lambd": 1e-3, "t0": 5},
    "NAdam": {"momentum_decay": 0.01, "decoupled_weight_decay": True},
    "RAdam": {"weight_decay": 0.01},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Rprop": {"etas": (0.4, 1.3), "step_sizes": (1e-6, 1.0)},
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}


@pytest.mark.parametrize("name", TORCH)
def test_equals_a_plain_loop(name: str) -> None:
    compare(getattr(torch.optim, name), **TORCH[name])


@pytest.mark.parametrize(("search", "steps"), [(None, STEPS), ("strong_wolfe", 5)])
def test_a_step_that_needs_a_closure(search: str | None, steps: int) -> None:
    """A line search amplifies rounding errors after some steps, in a plain loop as well."""
    compare(torch.optim.LBFGS, True, range(steps), max_iter=3, history_size=4, line_search_fn=search)


POPULAR: dict[str, dict[str, Any]] = {
    "ADOPT": {},
    "AdEMAMix": {"weight_decay": 0.01},
    "AdaBelief": {},
    "AdaBound": {"final_lr": 0.1},
    "AdaFactor": {},
    "AdaNorm": {},
    "AdaShift": {"keep_num": 3},
    "AdamP": {},
    "Adan": {"betas": (0.9, 0.9, 0.98)},
    "CAME": {},
    "DAdaptAdam": {},
    "Grams": {},
    "LARS": {"momentum": 0.8},
    "LBFGS": {"max_iter": 3, "history_size": 4},
    "Lamb": {},
    "Lion": {"betas": (0.8, 0.95), "weight_decay": 0.1},
    "MADGRAD": {},
    "NovoGrad": {},
    "Prodigy": {"weight_decay": 0.1},
    "QHAdam": {"nus": (0.7, 1.0)},
    "RAdam": {},
    "ROSE": {},
    "Ranger": {"k": 3},
    "Ranger21": {"num_iterations": STEPS},
    "SAM": {"base_optimizer": torch.optim.SGD, "rho": 0.1, "momentum": 0.9},
    "SGDP": {"momentum": 0.9},
    "ScheduleFreeAdamW": {"warmup_steps": 3},
    "Shampoo": {"preconditioning_compute_steps": 2},
    "SignSGD": {},
    "StableAdamW": {},
    "Tiger": {},
    "Yogi": {},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", POPULAR)
def test_equals_a_plain_loop_with_a_popular_package(name: str) -> None:
    """Optimizers whose numbers do not depend on the last digits of the gradient, as those of eigenvectors do."""
    package = pytest.importorskip("pytorch_optimizer")
    compare(getattr(package, name), closure=name in ("SAM", "LBFGS"), **POPULAR[name])


def two_kinds(named_parameters: Any, learning_rate: float, vector_rate: float = 0.01) -> list[torch.optim.Optimizer]:
    matrices = [parameter for _, parameter in named_parameters if parameter.dim() == 2]
    biases = [parameter for name, parameter in named_parameters if name.endswith("bias")]
    return [torch.optim.Muon(matrices, lr=learning_rate), torch.optim.AdamW(biases, lr=vector_rate)]


def test_a_function_may_give_each_parameter_its_own_optimizer() -> None:
    optimizer = from_torch(two_kinds, learning_rate=0.1)
    assert optimizer.hyperparameters == {"learning_rate": 0.1, "vector_rate": 0.01}
    population = populate(optimizer, modules(), vector_rate=0.02)
    train(population)
    networks = modules()
    plain_loop(networks, lambda network, rate: two_kinds(list(network.named_parameters()), rate, 0.02))
    assert_equal(population, networks)


@pytest.mark.parametrize("regularizer", ["gnvr", "sam", "vasso"])
def test_gradients_are_those_of_the_regularizer(regularizer: str) -> None:
    """The same as the built-in AdamW over the same regularizer."""
    strength = dict.fromkeys(REGULARIZERS[regularizer].hyperparameters, 0.1)
    results = []
    for optimizer in (OPTIMIZERS["adamw"], from_torch(torch.optim.AdamW, learning_rate=0.1)):
        own = {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999}
        epsilon = {"epsilon": 1e-8} if optimizer.name == "adamw" else {"eps": 1e-8}
        population = populate(optimizer, modules(), regularizer, **own, **epsilon, **strength)
        train(population)
        results.append(population.params)
    for name, leaf in results[0].items():
        torch.testing.assert_close(results[1][name], leaf, rtol=1e-10, atol=1e-12)


def channels_last_modules() -> list[nn.Module]:
    """Networks whose convolution has its weights in the channels-last memory format."""
    networks: list[nn.Module] = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        convolution = nn.Unflatten(1, (3, 2, 1)), nn.Conv2d(3, 4, (2, 1))
        network = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(4, CLASSES)).double()
        networks.append(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    assert not networks[0][1].weight.is_contiguous()  # type: ignore[index]
    return networks


@pytest.mark.parametrize("is_built_in", [True, False])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_weights_in_channels_last_format(name: str, is_built_in: bool) -> None:
    source = getattr(torch.optim, name)
    optimizer = OPTIMIZERS[name.lower()] if is_built_in else from_torch(source, learning_rate=0.1)
    values = {"weight_decay": 0.1, "momentum": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "eps": 1e-8}
    known = {each: value for each, value in values.items() if each in optimizer.hyperparameters}
    population = populate(optimizer, channels_last_modules(), **known)
    train(population)
    networks = channels_last_modules()
    plain_loop(networks, lambda network, rate: [source(network.parameters(), lr=rate, weight_decay=0.1)])
    assert_equal(population, networks)


class Replacing(torch.optim.Optimizer):
    """Gives its parameters new memory and counts its steps in an attribute."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.count = 0

    def step(self, _: Any = None) -> None:
        self.count += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data = parameter.data - group["lr"] / self.count * parameter.grad.data


class Noisy(torch.optim.SGD):
    """Draws from PyTorch's generator."""

    def __init__(self, params: Any, lr: float, noise: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        self.noise = noise

    def step(self, _: Any = None) -> None:
        super().step()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(torch.randn_like(parameter), alpha=self.noise * group["lr"])


class Averaging(torch.optim.SGD):
    """Is evaluated at an average of its weights, as Schedule-Free is; refuses a step in the wrong mode."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.param_groups[0]["train_mode"] = False

    def swap(self, train: bool) -> None:
        group = self.param_groups[0]
        if group["train_mode"] is not train:
            group["train_mode"] = train
            for parameter in group["params"]:
                if "average" in (state := self.state[parameter]):
                    kept = parameter.detach().clone()
                    parameter.data.copy_(state["average"])
                    state["average"] = kept

    def train(self) -> None:
        self.swap(True)

    def eval(self) -> None:
        self.swap(False)

    def step(self, _: Any = None) -> None:
        assert self.param_groups[0]["train_mode"], "in evaluation mode"
        super().step()
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["average"] = state.get("average", parameter.detach()).lerp(parameter.detach(), 0.3)


class Sharpness(torch.optim.Optimizer):
    """SAM that moves the weights by new memory and keeps the old one, or in place."""

    def __init__(self, params: Any, lr: float, replaces: bool = True) -> None:
        super().__init__(params, {"lr": lr, "replaces": replaces})

    @torch.no_grad()
    def step(self, closure: Any) -> None:
        [group] = self.param_groups
        before = [parameter.data if group["replaces"] else parameter.data.clone() for parameter in group["params"]]
        for parameter in group["params"]:
            if group["replaces"]:
                parameter.data = parameter.data + 0.3 * parameter.grad
            else:
                parameter.add_(0.3 * parameter.grad)
        with torch.enable_grad():
            closure()
        for parameter, weights in zip(group["params"], before, strict=True):
            parameter.data = weights
            parameter.sub_(group["lr"] * parameter.grad)


class Optional(Sharpness):
    """SAM whose step also runs without a closure, as SGD."""

    def step(self, closure: Any = None) -> None:
        super().step(closure or (lambda: None))


class Polyak(torch.optim.Optimizer):
    """A step size from the loss, and its learning rate where there is no closure."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        for parameter in self.param_groups[0]["params"]:
            rate = self.param_groups[0]["lr"] * (1.0 if loss is None else loss.item())
            parameter.data.sub_(rate * parameter.grad)
        return loss


class Returning(torch.optim.SGD):
    """Only returns the loss of its closure, as most optimizers do."""

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        super().step()
        return loss


class Remembering(torch.optim.Optimizer):
    """Heavy ball from the weights of the last two steps, whose memory it keeps."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, _: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            before = self.state[parameter].get("before", parameter.data)
            self.state[parameter]["before"] = now = parameter.data
            parameter.data = now - self.param_groups[0]["lr"] * parameter.grad + 0.9 * (now - before)


class Wrapping(torch.optim.Optimizer):
    """SAM as many write it: the optimizer of its second step has the same parameter groups and a state of its own."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.param_groups = self.base.param_groups
        self.count = 0

    @torch.no_grad()
    def step(self, closure: Any) -> None:
        self.count += 1
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["before"] = parameter.clone()
            parameter.add_(0.3 * parameter.grad)
        for _ in range(2 if self.count < 6 else 1):  # as often as a line search may need
            with torch.enable_grad():
                closure()
        for parameter in self.param_groups[0]["params"]:
            parameter.copy_(self.state[parameter]["before"])
        self.base.step()


class Listing(torch.optim.Optimizer):
    """Heavy ball from its last updates, in a list of its own, with the parameters in another one."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.parameters, self.updates = list(self.param_groups[0]["params"]), {"all": []}

    @torch.no_grad()
    def step(self, _: Any = None) -> None:
        rate = self.param_groups[0]["lr"]
        self.updates["all"].append([-rate * parameter.grad for parameter in self.parameters])
        for number, parameter in enumerate(self.parameters):
            for age, update in enumerate(reversed(self.updates["all"])):
                parameter.add_(update[number], alpha=0.5**age)


class Swapping(Averaging):
    """Exchanges the memory of weights and average."""

    def swap(self, train: bool) -> None:
        [group] = self.param_groups
        if group["train_mode"] is not train:
            group["train_mode"] = train
            for parameter in group["params"]:
                if "average" in (state := self.state[parameter]):
                    state["average"], parameter.data = parameter.data, state["average"]


def test_a_parameter_may_get_new_memory() -> None:
    compare(Replacing)
    compare(Remembering)


@pytest.mark.parametrize("replaces", [True, False])
def test_the_closure_is_called_at_the_parameters_as_they_are(replaces: bool) -> None:
    compare(Sharpness, closure=True, replaces=replaces)


@pytest.mark.parametrize("source", [Optional, Polyak])
def test_an_optional_closure_is_given_where_the_step_uses_it(source: type) -> None:
    compare(source, closure=True)


def test_a_closure_whose_loss_is_only_returned_is_not_given() -> None:
    population = populate(from_torch(Returning, learning_rate=0.1), modules())
    train(population, range(3))
    assert population.gradient_evaluations == [1.0] * MEMBERS


def evaluate(population: Population) -> Tensor:
    inputs, labels = (part[:, 0] if part.dim() > 2 else part for part in batch(999))
    indices = torch.arange(SAMPLES).expand(len(population), -1)
    [metrics] = population.evaluate(
        inputs[0], indices, torch.ones(len(population), SAMPLES), labels[:1].expand(len(population), -1)
    )
    return metrics["loss"]


@pytest.mark.parametrize("source", [Averaging, Swapping])
def test_evaluation_uses_the_optimizers_own_average(source: type) -> None:
    """And training goes on from where it was, also after several evaluations in a row."""
    population, networks = populate(from_torch(source, learning_rate=0.1), modules()), modules()
    averages = [[parameter.detach().clone() for parameter in network.parameters()] for network in networks]
    for step in range(6):
        train(population, range(step, step + 1))
        for member, network in enumerate(networks):
            inputs, labels = (part[member] for part in batch(step))
            network.zero_grad()
            nn.functional.cross_entropy(network(inputs[0]), labels).backward()
            with torch.no_grad():
                for index, parameter in enumerate(network.parameters()):
                    parameter -= RATES[member] * factor(step) * parameter.grad
                    before = parameter if step == 0 else averages[member][index]
                    averages[member][index] = before + 0.3 * (parameter - before)
        if step % 2:
            losses = [evaluate(population), evaluate(population)]
            inputs, labels = batch(999)
            for member, network in enumerate(networks):
                with torch.no_grad():
                    named = dict(zip(dict(network.named_parameters()), averages[member], strict=True))
                    outputs = torch.func.functional_call(network, named, (inputs[0, 0],))
                    expected = nn.functional.cross_entropy(outputs, labels[0])
                assert all(float(loss[member]) == pytest.approx(float(expected), rel=1e-12) for loss in losses)
    train(population, range(6, 7))
    assert_equal_after_training(population, networks)


@pytest.mark.parametrize(
    ("package", "name"), [("schedulefree", "AdamWScheduleFree"), ("pytorch_optimizer", "ScheduleFreeAdamW")]
)
def test_schedule_free_is_evaluated_at_its_average_and_goes_on_from_its_weights(package: str, name: str) -> None:
    """One package refuses a step in evaluation mode, the other makes it from the average."""
    source = getattr(pytest.importorskip(package), name)
    population, networks = populate(from_torch(source, learning_rate=0.1), modules()), modules()
    optimizers = [source(network.parameters(), lr=rate) for network, rate in zip(networks, RATES, strict=True)]
    for optimizer in optimizers:
        optimizer.train()
    for step in range(9):
        population.step(*batch(step))
        for member, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            inputs, labels = (part[member] for part in batch(step))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[0]), labels).backward()
            optimizer.step()
        if step % 3 == 2:
            losses = evaluate(population)
            inputs, labels = batch(999)
            for member, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
                optimizer.eval()
                expected = nn.functional.cross_entropy(network(inputs[0, 0]), labels[0])
                assert float(losses[member]) == pytest.approx(float(expected.detach()), rel=1e-11)
                optimizer.train()
    population.updates.resume()
    assert_equal(population, networks)


def assert_equal_after_training(population: Population, networks: Sequence[nn.Module]) -> None:
    for member, network in enumerate(networks):
        inputs, labels = (part[member] for part in batch(6))
        network.zero_grad()
        nn.functional.cross_entropy(network(inputs[0]), labels).backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= RATES[member] * factor(6) * parameter.grad
    assert_equal(population, networks)


def packages() -> dict[str, TorchOptimizer]:
    chosen: dict[str, Any] = {
        "AdamW": torch.optim.AdamW, "LBFGS": torch.optim.LBFGS, "Adafactor": torch.optim.Adafactor,
        "Replacing": Replacing, "Noisy": Noisy, "Averaging": Averaging, "Swapping": Swapping,
        "Remembering": Remembering, "Sharpness": Sharpness, "two kinds": two_kinds,
        "Wrapping": Wrapping, "Listing": Listing,
    }  # fmt: skip
    return {name: from_torch(source, learning_rate=0.1) for name, source in chosen.items()}


def chosen(name: str) -> TorchOptimizer:
    if name in packages():
        return packages()[name]
    source = getattr(pytest.importorskip("pytorch_optimizer"), name)
    return from_torch(source, learning_rate=0.1, **POPULAR[name])


# Those of pytorch_optimizer keep average weights, step twice, estimate a step size, or store a dtype.
SAVED = [*packages(), "ScheduleFreeAdamW", "SAM", "Prodigy", "Ranger21", "Shampoo", "ROSE"]


def step_with_keys(population: Population, step: int, rows: Sequence[int]) -> None:
    inputs, labels = batch(step)
    keys = torch.tensor([1000 * step + row for row in rows])
    moment = Moment(keys, torch.full_like(keys, step), torch.ones_like(keys))
    population.step(inputs[list(rows)], labels[list(rows)], {"learning_rate": factor(step)}, moment)


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("evaluated", [False, True])
def test_saved_and_pruned_models_go_on_as_if_nothing_had_happened(name: str, evaluated: bool) -> None:
    full, saved, pruned, loaded = (populate(chosen(name), modules()) for _ in range(4))
    for step in range(8):
        for population in (full, saved, pruned):
            step_with_keys(population, step, range(MEMBERS) if population is not pruned or step < 4 else [0, 2])
            if evaluated:
                evaluate(population)
        if step == 3:
            pruned.keep([0, 2])
    buffer = io.BytesIO()
    torch.save(saved.states(), buffer)
    buffer.seek(0)
    loaded.restore(torch.load(buffer, weights_only=True))
    for step in range(8, 14):
        for population in (full, saved, loaded):
            step_with_keys(population, step, range(MEMBERS))
        step_with_keys(pruned, step, [0, 2])
    for name, leaf in full.params.items():
        torch.testing.assert_close(pruned.params[name], leaf[[0, 2]], rtol=1e-9, atol=1e-11)
        assert torch.equal(loaded.params[name], saved.params[name])
        torch.testing.assert_close(saved.params[name], leaf, rtol=1e-9, atol=1e-11)
    assert full.gradient_evaluations == saved.gradient_evaluations == loaded.gradient_evaluations


@pytest.mark.parametrize("name", SAVED)
def test_a_model_in_a_population_trains_as_by_itself(name: str) -> None:
    full = populate(chosen(name), modules())
    alone = populate(chosen(name), modules())
    alone.keep([1])
    for step in range(5):
        step_with_keys(full, step, range(MEMBERS))
        step_with_keys(alone, step, [1])
    for name, leaf in full.params.items():
        torch.testing.assert_close(alone.params[name], leaf[[1]], rtol=1e-10, atol=1e-12)


def test_random_numbers_follow_from_the_keys_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    results = []
    for keys in ([5, 6, 7], [5, 6, 7], [5, 9, 7]):
        population = populate(from_torch(Noisy, learning_rate=0.1), modules())
        state = torch.get_rng_state()
        moment = Moment(torch.tensor(keys), torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64))
        population.step(*batch(0), {}, moment)
        assert torch.equal(torch.get_rng_state(), state)
        results.append(population.params["linear1.weight"])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0][0], results[2][0]) and not torch.equal(results[0][1], results[2][1])
    torch.set_rng_state(before)


@pytest.mark.parametrize("entry", [object(), [deque([torch.ones(1)])]])
def test_a_state_that_no_checkpoint_can_hold_is_not_saved(entry: Any) -> None:
    """`torch.load` would refuse it, and the run would start again."""

    class Keeping(torch.optim.SGD):
        def step(self, _: Any = None) -> None:
            super().step()
            self.state[self.param_groups[0]["params"][0]]["entry"] = entry

    population = populate(from_torch(Keeping, learning_rate=0.1), modules())
    train(population, range(2))
    with pytest.raises(UnsavableState, match=r"'Keeping' has an entry of the type (object|deque)"):
        population.states()


@pytest.mark.parametrize("keep", [lambda given: {given: torch.ones(1)}, lambda given: {"best": [given]}])
def test_a_state_with_parameters_is_not_saved(keep: Callable[[nn.Parameter], Any]) -> None:
    """Of a group, as GrokAdamW keeps its moments: a resumed run has other parameters and would not find them."""

    class Keeping(torch.optim.SGD):
        def step(self, _: Any = None) -> None:
            super().step()
            self.param_groups[0]["kept"] = keep(self.param_groups[0]["params"][0])

    population = populate(from_torch(Keeping, learning_rate=0.1), modules())
    train(population, range(2))
    with pytest.raises(UnsavableState, match="'Keeping' has an entry of the type Parameter"):
        population.states()


@pytest.mark.parametrize(
    "keep",
    [
        lambda _: deque([1.0]),
        lambda parameter: {parameter: torch.ones(1)},
        lambda parameter: {id(parameter): 1.0},
        lambda parameter: [parameter, 1.0],
    ],
)
def test_attributes_that_no_checkpoint_can_hold_are_not_lost(keep: Callable[[nn.Parameter], Any]) -> None:
    class Keeping(torch.optim.SGD):
        def step(self, _: Any = None) -> None:
            super().step()
            self.kept = keep(self.param_groups[0]["params"][0])

    population = populate(from_torch(Keeping, learning_rate=0.1), modules())
    train(population, range(2))
    with pytest.raises(UnsavableState, match=r"'Keeping' has an attribute 'kept'"):
        population.states()


def test_every_optimizer_of_pytorch_is_compared_or_refused() -> None:
    classes = {name for name, value in vars(torch.optim).items() if isinstance(value, type)} - {"Optimizer"}
    elsewhere = {"LBFGS", "Muon"}  # those that need a closure, or matrices
    refused = {"SparseAdam"}  # takes no dense gradients; see test_wrong_torch_optimizers.py
    assert classes == TORCH.keys() | elsewhere | refused
