"""What training takes and returns: a population's recipe, its members, and a result per member."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from hpo.data import Dataset, Source
from hpo.diagnostics import Diagnostic
from hpo.models.losses import SampleLoss, cross_entropy
from hpo.optim.averages import Average
from hpo.optim.optimizers import Optimizer
from hpo.optim.parameter_groups import Changes
from hpo.optim.regularizer import Regularizer
from hpo.optim.schedules import Constant
from hpo.optim.torch_optimizer import TorchOptimizer
from hpo.search_space import Value
from hpo.stages import Stages
from hpo.training.evaluator import Metric

Schedule = Callable[[int, int, int], float]  # (step, steps, steps_per_epoch) -> factor


class Recipe(NamedTuple):
    """Everything that all members of a population share.

    Attributes:
        dataset: the data set, with its label noise and split. source: its loaded samples, on any device.
        model: builds the network. schedule: (step, steps, steps_per_epoch) -> factor on the learning rate.
        epochs, batch_size: per run.
        precision, channels_last, accumulate, last_batch: as in `Study`. groups, no_decay, average: as in
            `Configuration`. schedules: of other hyperparameters than the learning rate.
        sample_loss: (outputs [N, ...], labels [N, ...]) -> losses [N].
        metrics: custom metrics by name: (outputs [N, ...], labels [N, ...]) -> values [N], or of whole sets.
        diagnostics: what to measure at the end where the test set is evaluated.
    """

    dataset: Dataset
    source: Source
    model: Callable[[], nn.Module]
    regularizer: Regularizer
    optimizer: Optimizer | TorchOptimizer
    epochs: int
    batch_size: int | Stages
    schedule: Schedule = Constant()
    sample_loss: SampleLoss = cross_entropy
    metrics: Mapping[str, Metric] = MappingProxyType({})
    precision: str = "float32"
    channels_last: bool = False
    accumulate: int = 1
    last_batch: str = "drop"
    groups: Mapping[str, Changes] = MappingProxyType({})
    no_decay: Sequence[str] = ()
    average: Average | None = None
    schedules: Mapping[str, Schedule] = MappingProxyType({})
    diagnostics: Sequence[Diagnostic] = ()

    @property
    def all_schedules(self) -> dict[str, Schedule]:
        """The schedules by hyperparameter."""
        return {"learning_rate": self.schedule, **self.schedules}


class Member(NamedTuple):
    """One model of a population: its seed and every hyperparameter of its optimizer and regularizer.

    The members of a population have the same values of the static ones.

    Another `salt` gives other initial weights and Dropout masks with the same data, split and batch order.
    """

    seed: int
    hyperparameters: Mapping[str, Value]
    salt: int = 0


class Result(NamedTuple):
    """The result of one member.

    Attributes:
        curves: metric -> one number per epoch, up to the epoch before it diverged.
        final: sizes of the run, such as its `steps`, the mean `gradient_evaluations` of a step, the network's
            `parameters` and how many of them no optimizer trains, `untrained_parameters`, and unless it
            diverged its metrics at the end: `train_loss` and `train_<metric>` of the task on the whole training part,
            the validation metrics and, with `test`, `test_loss` and the task's and the custom metrics as `test_<name>`.
        diverged_epoch: the first epoch (from 1) whose training or validation loss was not finite, or None.
        stopped_epoch: the epoch after which it was pruned, or None. The `final` of a pruned member holds the sizes and
            that epoch's validation metrics.
        weights: the parameters and buffers that were evaluated, if they are kept; None for a member that diverged.
    """

    curves: dict[str, list[float]]
    final: dict[str, float]
    diverged_epoch: int | None
    stopped_epoch: int | None = None
    weights: dict[str, Tensor] | None = None
