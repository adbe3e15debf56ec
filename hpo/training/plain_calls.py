"""Before training, hpo's calls of a network are compared with plain calls.

Training calls a network in Python only a few times, and one network stands for all models. So its outputs may depend
on its inputs, parameters and buffers only: not on a parameter that it also holds elsewhere, and not on what it kept
from an earlier call, such as the mean of its first batch.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.data.source import Inputs
from hpo.errors import UsageError
from hpo.gradients.substitutes import Substitutes
from hpo.tree import Tree
from hpo.user_code.calls import PURITY_ADVICE
from hpo.user_code.generators import seeded
from hpo.user_code.python_state import STATE_ADVICE, unchanged_state

SAMPLES = 2  # per call
TOLERANCE = 1e-3  # of the largest output: hpo computes some layers by other operations than PyTorch


def check_plain_calls(fresh: nn.Module, used: nn.Module, examples: Inputs) -> None:
    """Compares calls of two networks of one seed, which must not be used afterwards.

    A network whose plain call fails is left to later checks.

    Args:
        examples: inputs [M, ...], of which a few are used.

    Raises:
        UsageError: hpo's call of the network gives different outputs than a plain call, or after calls with
            other inputs and parameters.
    """
    count = min(SAMPLES, len(examples) // 2)
    inputs, other_inputs = examples[:count].cpu(), examples[count : 2 * count].cpu()
    params, other_params = (_changed_parameters(fresh, factor) for factor in (1.2, -0.8))
    modes = (False, True)  # evaluation, training
    try:
        plain, repeated = ({mode: _plain_call(fresh, params, inputs, mode) for mode in modes} for _ in range(2))
        functional = {mode: _functional_call(fresh, params, inputs, mode) for mode in modes}
    except Exception:  # such a network is reported where it is first run on examples
        return
    if not all(_close(repeated[mode], plain[mode]) for mode in modes):
        raise UsageError(f"the network gives different outputs for the same inputs and parameters; {PURITY_ADVICE}")
    if not all(_close(functional[mode], plain[mode]) for mode in modes):
        raise UsageError(
            "the network uses a parameter or buffer that it also holds in a list, a closure or another object, where "
            "it would keep its first value; use it as the attribute of its layer, as in self.layer.weight"
        )
    _functional_call(used, other_params, other_inputs, False)
    for mode in (True, False):
        _functional_call(used, other_params, other_inputs, mode)
        with unchanged_state({"the network": used}):
            outputs = _functional_call(used, params, inputs, mode)
        if not _close(outputs, plain[mode]):
            raise UsageError(
                "the network gives different outputs for the same inputs and parameters after calls with others: it "
                f"uses something that it kept from an earlier call; {STATE_ADVICE}"
            )


def _changed_parameters(module: nn.Module, factor: float) -> Tree:
    """Other values for all parameters: zeros would hide what they multiply, and a norm hides a mere factor."""
    values = {name: value.detach() for name, value in module.named_parameters()}
    return {name: (value.flip(0) if value.dim() else value) * factor + 0.02 * factor for name, value in values.items()}


@torch.no_grad()
def _plain_call(module: nn.Module, params: Tree, inputs: Tensor, training: bool) -> Tensor:
    """A call of the module with these values of its parameters; the module is restored afterwards."""
    parameters = dict(module.named_parameters())
    buffers = [(layer, dict(layer._buffers)) for layer in module.modules()]
    before = [(value, value.detach().clone()) for value in (*parameters.values(), *module.buffers())]
    for name, value in params.items():
        parameters[name].copy_(value)
    try:
        with seeded(0):
            return module.train(training)(inputs.clone()).clone()
    finally:
        for tensor, value in before:
            tensor.copy_(value)
        for layer, held in buffers:  # the call may have replaced or registered a buffer
            layer._buffers.clear()
            layer._buffers.update(held)


@torch.no_grad()
def _functional_call(module: nn.Module, params: Tree, inputs: Tensor, training: bool) -> Tensor:
    copies = {name: value.clone() for name, value in (params | dict(module.named_buffers())).items()}
    with seeded(0), Substitutes():
        return functional_call(module.train(training), copies, (inputs.clone(),))


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    first, second = first.nan_to_num(), second.nan_to_num()
    return bool(((first - second).abs() <= TOLERANCE * second.abs().max()).all())
