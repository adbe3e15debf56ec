"""hpo: fair, seed-averaged comparisons of optimizers and regularizers."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# What is imported from here is loaded on first use: `hpo --help` must not wait for PyTorch.
_HOMES = {
    "hpo.study.study": ("Configuration", "Study"),
    "hpo.search_space": ("Range", "linear_range", "log_range"),
    "hpo.errors": ("HpoError", "UsageError"),
    "hpo.data": ("Cifar10", "Cifar100", "Dataset", "Digits", "Mnist1d", "Source"),
    "hpo.models": ("MLP", "ConvNet1d", "ResNet18", "WideResNet"),
    "hpo.models.losses": ("CrossEntropy",),
    "hpo.study.pruner": ("SuccessiveHalving",),
    "hpo.gradients.objective": ("Objective",),
    "hpo.optim.regularizer": ("Regularizer",),
    "hpo.optim.optimizers": ("Optimizer", "per_model"),
    "hpo.optim.schedules": ("Constant", "Cosine", "MultiStep"),
    "hpo.study.loading": ("load",),
    "hpo.api": ("run",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]

if TYPE_CHECKING:
    from hpo.api import run
    from hpo.data import Cifar10, Cifar100, Dataset, Digits, Mnist1d, Source
    from hpo.errors import HpoError, UsageError
    from hpo.gradients.objective import Objective
    from hpo.models import MLP, ConvNet1d, ResNet18, WideResNet
    from hpo.models.losses import CrossEntropy
    from hpo.optim.optimizers import Optimizer, per_model
    from hpo.optim.regularizer import Regularizer
    from hpo.optim.schedules import Constant, Cosine, MultiStep
    from hpo.search_space import Range, linear_range, log_range
    from hpo.study.loading import load
    from hpo.study.pruner import SuccessiveHalving
    from hpo.study.study import Configuration, Study


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
