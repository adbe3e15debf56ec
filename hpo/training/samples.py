"""Samples: what each member of a population trains on and is judged by, held on the device by position."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo.data import Dataset, Source, Split
from hpo.errors import UsageError
from hpo.random import mix, stream, stream_key, training_names
from hpo.user_code.messages import describe_value


class Samples:
    """The members' samples as positions in the source: [K, n] each, padded where they differ.

    Attributes:
        inputs: [M, ...], all samples of the source. labels: [K, M], with the noise of each member's seed.
        training, validation, changed, unchanged: positions [K, n]; `changed` are the training samples whose label is
            noise, `unchanged` as many of the others, spread evenly over the training part.
        training_weights, validation_weights, changed_weights, unchanged_weights: [K, n]; 0 marks padding.
        true_labels: [K, M], without noise. training_keys: int64 [K], what randomness outside the data follows from.
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
        """`salts`: of the members' training streams, 0 by default."""
        self.dataset, self.source, self.seeds = dataset, source, seeds
        self.inputs = source.inputs.to(device)
        self.own = [splits[seed] for seed in seeds]
        self.training, self.training_weights = _stack([own.training for own in self.own], device)
        self.validation, self.validation_weights = _stack([own.validation for own in self.own], device)
        self.changed, self.changed_weights = _stack([own.changed for own in self.own], device)
        self.unchanged, self.unchanged_weights = _stack([_unchanged(own) for own in self.own], device)
        self.labels = torch.stack([own.labels for own in self.own]).to(device)
        self.data_keys = torch.tensor([stream_key(seed, "data") for seed in seeds], device=device)
        streams = [training_names(salt) for salt in salts or [0] * len(seeds)]
        keys = [stream_key(seed, *names) for seed, names in zip(seeds, streams, strict=True)]
        self.training_keys = torch.tensor(keys, device=device)
        self.true_labels = source.labels.to(device).expand(len(seeds), -1)

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with the members at `places` alone; the padding stays as wide as it was."""
        index = torch.tensor(places, device=self.inputs.device)
        self.seeds, self.own = [self.seeds[place] for place in places], [self.own[place] for place in places]
        for name, rows in list(vars(self).items()):
            if isinstance(rows, Tensor) and name not in ("inputs", "true_labels"):
                setattr(self, name, rows[index])
        self.true_labels = self.true_labels[: len(places)]  # one row, seen several times

    def epoch_order(self, epoch: int) -> Tensor:
        """Positions [K, n] of the training samples in the order of an epoch."""
        orders = {
            seed: own.training[torch.randperm(len(own.training), generator=stream(seed, "data", "order", epoch))]
            for seed, own in dict(zip(self.seeds, self.own, strict=True)).items()
        }
        rows = {seed: row for row, seed in enumerate(orders)}
        # Members of one seed share an order, and a copy to the device.
        different = torch.stack(list(orders.values())).to(self.training.device)
        return different[torch.tensor([rows[seed] for seed in self.seeds], device=different.device)]

    def views(self, places: Tensor, count: int, epoch: Tensor | int) -> Tensor:
        """The samples at places [K, N], augmented once for each of `count` views: [K, V, N, ...].

        A sample's augmentation follows from (seed, epoch, place, view), whoever trains beside it.
        """
        models, samples = places.shape
        chosen = self.inputs[places].unsqueeze(1).expand(-1, count, *[-1] * self.inputs.dim())
        if not self.dataset.augments:
            return chosen
        views = torch.arange(count, device=places.device)
        named = mix(self.data_keys[:, None, None], epoch, places[:, None, :], views[None, :, None])
        augmented = self.dataset.augment(chosen.reshape(-1, *self.inputs.shape[1:]), named.reshape(-1))
        if augmented.shape[1:] != self.inputs.shape[1:] or augmented.dtype != self.inputs.dtype:
            given = describe_value(chosen.reshape(-1, *self.inputs.shape[1:]))
            raise UsageError(
                f"data: augment gives {describe_value(augmented)} for {given}; return inputs of the same shape and kind"
            )
        return augmented.reshape(models, count, samples, *self.inputs.shape[1:])

    def reports(self, member: int, metric: str) -> bool:
        """Whether a metric means anything for a member: not every seed need have changed labels."""
        if metric.startswith("clean_labels"):
            return bool(self.unchanged_weights[member].any())
        return len(self.own[member].changed) > 0 or not metric.startswith("noisy_labels")


def _unchanged(own: Split) -> Tensor:
    """Positions of as many training samples with unchanged labels as there are changed ones, or of all of them."""
    clean = own.training[~torch.isin(own.training, own.changed)]
    count = min(len(clean), len(own.changed))
    return clean[torch.arange(count) * len(clean) // max(1, count)]


def _stack(rows: Sequence[Tensor], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one [K, n], padded with position 0, and weights that are 0 on the padding."""
    longest = max(len(row) for row in rows)
    places = torch.zeros(len(rows), longest, dtype=torch.int64)
    weights = torch.zeros(len(rows), longest)
    for number, row in enumerate(rows):
        places[number, : len(row)] = row
        weights[number, : len(row)] = 1
    return places.to(device), weights.to(device)
