"""The optimizer and the schedules as Python."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS, Optimizer
from hpo.optim.parameter_groups import ParameterGroup
from hpo.optim.schedules import Constant, Cosine, Linear, MultiStep
from hpo.optim.torch_arguments import RATE, TORCH_RATE, resolve
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.snippet.extraction import Extraction, check_names
from hpo.user_code.ownership import is_user_code

VARIABLES = ("network", "parameters", "groups", "optimizers")  # of `new_optimizers`
CLASSES = {"sgd": "SGD", "nesterov": "SGD", "adam": "Adam", "adamw": "AdamW"}


def optimizer_text(
    optimizer: Optimizer | TorchOptimizer, groups: Sequence[ParameterGroup], values: Mapping[str, Any], code: Extraction
) -> str:
    """The function `new_optimizers`: network -> list of optimizers.

    Args:
        groups: the parameters, first those whose hyperparameters are not changed. values: of the hyperparameters.
    """
    source, arguments = _constructor(optimizer, values, code)
    named = isinstance(optimizer, TorchOptimizer) and not isinstance(optimizer.source, type)
    parameters, lines = "list(network.named_parameters())" if named else "network.parameters()", []
    if len(groups) > 1:
        lines, parameters = ["parameters = dict(network.named_parameters())"], "groups"
        entries = []
        for group in groups:
            of_group = _constructor(optimizer, group.values(values, {}), code)[1]
            changed = {key: value for key, value in of_group.items() if arguments.get(key) != value}
            changes = "".join(f", {_quoted(key)}: {value}" for key, value in changed.items())
            names = ", ".join(f'"{name}"' for name in group.names)
            entries += [f'{{"params": [parameters[name] for name in ({names},)]{changes}}}'] * bool(group.names)
        lines.append("groups = [\n        " + ",\n        ".join(entries) + ",\n    ]")
    given = "".join(f", {name}={value}" for name, value in arguments.items())
    check_names(f"optimizer {optimizer.name!r}", f"{source}(None{given})", VARIABLES)
    call = f"{source}({parameters}{given})"
    if named:
        as_list = "list(optimizers) if isinstance(optimizers, (list, tuple)) else [optimizers]"
        lines += [f"optimizers = {call}", f"return {as_list}"]
    else:
        lines.append(f"return [{call}]")
    return "def new_optimizers(network):\n    " + "\n    ".join(lines)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _constructor(
    optimizer: Optimizer | TorchOptimizer, values: Mapping[str, Any], code: Extraction
) -> tuple[str, dict[str, str]]:
    """The class or function, and its arguments as Python."""
    part = f"optimizer {optimizer.name!r}"
    if isinstance(optimizer, TorchOptimizer):
        resolved = {name: resolve(argument, values) for name, argument in optimizer.arguments.items()}
        arguments = {name: code.literal(part, value) for name, value in resolved.items()}
        return _source(part, optimizer.source, code), arguments
    if OPTIMIZERS.get(optimizer.name) is not optimizer:
        raise UsageError(
            f"{part} is written for stacks of models, which plain PyTorch does not have; write it as a "
            "torch.optim.Optimizer and give it by hpo.from_torch"
        )
    chosen: dict[str, Any] = {"lr": values[RATE]}
    if "momentum" in values:
        chosen |= {"momentum": values["momentum"], "weight_decay": values["weight_decay"]}
        if optimizer.name == "nesterov" and values["momentum"]:
            chosen["nesterov"] = True
    else:
        chosen |= {"betas": (values["beta1"], values["beta2"]), "eps": values["epsilon"]}
        chosen["weight_decay"] = values["weight_decay"]
    return f"torch.optim.{CLASSES[optimizer.name]}", {name: repr(value) for name, value in chosen.items()}


def _source(part: str, source: Any, code: Extraction) -> str:
    """An expression for a class or function: an import where an installed package has it, else its own source."""
    module, name = str(getattr(source, "__module__", "")), getattr(source, "__name__", "")
    package = module.partition(".")[0]
    if module.startswith("torch.optim."):
        return f"torch.optim.{name}"
    if is_user_code(source) or package == "hpo":
        return code.call(part, source)
    module = package if getattr(sys.modules[package], name, None) is source else module
    code.imports[f"from {module} import {name}"] = None
    return name


def group_key(optimizer: Optimizer | TorchOptimizer, name: str) -> str:
    """The key of a hyperparameter in PyTorch's parameter groups.

    Raises:
        UsageError: it is only a part of an entry there, as beta1 is of betas.
    """
    if isinstance(optimizer, TorchOptimizer) and name != RATE:
        return name
    keys = {RATE: TORCH_RATE, "weight_decay": "weight_decay", "momentum": "momentum", "epsilon": "eps"}
    if name not in keys:
        raise UsageError(f"the schedule of {name!r} has no plain version; leave it out of schedules")
    return keys[name]


def is_constant(schedule: Any) -> bool:
    return type(schedule) is Constant and not schedule.warmup_epochs


def schedule_text(name: str, schedule: Callable[..., Any], code: Extraction) -> str:
    """The function `name`: (step from 0, steps, steps_per_epoch) -> factor; empty where the schedule has that name."""
    if type(schedule) not in (Constant, Cosine, Linear, MultiStep):
        called = code.call("the schedule", schedule)
        return f"{name} = {called}" if called != name else ""
    parts: Any = schedule
    lines = ["step -= step % steps_per_epoch"] if parts.by_epoch else []
    warmup = parts.warmup_epochs
    lines += [f"warmup_steps = {warmup} * steps_per_epoch"] if warmup else []
    if isinstance(schedule, Cosine | Linear):
        share = "max(0, step - warmup_steps) / max(1, steps - warmup_steps)" if warmup else "step / max(1, steps)"
        lines.append(f"share = {share}")
    lines.append(f"factor = {_factor(schedule)}")
    if warmup:
        start, done = parts.warmup_start, "step" if parts.by_epoch else "(step + 1)"
        rise = f"min(1, {done} / warmup_steps)"
        rise = f"{start} + {1 - start} * {rise}" if start else rise
        lines += ["if step < warmup_steps:", f"    factor *= {rise}"]
    body = "\n    ".join([*lines, "return factor"])
    return f'def {name}(step, steps, steps_per_epoch):\n    """The factor of a step (from 0)."""\n    {body}'


def _factor(schedule: Any) -> str:
    if isinstance(schedule, Cosine):
        half = "(1 + math.cos(math.pi * share)) / 2"
        return f"{schedule.end} + {1 - schedule.end} * {half}" if schedule.end else half
    if isinstance(schedule, Linear):
        return f"{schedule.start} + {schedule.end - schedule.start} * share"
    if isinstance(schedule, MultiStep):
        falls = [
            f"{milestone} * {'steps' if milestone < 1 else 'steps_per_epoch'}" for milestone in schedule.milestones
        ]
        return f"{schedule.factor} ** sum(step >= round(fall) for fall in ({', '.join(falls)},))"
    return "1.0"
