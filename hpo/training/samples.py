"""Samples: the training and evaluation samples of each member of a population."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils._pytree import tree_map

from hpo.data import Dataset, Source, Split
from hpo.errors import UsageError
from hpo.random import mix, stream, stream_key, training_names
from hpo.user_code.messages import describe_value


class Part(NamedTuple):
    """A part of each member's samples.

    Attributes:
        indices: [K, n] into the source, padded with 0 where members have different numbers of samples.
        weights: [K, n], 1 for a sample and 0 for padding.
    """

    indices: Tensor
    weights: Tensor


PER_MEMBER = (
    *("training", "validation", "changed", "unchanged"),
    *("labels", "true_labels", "data_keys", "training_keys"),
)


class Samples:
    """The members' samples on the device; close them after training.

    Attributes:
        inputs: [M, ...], all samples of the source.
        labels: [K, M, ...], with the noise of each member's seed.
        training, validation, changed, unchanged: `changed` are the training samples with a noisy label, `unchanged` as
            many of the others, spread evenly over the training part.
        true_labels: [K, M, ...], without noise.
        data_keys, training_keys: int64 [K], the keys of augmentation and of all other random draws in training.
        splits: each member's split. distinct: the first member of each seed.
        scaling: shift and factor [K, ...] of each member's inputs, if there is any.
    """

    def __init__(
        self,
        dataset: Dataset,
        source: Source,
        splits: Mapping[int, Split],
        seeds: Sequence[int],
        device: torch.device | str,
        salts: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            splits: seed → split. salts: the members' salts, 0 by default.
        """
        self.dataset, self.source, self.seeds = dataset, source, seeds
        self.device = torch.device(device)
        self.splits = [splits[seed] for seed in seeds]
        self.training = _stack([parts.training for parts in self.splits], device)
        self.validation = _stack([parts.validation for parts in self.splits], device)
        self.changed = _stack([parts.changed for parts in self.splits], device)
        self.unchanged = _stack([_unchanged(parts) for parts in self.splits], device)
        self.true_labels = source.labels.to(device).expand(len(seeds), *source.labels.shape)
        noisy = any(parts.labels is not source.labels for parts in self.splits)
        self.labels = torch.stack([parts.labels for parts in self.splits]).to(device) if noisy else self.true_labels
        self.data_keys = torch.tensor([stream_key(seed, "data") for seed in seeds], device=device)
        names = [training_names(salt) for salt in salts or [0] * len(seeds)]
        keys = [stream_key(seed, *each) for seed, each in zip(seeds, names, strict=True)]
        self.training_keys = torch.tensor(keys, device=device)
        self.scaling: tuple[Tensor, Tensor] | None = None
        self._number_seeds()
        self._place_inputs()

    def _number_seeds(self) -> None:
        """Numbers the seeds, as members of the same seed have the same split, order and augmentation, made once."""
        numbers = {seed: number for number, seed in enumerate(dict.fromkeys(self.seeds))}
        self.distinct = [self.seeds.index(seed) for seed in numbers]
        self._first_members = torch.tensor(self.distinct, device=self.device)
        self._seed_numbers = torch.tensor([numbers[seed] for seed in self.seeds], device=self.device)

    def _of_members(self, inputs: Tensor) -> Tensor:
        """Inputs [S, ...] of the distinct seeds as those [K, ...] of the members."""
        if len(self.distinct) == len(self.seeds):
            return inputs
        if len(self.distinct) == 1:
            return inputs.expand(len(self.seeds), *inputs.shape[1:])
        return inputs.index_select(0, self._seed_numbers)

    def _place_inputs(self) -> None:
        """Prepares the inputs for the steps."""
        assert isinstance(self.source.inputs, Tensor)
        self.inputs = self.source.inputs.to(self.device)
        self.scaling = _stack_scaling(self.dataset, self.inputs, self.splits)

    @property
    def examples(self) -> Tensor:
        """Some inputs [n, ...] on the device."""
        return self.inputs

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the members at these rows only; the padding stays as wide as it was."""
        index = torch.tensor(rows, device=self.device)
        self.seeds, self.splits = [self.seeds[row] for row in rows], [self.splits[row] for row in rows]
        self.scaling = self.scaling and (self.scaling[0][index], self.scaling[1][index])
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor | Part) and name in PER_MEMBER:
                setattr(self, name, tree_map(lambda leaf: _rows(leaf, index), value))
        self._number_seeds()

    def epoch_order(self, epoch: int) -> Tensor:
        """Indices [K, n] of the training samples in the order of an epoch."""
        orders = []
        for row in self.distinct:
            training = self.splits[row].training
            generator = stream(self.seeds[row], "data", "order", epoch)
            orders.append(training[torch.randperm(len(training), generator=generator)])
        return self._of_members(torch.stack(orders).to(self.device))

    def start_epoch(self, order: Tensor, batch_size: int, epoch: int, views: int, clean: bool) -> None:
        """Prepares for the steps of an epoch over the samples in this order, [K, n]; nothing to do here."""

    def advance(self) -> None:
        """Called before each step; nothing to do here."""

    def close(self) -> None:
        """Frees what is not memory; nothing to do here."""

    def views(self, indices: Tensor, count: int, epoch: Tensor | int, clean: bool = False) -> Tensor:
        """The samples at indices [K, N], augmented once for each of `count` views: [K, V, N, ...].

        A sample's augmentation follows from (seed, epoch, index, view), whatever else is in the batch.

        Args:
            indices: equal for members of the same seed.
            clean: whether a last view has the samples without augmentation.
        """
        indices = indices.index_select(0, self._first_members)
        original = self._scale(self.inputs[indices]).unsqueeze(1)
        if not self.dataset.augments:
            return self._of_members(original).expand(-1, count + clean, *[-1] * self.inputs.dim())
        augmented = self._augmented(original, indices, count, epoch)
        return self._of_members(torch.cat([augmented, original], 1) if clean else augmented)

    def _augmented(self, original: Tensor, indices: Tensor, count: int, epoch: Tensor | int) -> Tensor:
        seeds, samples = indices.shape
        chosen = original.expand(-1, count, *[-1] * self.inputs.dim())
        views = torch.arange(count, device=indices.device)
        data_keys = self.data_keys.index_select(0, self._first_members)
        keys = mix(data_keys[:, None, None], epoch, indices[:, None, :], views[None, :, None])
        flat = chosen.reshape(-1, *self.inputs.shape[1:])
        augmented = self.dataset.augment(flat, keys.reshape(-1))
        if augmented.shape[1:] != self.inputs.shape[1:] or augmented.dtype != self.inputs.dtype:
            raise UsageError(
                f"data: augment returns {describe_value(augmented)} for {describe_value(flat)}; return inputs of the "
                "same shape and dtype"
            )
        return augmented.reshape(seeds, count, samples, *self.inputs.shape[1:])

    def read(self, indices: Tensor, size: int, test: bool = False) -> Iterator[Tensor]:
        """The samples at indices [K, n] without augmentation, in parts [K, size, ...]; with `test`, of the test set.

        Args:
            indices: equal for members of the same seed.
        """
        inputs = self.inputs
        if test:
            assert isinstance(self.source.test_inputs, Tensor)
            inputs = self.source.test_inputs.to(self.device)
        yield from self.read_from(inputs, indices, size)

    def read_from(self, inputs: Tensor, indices: Tensor, size: int) -> Iterator[Tensor]:
        """The same of other inputs [n, ...] on the device."""
        for part in indices.index_select(0, self._first_members).split(size, 1):
            yield self._of_members(self._scale(inputs[part]))

    def _scale(self, chosen: Tensor) -> Tensor:
        """Inputs [S, n, ...] of the distinct seeds, scaled as the data set says for each one's training part."""
        if self.scaling is None:
            return chosen
        return self.dataset.rescale(chosen, *(each[self._first_members][:, None] for each in self.scaling))

    def reports(self, row: int, metric: str) -> bool:
        """Whether a metric is defined for a member: not every seed has changed labels."""
        if metric.startswith("clean_labels"):
            return bool(self.unchanged.weights[row].any())
        return len(self.splits[row].changed) > 0 or not metric.startswith("noisy_labels")


