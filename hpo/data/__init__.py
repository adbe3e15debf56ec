"""Data sets by name."""

from hpo.data.mnist1d import Mnist1d
from hpo.data.source import Dataset, Source, Split, split

DATASETS: dict[str, type[Dataset]] = {"Mnist1d": Mnist1d}

__all__ = ["DATASETS", "Dataset", "Mnist1d", "Source", "Split", "split"]
