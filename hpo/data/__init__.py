"""Data sets by name."""

from hpo.data.digits import Digits
from hpo.data.mnist1d import Mnist1d
from hpo.data.source import Dataset, Source, Split, split

DATASETS: dict[str, type[Dataset]] = {"Digits": Digits, "Mnist1d": Mnist1d}

__all__ = ["DATASETS", "Dataset", "Digits", "Mnist1d", "Source", "Split", "split"]
