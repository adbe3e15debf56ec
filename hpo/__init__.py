"""Fair, seed-averaged comparisons of optimizers and regularizers.

Studies          Study, Configuration, SuccessiveHalving, grid, Grid, load, run, results, Results, load_model
Search spaces    log_range, linear_range, integers, choice, when; their types Range, Choice, When
Data sets        Mnist1d, Digits, Mnist, FashionMnist, Svhn, Cifar10, Cifar100, ImageFolder, Tales
Your samples     Arrays, Table, FromTorch, FromHub, Dataset, Source
Networks         MLP, ConvNet1d, ResNet, WideResNet, PyramidNet, VGG, CharLM, torchvision
Losses, metrics  CrossEntropy, BinaryCrossEntropy, SquaredError, whole
Diagnostics      Sharpness, Hessian, Calibration
Training         Constant, Cosine, Linear, MultiStep, Stages, EMA, SWA, fixed
Your own method  Regularizer, Objective, Optimizer, per_model, from_torch, wrap, OPTIMIZERS
Variants         clipped, l2_in_loss, statistics_of_every_pass
Errors           HpoError, UsageError

`help(hpo.Study)` describes every field of a study; `hpo --help` lists the commands.
"""

from typing import TYPE_CHECKING, Any

from hpo.study.public_names import PUBLIC_NAMES, load_public_name

__version__ = "0.1.0"

__all__ = ["__version__", *PUBLIC_NAMES]

if TYPE_CHECKING:
    from hpo.data import (
        Arrays,
        Cifar10,
        Cifar100,
        Dataset,
        Digits,
        FashionMnist,
        FromHub,
        FromTorch,
        ImageFolder,
        Mnist,
        Mnist1d,
        Source,
        Svhn,
        Table,
        Tales,
    )
    from hpo.diagnostics import Calibration, Hessian, Sharpness
    from hpo.errors import HpoError, UsageError
    from hpo.gradients.objective import Objective
    from hpo.models import MLP, VGG, CharLM, ConvNet1d, PyramidNet, ResNet, WideResNet
    from hpo.models.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
    from hpo.models.torchvision import torchvision
    from hpo.notebooks import load_model, results, run
    from hpo.optim.averages import EMA, SWA
    from hpo.optim.optimizers import OPTIMIZERS, Optimizer, per_model
    from hpo.optim.parameter_groups import fixed
    from hpo.optim.regularizer import Regularizer
    from hpo.optim.schedules import Constant, Cosine, Linear, MultiStep
    from hpo.optim.torch_optimizer import from_torch
    from hpo.optim.variants import clipped, l2_in_loss, statistics_of_every_pass
    from hpo.optim.wrapping import wrap
    from hpo.report.results import Results
    from hpo.search_space import Choice, Range, When, choice, integers, linear_range, log_range, when
    from hpo.stages import Stages
    from hpo.study.loading import load
    from hpo.study.pruner import SuccessiveHalving
    from hpo.study.sampler import Grid, grid
    from hpo.study.study import Configuration, Study
    from hpo.user_code.metrics import whole


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `hpo --help` does not wait for PyTorch."""
    if name not in PUBLIC_NAMES:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}")
    return load_public_name(name)