def _stack_scaling(dataset: Dataset, inputs: Tensor, splits: Sequence[Split]) -> tuple[Tensor, Tensor] | None:
    """Shift and factor [K, ...] of the members; None if the data set leaves inputs as they are."""
    by_split = {id(parts): dataset.scaling(inputs[parts.training.to(inputs.device)]) for parts in splits}
    chosen = [scaling for parts in splits if (scaling := by_split[id(parts)]) is not None]
    return (
        (torch.stack([shift for shift, _ in chosen]), torch.stack([factor for _, factor in chosen])) if chosen else None
    )


def take(labels: Tensor, indices: Tensor) -> Tensor:
    """Labels [K, M, ...] at indices [K, n]: [K, n, ...]."""
    further = labels.shape[2:]
    return labels.gather(1, indices.reshape(*indices.shape, *[1] * len(further)).expand(*indices.shape, *further))


def _rows(leaf: Tensor, index: Tensor) -> Tensor:
    """Some rows; those of an expanded tensor are all the same memory and stay so."""
    return leaf[: len(index)] if leaf.stride(0) == 0 else leaf[index]


def _unchanged(parts: Split) -> Tensor:
    """Indices of as many training samples with unchanged labels as there are changed ones, or of all of them."""
    clean = parts.training[~torch.isin(parts.training, parts.changed)]
    count = min(len(clean), len(parts.changed))
    return clean[torch.arange(count) * len(clean) // max(1, count)]


def _stack(rows: Sequence[Tensor], device: torch.device | str) -> Part:
    weights = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
    return Part(pad_sequence(list(rows), batch_first=True).to(device), weights.to(device))
