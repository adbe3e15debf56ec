"""The names that `from hpo import …` offers, and the modules that define them."""

import importlib
from typing import Any

_NAMES_BY_MODULE = {
    "hpo.study.study": ("Configuration", "Study"),
    "hpo.search_space": ("Choice", "Range", "When", "choice", "integers", "linear_range", "log_range", "when"),
    "hpo.diagnostics": ("Calibration", "Hessian", "Sharpness"),
    "hpo.errors": ("HpoError", "UsageError"),
    "hpo.data": (
        *("Arrays", "Cifar10", "Cifar100", "Dataset", "Digits", "FashionMnist", "FromHub", "FromTorch", "Mnist"),
        *("ImageFolder", "Mnist1d", "Source", "Svhn", "Table", "Tales"),
    ),
    "hpo.models": ("MLP", "VGG", "CharLM", "ConvNet1d", "PyramidNet", "ResNet", "WideResNet"),
    "hpo.models.torchvision": ("torchvision",),
    "hpo.models.losses": ("BinaryCrossEntropy", "CrossEntropy", "SquaredError"),
    "hpo.user_code.metrics": ("whole",),
    "hpo.study.pruner": ("SuccessiveHalving",),
    "hpo.study.sampler": ("Grid", "grid"),
    "hpo.gradients.objective": ("Objective",),
    "hpo.optim.regularizer": ("Regularizer",),
    "hpo.optim.optimizers": ("OPTIMIZERS", "Optimizer", "per_model"),
    "hpo.optim.torch_optimizer": ("from_torch",),
    "hpo.optim.wrapping": ("wrap",),
    "hpo.optim.averages": ("EMA", "SWA"),
    "hpo.optim.parameter_groups": ("fixed",),
    "hpo.optim.schedules": ("Constant", "Cosine", "Linear", "MultiStep"),
    "hpo.optim.variants": ("clipped", "l2_in_loss", "statistics_of_every_pass"),
    "hpo.stages": ("Stages",),
    "hpo.study.loading": ("load",),
    "hpo.report.results": ("Results",),
    "hpo.notebooks": ("load_model", "results", "run"),
}
PUBLIC_NAMES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def load_public_name(name: str) -> Any:
    """The object with a public name, from its module, which is imported if it is not yet."""
    return getattr(importlib.import_module(PUBLIC_NAMES[name]), name)
