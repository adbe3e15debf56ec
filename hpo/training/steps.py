"""The training steps of a population, from tensors on its device alone; on CUDA they become one graph, launched whole.

A step of a small network is a hundred kernels of microseconds each, which Python cannot launch as fast as a GPU runs
them. A CUDA graph holds them all: gathering the samples, augmenting them, the regularizer, the optimizer and the sums
of the metrics. It repeats what was recorded at the same addresses, so everything that changes from step to step is a
tensor that keeps its place, the number of the step among them. On a CPU the same step is called as it is.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from hpo.random import mix
from hpo.training.population import Population
from hpo.training.samples import Samples
from hpo.training.tracing import CHECKED_CALLS
from hpo.user_code.messages import warn_once

log = logging.getLogger(__name__)

# The first steps look for mistakes and compare, and let libraries set themselves up: none of it belongs in a graph.
BEFORE_RECORDING = CHECKED_CALLS + 1
# A replayed step is compared with the user's code at steps 4, 16, 64, …, at the ends of long epochs and at a run's last
# step: a comparison takes some two steps, and whatever has changed for good by then shows at the last.
COMPARED_EVERY = 250  # steps at least between comparisons at the ends of epochs

Step = Callable[[], None]
Recorder = Callable[[Step], Step]


class Steps:
    """The steps of every epoch of one run.

    When the population's members change, or its parameters and states are exchanged from outside, new ones are needed.

    Attributes:
        count: of an epoch. warmup_steps: of a run, until a step takes its usual time.
    """

    def __init__(
        self,
        population: Population,
        samples: Samples,
        batch_size: int,
        epochs: int,
        schedule: Callable[[int, int, int], float],
        record: Recorder | None = None,
    ) -> None:
        """
        Args:
            samples: the population's; an epoch's last incomplete batch is left out.
            schedule: (step, steps, steps_per_epoch) -> factor on the learning rate.
            record: makes of a step, without carrying it out, what repeats its operations at the same addresses, or
                raises RuntimeError; by default a CUDA graph on CUDA, and nothing on a CPU.
        """
        self.population, self.samples = population, samples
        self.count = samples.training.shape[1] // batch_size
        self._epochs, self._schedule = epochs, schedule
        device = samples.inputs.device
        self._rates = torch.zeros(self.count, dtype=population.network.dtype, device=device)
        self._within = torch.arange(batch_size, device=device)
        self._order = torch.zeros(len(population), self.count * batch_size, dtype=torch.int64, device=device)
        self._labels = torch.zeros_like(self._order)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._done = torch.zeros(1, dtype=torch.int64, device=device)
        self._sums: dict[str, Tensor] = {}
        # A graph is recorded on a stream that is not the default one, and the steps before it warm up that stream.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # No method, by which the steps and all their memory would hold themselves.
        self._record = record or (partial(_cuda_graph, self._stream) if self._stream else None)
        self.warmup_steps = BEFORE_RECORDING + 1 if self._record else CHECKED_CALLS
        self._recorded: Step | None = None
        self._called = 0  # steps that were carried out as they are
        self._before = self._within_epoch = 0  # steps of the run before this epoch, and of this epoch so far
        self._compared = 0  # the last step that was compared

    def epoch(self, number: int) -> dict[str, Tensor]:
        """All steps of an epoch, from 1; returns the mean metrics [K] by name, still on the device."""
        self.start_epoch(number)
        with self.on_stream():
            for _ in range(self.count):
                self.next()
        return {name: values / self.count for name, values in self._sums.items()}

    def start_epoch(self, epoch: int) -> None:
        """Makes ready for the first step of an epoch."""
        self._order.copy_(self.samples.epoch_order(epoch)[:, : self._order.shape[1]])
        torch.gather(self.samples.labels, 1, self._order, out=self._labels)
        self._epoch.fill_(epoch)
        before = (epoch - 1) * self.count
        self._before, self._within_epoch = before, 0
        self._done.fill_(before)
        total = self._epochs * self.count
        rates = [self._schedule(before + step, total, self.count) for step in range(self.count)]
        self._rates.copy_(torch.tensor(rates, dtype=self._rates.dtype))
        for values in self._sums.values():
            values.zero_()

    def next(self) -> None:
        """One step, `on_stream`; after the last of an epoch the first again."""
        if self._record and self._called == BEFORE_RECORDING:
            self._called += 1  # one attempt
            try:
                self._recorded = self._record(self._step)
            except RuntimeError as error:
                for known in (error, error.__context__):  # the end of a capture that failed may fail as well
                    if isinstance(known, torch.OutOfMemoryError):
                        raise known from None
                log.info("not recorded: %s", error)
                warn_once(
                    f"regularizer {self.population.regularizer.name!r} with optimizer "
                    f"{self.population.optimizer.name!r} cannot be recorded as a CUDA graph, as an operation is not "
                    "that waits for the GPU; its steps run one operation at a time, which is slower"
                )
        compared = self._compares()
        if compared:
            self.population.compare_next_step()
        if self._recorded and not compared:
            self._recorded()
            return
        self._step()
        self._called += 1

    def _compares(self) -> bool:
        """Whether the next step, which is counted here, is to be compared with the user's code."""
        self._within_epoch += 1
        number = self._before + self._within_epoch
        ends = self._within_epoch == self.count and number >= self._compared + COMPARED_EVERY
        if self._called < CHECKED_CALLS or not (_power_of_4(number) or ends or number == self._epochs * self.count):
            return False
        self._compared = number
        return True

    @contextlib.contextmanager
    def on_stream(self) -> Iterator[None]:
        """The steps' stream, which begins after what was asked for before and ends before what comes after."""
        if self._stream is None:
            yield
            return
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            try:
                yield
            finally:  # memory that a failure frees is used again outside
                outside.wait_stream(self._stream)

    def _step(self) -> None:
        """One step. Nothing in it depends on a number that Python knows and that changes from step to step."""
        place = self._done % self.count
        columns = place * len(self._within) + self._within
        places, labels = self._order.index_select(1, columns), self._labels.index_select(1, columns)
        views = self.samples.views(places, self.population.regularizer.views, self._epoch)
        rate = self._rates.index_select(0, place)
        keys = mix(self.samples.training_keys, self._done) if self.population.network.drops else None
        with self.population.in_place() if self._record else contextlib.nullcontext():
            scalars = self.population.step(views, labels, rate, keys)
        for name, value in scalars.items():
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.clone()
        self._done += 1


def _power_of_4(number: int) -> bool:
    return number.bit_count() == 1 and number.bit_length() % 2 == 1


def _cuda_graph(stream: torch.cuda.Stream, step: Step) -> Step:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay
