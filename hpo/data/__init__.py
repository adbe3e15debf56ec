"""Data sets by name."""

from hpo.data.arrays import Arrays
from hpo.data.cifar import Cifar10, Cifar100
from hpo.data.digits import Digits
from hpo.data.identity import identify
from hpo.data.image_folder import ImageFolder
from hpo.data.libraries import FromHub, FromTorch
from hpo.data.loading import check_fit, check_source, load_source
from hpo.data.mnist import FashionMnist, Mnist
from hpo.data.mnist1d import Mnist1d
from hpo.data.source import Dataset, Source
from hpo.data.splitting import Split, split
from hpo.data.svhn import Svhn
from hpo.data.table import Table
from hpo.data.tales import Tales

DATASETS: dict[str, type[Dataset]] = {
    kind.__name__: kind
    for kind in (
        Arrays,
        Cifar10,
        Cifar100,
        Digits,
        FashionMnist,
        FromHub,
        FromTorch,
        ImageFolder,
        Mnist,
        Mnist1d,
        Svhn,
        Table,
        Tales,
    )
}

__all__ = [
    "DATASETS",
    "Arrays",
    "Cifar10",
    "Cifar100",
    "Dataset",
    "Digits",
    "FashionMnist",
    "FromHub",
    "FromTorch",
    "ImageFolder",
    "Mnist",
    "Mnist1d",
    "Source",
    "Split",
    "Svhn",
    "Table",
    "Tales",
    "check_fit",
    "check_source",
    "identify",
    "load_source",
    "split",
]
