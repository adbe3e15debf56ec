"""Evaluator: losses and metrics of K models on their own samples."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hpo.gradients.network import Network
from hpo.models.losses import SampleLoss, evaluated_loss
from hpo.training.lifting import lift
from hpo.training.products import faster_products
from hpo.training.set_metrics import RatioSums, sample_ratios
from hpo.training.set_metrics import whole_metrics as compute_whole_metrics
from hpo.tree import Tree
from hpo.user_code.metrics import is_whole

Metric = Any  # of single samples, (outputs [N, ...], labels [N, ...]) -> [N], or of whole sets
# (indices [K, n], size) -> the inputs [K, size, ...] of the models, part by part
Read = Callable[[Tensor, int], Iterator[Tensor]]

# The largest numbers of samples, and of values in them, of all models that one forward pass evaluates: they bound
# the memory of activations, which are dozens of channels per image, and keep them in the cache of a CPU. A GPU needs
# more at once to be busy.
EVALUATED_SAMPLES = {"cpu": 2**11, "cuda": 2**18}
EVALUATED_NUMBERS = {"cpu": 2**22, "cuda": 2**23}


class Evaluator:
    """Evaluates stacks of so many models of one network.

    Attributes:
        metrics: custom metrics of single samples by name. whole_metrics: those of whole sets.
    """

    def __init__(
        self,
        network: Network,
        sample_loss: SampleLoss,
        task: str,
        metrics: Mapping[str, Metric],
        models: int,
        lift_network: Callable[..., Any] = lift,
    ) -> None:
        """lift_network: as `lift`."""
        self.whole_metrics = {name: metric for name, metric in metrics.items() if is_whole(metric)}
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.whole_metrics}
        self._models, self._outputs, self._network = models, lift_network(network, models), network
        self._sample_numbers = network.example[0].numel()
        loss = evaluated_loss(sample_loss)
        self._ratios = lift(partial(sample_ratios, task, loss, {}), models)
        self._all_ratios = lift(partial(sample_ratios, task, loss, self.metrics), models)

    def evaluate(
        self,
        model: tuple[Tree, Tree],
        samples: Tensor | Read,
        indices: Tensor,
        weights: Tensor,
        *labels: Tensor,
        custom_metrics: bool = False,
        whole_metrics: bool = False,
    ) -> list[Tree]:
        """`loss` [K] and the task's metrics [K] for each of `labels`, each model on its own samples; one forward pass.

        Args:
            model: parameters and buffers, leaves [K, ...].
            samples: [M, ...], or a function that reads them; indices: [K, n] into them; labels: [K, n, ...] each.
            weights: [K, n]; 0 leaves a sample out (padding where members have different numbers of samples).
            custom_metrics: also the means of the custom metrics of single samples. whole_metrics: those of whole sets,
                of the first labels.
        """
        ratios_of = self._all_ratios if custom_metrics and self.metrics else self._ratios
        kind = indices.device.type
        own = self._own(indices, weights, *labels)
        samples_at_once = min(EVALUATED_SAMPLES[kind], EVALUATED_NUMBERS[kind] // max(1, self._sample_numbers))
        chunk = max(1, samples_at_once // self._models)
        sums, outputs_of_chunks = [RatioSums() for _ in labels], []
        read = partial(_gather, samples) if isinstance(samples, Tensor) else samples
        for number, inputs in enumerate(read(own[0], chunk)):
            part = slice(number * chunk, (number + 1) * chunk)
            outputs = self.outputs(model, inputs)
            for total, given in zip(sums, own[2:], strict=True):
                total.add(ratios_of(outputs, given[:, part]), own[1][:, part])
            if whole_metrics and self.whole_metrics:
                outputs_of_chunks.append(outputs.cpu())
        for total in sums:
            total.add_shares(self._network.share)
        metrics = [total.metrics(given, weights) for total, given in zip(sums, labels, strict=True)]
        if outputs_of_chunks:
            outputs = self._network.share.gather(torch.cat(outputs_of_chunks, 1).transpose(0, 1))[: indices.shape[1]]
            metrics[0] |= compute_whole_metrics(self.whole_metrics, outputs.transpose(0, 1), labels[0], weights)
        return metrics

    def outputs(self, model: tuple[Tree, Tree], inputs: Tensor) -> Tensor:
        """The outputs [K, N, ...] for inputs [K, N, ...]."""
        params, buffers = model
        with faster_products():
            return self._outputs(params, inputs, buffers)

    def _own(self, indices: Tensor, weights: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """The columns of the samples that this process evaluates."""
        share = self._network.share
        if share.count == 1:
            return indices, weights, *labels
        columns, used = share.columns(indices.shape[1], indices.device)
        return indices[:, columns], weights[:, columns] * used, *(each[:, columns] for each in labels)


def _gather(samples: Tensor, indices: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, indices.shape[1], size):
        yield samples[indices[:, start : start + size]]
