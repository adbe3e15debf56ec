"""A network as hpo calls it, with parameters handed in, held against a plain call before any training.

Training calls a network in Python a few times only, and one network stands for all models. So its outputs may follow
from its inputs, parameters and buffers alone: not from a parameter that it holds elsewhere, and not from what it kept
of an earlier call, such as the means of the first batch that it saw.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpo.errors import UsageError
from hpo.gradients.substitutes import Substitutes
from hpo.tree import Tree
from hpo.user_code.calls import PURITY_ADVICE
from hpo.user_code.generators import seeded
from hpo.user_code.python_state import STATE_ADVICE, unchanged_state

SAMPLES = 2  # of a call
MODES = (False, True)  # evaluation, training
CLOSE = 1e-3  # of the largest output: hpo computes some layers by other operations than PyTorch


def check_plain_calls(fresh: nn.Module, used: nn.Module, examples: Tensor) -> None:
    """Calls two networks of one seed, which are of no use afterwards.

    A network that cannot be called like this is left to the checks that come later.

    Args:
        examples: inputs [M, ...], of which a few are taken.

    Raises:
        UsageError: a call of hpo's gives other outputs than a plain one, or than one after calls with other inputs and
            parameters.
    """
    count = min(SAMPLES, len(examples) // 2)
    inputs, others = examples[:count].cpu(), examples[count : 2 * count].cpu()
    params, other_params = (_changed(fresh, factor) for factor in (1.2, -0.8))
    try:
        expected, again = ({mode: _plain(fresh, params, inputs, mode) for mode in MODES} for _ in range(2))
        found = {mode: _call(fresh, params, inputs, mode) for mode in MODES}
    except Exception:  # whatever a network does that is not made for such inputs: told where it is first looked at
        return
    if not all(_close(again[mode], expected[mode]) for mode in MODES):
        raise UsageError(f"the network gives other outputs for the same inputs and parameters; {PURITY_ADVICE}")
    if not all(_close(found[mode], expected[mode]) for mode in MODES):
        raise UsageError(
            "the network uses a parameter or buffer that it also holds in a list, a closure or another object, where "
            "it would keep its first value; use it as the attribute of its layer, as in self.layer.weight"
        )
    _call(used, other_params, others, False)
    for mode in (True, False):
        _call(used, other_params, others, mode)
        with unchanged_state({"the network": used}):
            after = _call(used, params, inputs, mode)
        if not _close(after, expected[mode]):
            raise UsageError(
                "the network gives other outputs for the same inputs and parameters after calls with others: it uses "
                f"what it kept of an earlier call; {STATE_ADVICE}"
            )


def _changed(module: nn.Module, factor: float) -> Tree:
    """Its parameters, all of them other: zeros hide what is multiplied by them, and a norm hides a mere factor."""
    found = {}
    for name, value in module.named_parameters():
        turned = value.detach().flip(0) if value.dim() else value.detach()
        found[name] = turned * factor + 0.02 * factor
    return found


@torch.no_grad()
def _plain(module: nn.Module, params: Tree, inputs: Tensor, training: bool) -> Tensor:
    """A call of the module with these parameters as its own, which leaves it as it was."""
    own = dict(module.named_parameters())
    buffers = [(layer, dict(layer._buffers)) for layer in module.modules()]
    before = [(value, value.detach().clone()) for value in (*own.values(), *module.buffers())]
    for name, value in params.items():
        own[name].copy_(value)
    try:
        with seeded(0):
            return module.train(training)(inputs.clone()).clone()
    finally:
        for tensor, value in before:
            tensor.copy_(value)
        for layer, held in buffers:  # one may have been replaced, or registered only now
            layer._buffers.clear()
            layer._buffers.update(held)


@torch.no_grad()
def _call(module: nn.Module, params: Tree, inputs: Tensor, training: bool) -> Tensor:
    leaves = params | dict(module.named_buffers())
    copies = {name: value.clone() for name, value in leaves.items()}
    with seeded(0), Substitutes():
        return functional_call(module.train(training), copies, (inputs.clone(),))


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.nan_to_num(), other.nan_to_num()
    return bool(((one - other).abs() <= CLOSE * other.abs().max()).all())
