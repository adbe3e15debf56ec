"""hpo: fair, seed-averaged comparisons of optimizers and regularizers."""

import importlib
from typing import TYPE_CHECKING, Any

from hpo.study.public_names import HOME_OF

__version__ = "0.1.0"

__all__ = ["__version__", *HOME_OF]

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


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Loads what is imported from here on first use: `hpo --help` must not wait for PyTorch."""
    if name not in HOME_OF:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}")
    return getattr(importlib.import_module(HOME_OF[name]), name)
