"""SingleModel: a regularizer asked about one model and held to what it may return; `population` lifts it to many."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hpo.errors import UsageError
from hpo.gradients.network import Network
from hpo.gradients.objective import Objective
from hpo.gradients.returns import check_state, validate_gradient, validate_state
from hpo.models.losses import SampleLoss
from hpo.optim.regularizer import Regularizer, State
from hpo.tree import Tree
from hpo.user_code.messages import UserCodeError, call_user_code


class SingleModel:
    """One model of a network, a regularizer and a loss; leaves [...], hyperparameters [].

    Attributes:
        who: the regularizer in words.
    """

    def __init__(self, network: Network, regularizer: Regularizer, sample_loss: SampleLoss) -> None:
        self.network, self.regularizer, self.sample_loss = network, regularizer, sample_loss
        self.who = f"regularizer {regularizer.name!r}"

    def state(self, params: Tree) -> State:
        """The regularizer's state before the first step."""
        state = call_user_code(self.who, "init(params)", self.regularizer.init, dict(params))
        check_state(self.who, state)
        return state

    def gradient(
        self, params: Tree, state: State, buffers: Tree, hyper: Tree, inputs: Tensor, labels: Tensor, key: Tensor
    ) -> tuple[Tree, State, Tree, Tree]:
        """The regularizer's gradient and state, scalars [] as `Population.step` names them, and the buffers afterwards.

        Args:
            inputs: [V, N, ...]. labels: [N]. key: int64 [], what Dropout's masks follow from.
        """
        objective = Objective(self.network, self.sample_loss, inputs, labels, buffers, key)
        before = tree_map(lambda leaf: leaf, state)  # the dicts themselves may be changed
        takes = "grads(objective, params, state, hyper)"
        try:
            returned = call_user_code(self.who, takes, self.regularizer.grads, objective, dict(params), state, hyper)
        except UserCodeError:
            raise
        except UsageError as error:
            raise UsageError(f"{self.who}: {error}") from error
        gradient, state, scalars = validate_gradient(self.who, returned, params)
        loss = objective.task_loss if objective.task_loss is not None else objective.loss(params)
        # Truth values and counts become numbers: their mean over the steps is wanted.
        kind = torch.promote_types(loss.dtype, torch.float32)
        named = {"train_loss": loss.to(kind)} | {f"aux/{name}": value.to(kind) for name, value in scalars.items()}
        return gradient, validate_state(self.who, state, before), named, objective.buffers
