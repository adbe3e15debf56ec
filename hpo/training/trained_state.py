"""Everything that training changes in K models, and how it is saved, restored and kept for some of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from hpo.gradients.returns import without_caches
from hpo.optim.averages import Average
from hpo.training.update_types import Updates
from hpo.tree import Tree

TRAINED = ("params", "buffers", "optimizer_state", "regularizer_state", "average_state")


class TrainedState:
    """Parameters, buffers and the states of regularizer, optimizer and average; leaves [K, ...].

    Attributes:
        average: of the weights, evaluated instead of them; or None. updates: the optimizer with its state.
    """

    def __init__(
        self, params: Tree, buffers: Tree, regularizer_state: Any, updates: Updates, average: Average | None
    ) -> None:
        self.params, self.buffers, self.regularizer_state = params, buffers, regularizer_state
        self.updates, self.average = updates, average
        self.average_state = average.init(params, buffers) if average else {}
        self.device = next(iter(params.values())).device
        self._is_training = False
        self._evaluated: tuple[Tree, Tree] | None = None  # until training resumes

    @property
    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state without what it can recompute."""
        return without_caches(self.updates.state)

    @optimizer_state.setter
    def optimizer_state(self, state: dict[str, Any]) -> None:
        self.updates.state = state

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def parameter_counts(self) -> dict[str, int]:
        """How many numbers the parameters of one model are, and how many of them no optimizer trains."""
        counts = {name: leaf[0].numel() for name, leaf in self.params.items()}
        untrained = sum(counts[name] for name in self.updates.untrained)
        return {"parameters": sum(counts.values()), "untrained_parameters": untrained}

    def evaluated(self) -> tuple[Tree, Tree]:
        """The parameters and buffers to evaluate, which stay the same until `resume`."""
        if self._evaluated is None:
            self._is_training = False
            params, state = self.updates.evaluated(self.params), self.average_state
            self._evaluated = (state["params"], state["buffers"]) if self.average else (params, self.buffers)
        return self._evaluated

    def resume(self) -> bool:
        """Prepares for a training step; returns whether it is the first one since an evaluation."""
        if self._is_training:
            return False
        self.updates.resume()
        self._is_training, self._evaluated = True, None
        return True

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A step inside keeps the memory addresses of all that it changes: new tensors are copied to the old ones."""
        old, spec = tree_flatten(self._trained())
        try:
            yield
            new = tree_leaves(self._trained())
        finally:
            for name, value in tree_unflatten(old, spec).items():
                setattr(self, name, value)
        addresses = {leaf.untyped_storage().data_ptr() for leaf in old}
        # A new value in the memory of an old one, such as one of two that were swapped, is saved before it is written.
        changed = [
            (target, leaf.clone() if leaf.untyped_storage().data_ptr() in addresses else leaf)
            for target, leaf in zip(old, new, strict=True)
            if target is not leaf
        ]
        for target, leaf in changed:
            target.copy_(leaf)

    def _trained(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TRAINED}

    def states(self) -> list[dict[str, Any]]:
        """Everything that training changes, per member and copied to the CPU, for `restore`."""
        self.evaluated()  # an optimizer may change its parameters for evaluation, and resumes from there
        return [
            tree_map(lambda leaf, row=row: leaf[row].to("cpu", copy=True), self._trained())
            | {"updates": self.updates.saved(row)}
            for row in range(len(self))
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Loads the `states` of members of the same network, regularizer and optimizer."""
        for name in TRAINED:
            leaves = [state[name] for state in states]
            setattr(self, name, tree_map(lambda *leaf: torch.stack(leaf).to(self.device), *leaves))
        self.updates.rebind(self.params)
        self.updates.load([state["updates"] for state in states])
        self._is_training, self._evaluated = False, None

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the members at these rows only and frees the others' memory."""
        index = torch.tensor(rows, device=self.device)
        for name in TRAINED:
            setattr(self, name, tree_map(lambda leaf: leaf[index], getattr(self, name)))
        self.updates.rebind(self.params, rows)
        self._is_training, self._evaluated = False, None
