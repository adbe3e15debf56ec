"""The training steps of a population; on CUDA they are recorded as one CUDA graph and replayed.

A step of a small network is a hundred kernels of microseconds each, which Python cannot launch as fast as a GPU runs
them. A CUDA graph launches all of them at once: gathering the samples, augmenting them, the regularizer, the optimizer
and the sums of the metrics. It replays recorded operations on the same memory addresses, so everything that changes
from step to step is a tensor at a fixed address, also the number of the step. A CPU runs the same step directly.
"""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from hpo.gradients.draws import Moment
from hpo.gradients.shares import Share
from hpo.random import mix
from hpo.stages import Stages, batch_size_at
from hpo.training.mixed_minibatches import MixedMinibatches
from hpo.training.population import Population
from hpo.training.samples import Samples, take
from hpo.training.tracing import CHECKED_CALLS
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)

# The first steps check and compare, and libraries initialise themselves in them: none of it belongs in a graph.
BEFORE_RECORDING = CHECKED_CALLS + 1
# A traced step is compared with the user's code at steps 4, 16, 64, …, at the ends of long epochs and at a run's last
# step. A comparison takes about two steps, and a change that stays is found at the last step.
MIN_COMPARISON_INTERVAL = 250  # steps between two comparisons at the ends of epochs

Step = Callable[[], None]
Recorder = Callable[[Step], Step]


