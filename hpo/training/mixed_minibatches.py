"""mixup and CutMix in the steps of a population: each minibatch of each member is mixed by draws of its own.

A sample's augmentation depends only on its own key. Mixing is the exception: it needs pairs of samples of a minibatch.
It follows the augmentation, and its draws depend on the seed, the epoch and the step.
"""

import torch
from torch import Tensor

from hpo.data.mixing import Mix, Mixing, draw_mix, mix_labels, mix_samples
from hpo.random import mix, stream_key
from hpo.training.samples import Samples


class MixedMinibatches:
    """The mixes of an epoch's minibatches, at fixed addresses on the device."""

    def __init__(self, mixing: Mixing, samples: Samples, steps: int) -> None:
        self.mixing, self.samples = mixing, samples
        shape, device = (steps, len(samples.seeds)), samples.device
        self._mix = Mix(
            torch.ones(shape, dtype=torch.float64, device=device),
            torch.zeros(*shape, 4, dtype=torch.int64, device=device),
            torch.ones(shape, dtype=torch.float64, device=device),
        )

    def start_epoch(self, epoch: int) -> None:
        """Draws the mixes of all steps of an epoch."""
        keys = torch.tensor([stream_key(seed, "data", "mixing") for seed in self.samples.seeds])
        keys = mix(keys, epoch, torch.arange(len(self._mix.weights))[:, None])
        shape = self.samples.source.inputs.shape[1:]
        size = (shape[-2], shape[-1]) if len(shape) > 1 else (1, 1)
        for target, drawn in zip(self._mix, draw_mix(self.mixing, keys, *size), strict=True):
            target.copy_(drawn)

    def __call__(self, views: Tensor, labels: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [K, V, N, ...] and labels [K, N] of a step [1] of the epoch, mixed; labels become shares [K, N, C]."""
        at_step = Mix(*(values.index_select(0, step)[0] for values in self._mix))
        classes = self.samples.source.classes
        assert classes is not None
        mixed = mix_samples(views, at_step, cut=self.mixing.cutmix > 0)
        return mixed, mix_labels(labels, classes, at_step, views.dtype)
