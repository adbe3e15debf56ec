"""The names that `from hpo import …` gives, and the modules that hold them."""

HOMES = {
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
HOME_OF = {name: home for home, names in HOMES.items() for name in names}