class Steps:
    """The steps of every epoch of one run, as long as the batch size stays the same.

    A change of the population's members, of its parameters from outside or of the batch size requires new `Steps`.

    Attributes:
        batch_size: samples per step. count: steps per epoch, with that of the last incomplete batch where it is kept.
        warmup_steps: of a run, before a step takes its usual time.
    """

    def __init__(
        self,
        population: Population,
        samples: Samples,
        batch_size: int | Stages,
        epochs: int,
        schedules: Mapping[str, Callable[[int, int, int], float]],
        record: Recorder | None = None,
        epoch: int = 1,
        keep_last: bool = False,
    ) -> None:
        """
        Args:
            samples: the population's. keep_last: whether to train an epoch's last incomplete batch or to leave it out.
            epoch: the first one to run, from 1; with `Stages` it determines the batch size.
            schedules: hyperparameter -> its schedule: (step, steps, steps_per_epoch) -> factor.
            record: records a step without running it, and returns a function that replays its operations at the same
                addresses, or raises RuntimeError; by default a CUDA graph on CUDA, and None on a CPU.
        """
        self.population, self.samples = population, samples
        self.batch_size = batch_size_at(batch_size, epoch)
        training_samples = samples.training.indices.shape[1]
        sizes = [batch_size_at(batch_size, each) for each in range(1, epochs + 1)]
        counts = [math.ceil(training_samples / size) if keep_last else training_samples // size for size in sizes]
        self.count = counts[epoch - 1]
        self._rest = training_samples % self.batch_size if keep_last else 0  # samples of the last incomplete batch
        self._steps_until = list(itertools.accumulate(counts, initial=0))  # by the number of finished epochs
        self._epochs, self._schedules = epochs, dict(schedules)
        device = samples.device
        zeros = torch.zeros(self.count, dtype=population.network.dtype, device=device)
        self._factors = {name: zeros.clone() for name in schedules}
        mixing = getattr(samples.dataset, "mixing", None)
        self._share = population.network.share
        # A minibatch is mixed before the processes share it.
        self._read = Share() if mixing else self._share
        self._columns = torch.arange(self.batch_size // self._read.count, device=device)  # of this process
        used = training_samples if self._rest else self.count * self.batch_size
        self._order = torch.zeros(len(population), used // self._read.count, dtype=torch.int64, device=device)
        labels = samples.labels
        self._labels = torch.zeros(*self._order.shape, *labels.shape[2:], dtype=labels.dtype, device=device)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._step_number = torch.zeros(1, dtype=torch.int64, device=device)
        self._first_step = torch.zeros_like(self._step_number)  # of the epoch
        self._keys = torch.zeros(self.count, len(population), dtype=torch.int64, device=device)
        self._mixed = MixedMinibatches(mixing, samples, self.count) if mixing else None
        self._sums: dict[str, Tensor] = {}
        # A graph is recorded on a stream other than the default one, which the steps before it warm up.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # No bound method: a reference cycle would keep the memory of finished steps.
        recorder = record or (partial(_cuda_graph, self._stream) if self._stream else None)
        self._record = recorder if population.updates.is_recordable else None
        self.warmup_steps = BEFORE_RECORDING + 1 if self._record else CHECKED_CALLS
        self._replay: Step | None = None
        self._direct_steps = 0  # steps that ran without a recording
        self._steps_before_epoch = self._steps_in_epoch = 0
        self._last_comparison = 0  # a step of the run, from 1

    def count_until(self, epoch: int) -> int:
        """The number of steps in the first epochs of the run."""
        return self._steps_until[epoch]

    def epoch(self, number: int) -> dict[str, Tensor]:
        """Runs all steps of an epoch, from 1; returns the mean metrics [K] by name, still on the device.

        Steps count by their numbers of samples.
        """
        self.start_epoch(number)
        with self.on_stream():
            for _ in range(self.count):
                self.next()
        steps = self.count - 1 + self._rest / self.batch_size if self._rest else self.count
        return {name: values / steps for name, values in self._sums.items()}

    def start_epoch(self, epoch: int) -> None:
        """Prepares the first step of an epoch."""
        order = self.samples.epoch_order(epoch)[:, self._read.rank :: self._read.count]
        self._order.copy_(order[:, : self._order.shape[1]])
        self._labels.copy_(take(self.samples.labels, self._order))
        regularizer = self.population.regularizer
        views = regularizer.views, regularizer.clean_view
        self.samples.start_epoch(self._order, len(self._columns), epoch, *views)
        self._epoch.fill_(epoch)
        before = self._steps_until[epoch - 1]
        self._steps_before_epoch, self._steps_in_epoch = before, 0
        self._step_number.fill_(before)
        self._first_step.fill_(before)
        numbers = torch.arange(before, before + self.count, device=self._keys.device)
        self._keys.copy_(mix(self.samples.training_keys, numbers[:, None]))
        # Schedules count in steps of this epoch's length, so that they go by epochs, whatever the batch sizes.
        first, total = (epoch - 1) * self.count, self._epochs * self.count
        for name, schedule in self._schedules.items():
            factors = [schedule(first + step, total, self.count) for step in range(self.count)]
            self._factors[name].copy_(torch.tensor(factors, dtype=self._factors[name].dtype))
        if self._mixed:
            self._mixed.start_epoch(epoch)
        for values in self._sums.values():
            values.zero_()

    def next(self) -> None:
        """Runs one step, inside `on_stream`; after the last step of an epoch, its first one again."""
        if self._record and self._direct_steps == BEFORE_RECORDING:
            self._direct_steps += 1  # so that it is tried once
            self._try_to_record(self._record)
        self.samples.advance()
        compare = self._comparison_due()
        if compare:
            self.population.compare_next_step()
        if self._rest and self._steps_in_epoch == self.count:
            self._step(self._rest)
            return
        if self._replay and not compare:
            self._replay()
            return
        self._step()
        self._direct_steps += 1

    def _try_to_record(self, record: Recorder) -> None:
        try:
            self._replay = record(self._step)
        except RuntimeError as error:
            for known in (error, error.__context__):  # ending a failed capture may raise another error
                if isinstance(known, torch.OutOfMemoryError):
                    raise known from None
            log.info("not recorded: %s", error)
            warn_once(
                f"regularizer {self.population.regularizer.name!r} with optimizer {self.population.optimizer.name!r} "
                "cannot be recorded as a CUDA graph, as one of its operations waits for the GPU; its steps run one "
                "operation at a time, which is slower"
            )

    def _comparison_due(self) -> bool:
        """Whether to compare the next step, which this counts, with the user's code."""
        self._steps_in_epoch += 1
        step = self._steps_before_epoch + self._steps_in_epoch
        long_epoch = self._steps_in_epoch == self.count and step >= self._last_comparison + MIN_COMPARISON_INTERVAL
        due = _is_power_of_4(step) or long_epoch or step == self._steps_until[-1]
        if self._direct_steps < CHECKED_CALLS or not due:
            return False
        self._last_comparison = step
        return True

    @contextlib.contextmanager
    def on_stream(self) -> Iterator[None]:
        """Runs the steps on their stream, after the operations queued before and before those queued later."""
        if self._stream is None:
            yield
            return
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            try:
                yield
            finally:  # other streams may reuse memory that a failure frees
                outside.wait_stream(self._stream)

    def _step(self, samples: int | None = None) -> None:
        """One step. Whatever changes from step to step is read from tensors, so that a recording stays valid.

        Args:
            samples: those of an incomplete batch.
        """
        step = (self._step_number - self._first_step) % self.count
        columns = step * len(self._columns) + self._columns[: samples and samples // self._read.count]
        indices, labels = self._order.index_select(1, columns), self._labels.index_select(1, columns)
        regularizer, models = self.population.regularizer, len(self.population)
        views = self.samples.views(indices, regularizer.views, self._epoch, regularizer.clean_view)
        if self._mixed:
            views, labels = self._mixed(views, labels, step)
            own = slice(self._share.rank, None, self._share.count)
            views, labels = views[:, :, own], labels[:, own]
        factors = {name: values.index_select(0, step) for name, values in self._factors.items()}
        keys = self._keys.index_select(0, step).view(models)
        moment = Moment(keys, self._step_number.expand(models), self._epoch.expand(models))
        with self.population.in_place() if self._record else contextlib.nullcontext():
            scalars = self.population.step(views, labels, factors, moment)
        for name, value in scalars.items():
            value = value * (samples / self.batch_size) if samples else value
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.clone()
        self._step_number += 1


def _is_power_of_4(number: int) -> bool:
    return number.bit_count() == 1 and number.bit_length() % 2 == 1


def _cuda_graph(stream: torch.cuda.Stream, step: Step) -> Step:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay
