"""Data sets by name."""

from hpo.data.cifar import Cifar10, Cifar100
from hpo.data.digits import Digits
from hpo.data.identity import identify
from hpo.data.loading import check_fit, check_source, load_source
from hpo.data.mnist1d import Mnist1d
from hpo.data.source import Dataset, Source, Split, split

DATASETS: dict[str, type[Dataset]] = {"Cifar10": Cifar10, "Cifar100": Cifar100, "Digits": Digits, "Mnist1d": Mnist1d}

__all__ = [
    "DATASETS",
    "Cifar10",
    "Cifar100",
    "Dataset",
    "Digits",
    "Mnist1d",
    "Source",
    "Split",
    "check_fit",
    "check_source",
    "identify",
    "load_source",
    "split",
]
