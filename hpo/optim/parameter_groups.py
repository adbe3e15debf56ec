"""Parameter groups: parameters whose hyperparameters differ from those of the others, chosen by their names."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hpo.errors import UsageError, plural

MAX_NAMES = 12  # that an error lists


@dataclass(frozen=True)
class Fixed:
    """A value that a hyperparameter has in a parameter group, whatever its value for other parameters."""

    value: float


def fixed(value: float) -> Fixed:
    """For `Configuration(groups=...)`: this value itself; a plain number is a factor on the configuration's value."""
    return Fixed(float(value))


Changes = Mapping[str, float | Fixed]


class ParameterGroup(NamedTuple):
    """Some parameters by name, and how their hyperparameters differ: factors and fixed values."""

    names: tuple[str, ...]
    changes: Changes

    def values(self, hyper: Mapping[str, Any], factors: Mapping[str, Any]) -> dict[str, Any]:
        """The group's hyperparameters, from those of the other parameters.

        Args:
            hyper: name -> number or tensor, times its schedule. factors: name -> the factor of its schedule, with which
                a fixed value is multiplied as well.
        """
        changed = dict(hyper)
        for name, change in self.changes.items():
            if isinstance(change, Fixed):
                value = hyper[name]
                like = torch.full_like(value, change.value) if isinstance(value, Tensor) else change.value
                changed[name] = like * factors[name] if name in factors else like
            else:
                changed[name] = hyper[name] * change
        return changed


def parameter_groups(
    module: nn.Module, groups: Mapping[str, Changes], no_decay: Sequence[str] = ()
) -> list[ParameterGroup]:
    """The parameters of a network in groups of equal changes, first those without any.

    Args:
        groups: pattern of parameter names, such as "head.*" -> changes; of two patterns for the same parameter and
            hyperparameter the later one counts.
        no_decay: patterns of parameters without weight decay; "bias" means all biases, and "norm" the parameters of
            all normalization layers.

    Raises:
        UsageError: a pattern matches no parameter.
    """
    names = [name for name, _ in module.named_parameters()]
    changes: dict[str, dict[str, float | Fixed]] = {name: {} for name in names}
    for pattern in no_decay:
        for name in _matches("no_decay", pattern, names, _named_by_word(module, pattern)):
            changes[name]["weight_decay"] = 0.0
    for pattern, changed in groups.items():
        for name in _matches("groups", pattern, names, fnmatch.filter(names, pattern)):
            changes[name] |= changed
    by_changes: dict[tuple[tuple[str, float | Fixed], ...], list[str]] = {(): []}
    for name, each in changes.items():
        by_changes.setdefault(tuple(sorted(each.items(), key=lambda item: item[0])), []).append(name)
    return [ParameterGroup(tuple(same), dict(each)) for each, same in by_changes.items()]


def _named_by_word(module: nn.Module, pattern: str) -> list[str]:
    parameters = [
        (f"{prefix}.{name}" if prefix else name, name, type(layer).__name__)
        for prefix, layer in module.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
    ]
    if pattern == "bias":
        return [full for full, name, _ in parameters if "bias" in name]
    if pattern == "norm":
        return [full for full, _, kind in parameters if "norm" in kind.lower()]
    return fnmatch.filter([full for full, _, _ in parameters], pattern)


def _matches(field: str, pattern: str, names: Sequence[str], matches: Sequence[str]) -> Sequence[str]:
    known = set(names)  # a shared parameter has one name in a network, and several in its layers
    matches = [name for name in matches if name in known]
    if not matches:
        listed = ", ".join(names[:MAX_NAMES])
        more = f" and {plural(len(names) - MAX_NAMES, 'other')}" if len(names) > MAX_NAMES else ""
        raise UsageError(
            f"{field} names {pattern!r}, which matches no parameter of the network; its parameters are {listed}{more}"
        )
    return matches
