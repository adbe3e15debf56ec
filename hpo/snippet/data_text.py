"""The samples of a data set as Python: how they are loaded, noisy labels, split, scaling and augmentation."""

import dataclasses
from typing import Any

from hpo.data import Dataset, Digits, Mnist1d, Source, Table
from hpo.data.augmentation import add_noise, crop_and_flip, rescale, shift_around
from hpo.data.digits import CLASSES, DEVIATION, MEAN, TEST_IMAGES
from hpo.data.table_encoding import MISSING
from hpo.errors import UsageError
from hpo.random import mix, stream_key
from hpo.snippet.extraction import Extraction
from hpo.snippet.limits import INSTEAD

MNIST1D = '''\
def load_samples():
    """MNIST-1D as its package generates it: inputs, labels, test inputs, test labels."""
    data = make_dataset(ObjectView({arguments}))
    return [torch.from_numpy(np.asarray(data[name])) for name in ("x", "y", "x_test", "y_test")]'''

DIGITS = f'''\
def load_samples():
    """scikit-learn's digits: inputs, labels, and those of the test set, the last images of every class."""
    grey, classes = load_digits(return_X_y=True)
    images = (torch.from_numpy(grey).float().view(-1, 1, 8, 8) / 16 - {MEAN}) / {DEVIATION}
    labels = torch.from_numpy(classes)
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range({CLASSES}):
        test[(labels == label).nonzero()[-{TEST_IMAGES}:, 0]] = True
    return images[~test], labels[~test], images[test], labels[test]'''

FROM_FILE = '''\
def load_samples():
    """Inputs, labels, test inputs, test labels."""
    return torch.load({file!r}, weights_only=True)'''

NOISE = {
    "symmetric": "labels[drawn] = torch.randint({classes}, (len(drawn),), generator=noise)",
    "symmetric_exclusive": (
        "labels[drawn] = (labels[drawn] + 1 + torch.randint({classes} - 1, (len(drawn),), generator=noise)) % {classes}"
    ),
    "asymmetric": "labels[drawn] = torch.tensor({mapped})[labels[drawn]]",
}

TABLE_SCALING = '''\
def standardised(inputs, training):
    """Numbers get the mean 0 and the variance 1 on the training part, categories stay 0 or 1."""
    known = training.double().masked_fill(training == {missing}, torch.nan)
    shift = known.nanmean(0).nan_to_num()
    deviation = (known - shift).square().nanmean(0).sqrt()
    factor = torch.where(deviation > 1e-12, 1 / deviation, 0)
    shift[{numbers}:] = 0
    factor[{numbers}:] = (training[:, {numbers}:] != 0).any(0).double()
    scaled = (inputs - shift.to(inputs.dtype)) * factor.to(inputs.dtype)
    return {result}'''


def loading_text(dataset: Dataset, code: Extraction, file: str | None) -> str:
    """The function `load_samples`.

    Args:
        file: with the samples; None for those that a package makes.
    """
    if file is not None:
        return FROM_FILE.format(file=file)
    if type(dataset) is Mnist1d:
        arguments = {"num_samples": dataset.samples, "seed": dataset.generator_seed}
        generator = [each.name for each in dataclasses.fields(dataset) if "generator" in each.metadata]
        arguments |= {name: getattr(dataset, name) for name in generator}
        code.imports |= dict.fromkeys(
            ["import numpy as np", "from mnist1d.data import make_dataset", "from mnist1d.utils import ObjectView"]
        )
        lines = ",\n        ".join(f'"{name}": {value!r}' for name, value in arguments.items())
        return MNIST1D.format(arguments=f"{{\n        {lines},\n    }}")
    if type(dataset) is Digits:
        code.imports["from sklearn.datasets import load_digits"] = None
        return DIGITS
    raise UsageError(
        f"a script cannot make the samples of {type(dataset).__name__} itself; give --data FILE.pt, into which they "
        "are written and from which the script reads them"
    )


def split_text(dataset: Dataset, source: Source) -> list[str]:
    """The lines that make noisy labels and the two parts."""
    share, lines = dataset.validation, ["labels = true_labels.clone()"]
    if dataset.label_noise:
        mapped = [dataset.confusions.get(label, label) for label in range(source.classes or 0)]
        change = NOISE[dataset.noise].format(classes=source.classes, mapped=mapped)
        lines += [
            'noise = stream(SEED, "data", "label noise")',
            f"drawn = torch.randperm(len(labels), generator=noise)[: round({dataset.label_noise} * len(labels))]",
            change,
        ]
    random = 'torch.randperm(len(labels), generator=stream(SEED, "data", "split"))'
    lines.append(f"order = {random if dataset.split == 'random' else 'torch.arange(len(labels))'}")
    return [*lines, f"training, held_out = order.tensor_split([len(labels) - round({share} * len(labels))])"]


def scaling_text(dataset: Dataset) -> str:
    """The function `standardised`; empty for a data set that leaves its inputs as they are."""
    kind = type(dataset)
    if isinstance(dataset, Table) and (kind.scaling, kind.rescale) == (Table.scaling, Table.rescale):
        numbers = len(dataset._encoding.numbers)  # type: ignore[attr-defined]
        result = f"scaled.masked_fill(inputs == {MISSING}, 0)" if dataset.missing else "scaled"
        return TABLE_SCALING.format(missing=MISSING, numbers=numbers, result=result)
    if kind.scaling is not Dataset.scaling or kind.rescale is not Dataset.rescale:
        raise UsageError(f"a script cannot have the scaling of {kind.__name__}; scale the inputs in its load() instead")
    return ""


def augmentation_text(dataset: Dataset, code: Extraction) -> str:
    """The function `augment`; empty for a data set that does not augment."""
    if not dataset.augments:
        return ""
    if type(dataset) is Mnist1d:
        functions: list[Any] = [rescale, shift_around, add_noise]
        calls = [f"rescale(inputs, keys, {dataset.scale})", f"shift_around(inputs, keys, {dataset.shift})"]
    elif type(dataset) is Digits:
        functions = [crop_and_flip, add_noise]
        calls = [f"crop_and_flip(inputs, keys, {dataset.shift}, 0, [{-MEAN / DEVIATION}])"]
    else:
        raise UsageError(
            f"a script cannot augment as {type(dataset).__name__} does, only as Mnist1d and Digits do; {INSTEAD}"
        )
    for function in (*functions, mix, stream_key):
        code.call("the augmentation", function)
    lines = [*calls, f"add_noise(inputs, keys, {dataset.jitter})"]
    body = "\n    ".join(f"inputs = {line}" for line in lines)
    return (
        "def augment(inputs, indices, epoch, view):\n"
        '    """A variation of every sample, which follows from the seed, the epoch, the sample and the view."""\n'
        '    keys = mix(stream_key(SEED, "data"), epoch, indices, view)\n'
        f"    {body}\n    return inputs"
    )
