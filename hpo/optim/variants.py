"""Variants of a regularizer: clipped, with weight decay in the loss, and with other BatchNorm statistics."""

from collections.abc import Callable, Mapping

from torch import Tensor

from hpo.errors import UsageError, did_you_mean
from hpo.gradients.objective import Objective
from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers import REGULARIZERS
from hpo.optim.regularizers.clipping import CLIP, EPSILON
from hpo.search_space import Entry, log_range
from hpo.tree import Tree, clip_factors, norm, scale

L2 = log_range(1e-6, 1e-1)
Answer = tuple[Tree, Tree, Mapping[str, Tensor]]


def clipped(regularizer: str | Regularizer) -> Regularizer:
    """A regularizer whose gradient is clipped: g · min(1, clip/(‖g‖ + 1e-6)), as `torch.nn.utils.clip_grad_norm_`.

    Args:
        regularizer: a built-in name or a `Regularizer`. The variant has the hyperparameter `clip` as well.
    """
    inner = _find("clipped", regularizer, "clip")

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> Answer:
        gradient, state, scalars = inner.grads(objective, params, state, hyper)
        factor = clip_factors(norm(gradient), hyper["clip"], EPSILON)
        return scale(factor, gradient), state, {**scalars, "clipped": (factor < 1).to(factor.dtype)}

    return _variant(inner, f"clipped {inner.name}", grads, {"clip": CLIP})


def l2_in_loss(regularizer: str | Regularizer) -> Regularizer:
    """A regularizer of the loss plus l2/2 · ‖w‖²; see `Objective.with_l2`.

    Args:
        regularizer: a built-in name or a `Regularizer`. The variant has the hyperparameter `l2` as well; give the
            optimizer `space={"weight_decay": 0}`, or the weights decay twice.
    """
    inner = _find("l2_in_loss", regularizer, "l2")

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> Answer:
        return inner.grads(objective.with_l2(hyper["l2"]), params, state, hyper)

    return _variant(inner, f"{inner.name} with L2 in the loss", grads, {"l2": L2})


def statistics_of_every_pass(regularizer: str | Regularizer) -> Regularizer:
    """A regularizer all of whose passes update BatchNorm's running statistics, as in the code of VaSSO.

    By default only the first pass of a step does, at the unperturbed parameters, as in the code of SAM and GAM.
    """
    inner = _find("statistics_of_every_pass", regularizer)

    def grads(objective: Objective, params: Tree, state: Tree, hyper: Tree) -> Answer:
        return inner.grads(objective.with_every_pass_in_statistics(), params, state, hyper)

    return _variant(inner, f"{inner.name} with statistics of every pass", grads, {})


def _variant(inner: Regularizer, name: str, grads: Callable[..., Answer], own: Mapping[str, Entry]) -> Regularizer:
    return inner._replace(name=name, grads=grads, hyperparameters={**inner.hyperparameters, **own})


def _find(function: str, given: str | Regularizer, own: str = "") -> Regularizer:
    regularizer = REGULARIZERS.get(given) if isinstance(given, str) else given
    if not isinstance(regularizer, Regularizer):
        hint = did_you_mean(given, REGULARIZERS) if isinstance(given, str) else ""
        known = ", ".join(REGULARIZERS)
        raise UsageError(f"{function} got {given!r}; give an hpo.Regularizer or one of {known}{hint}")
    if own in regularizer.hyperparameters:
        raise UsageError(f"{function}: regularizer {regularizer.name!r} already has {own!r}; rename the hyperparameter")
    return regularizer
