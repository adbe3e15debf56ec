"""Benchmark: images per second as `ImageFolder` gives them to training, compared with a plain PyTorch DataLoader.

The plain one does the same with Pillow (decoding, RandomResizedCrop, flip) and draws from Python's generator. Neither
trains a network. Both are timed in turns, as a busy machine would slow down what is measured later.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from hpo.bench.table import OnRow, Row
from hpo.data import ImageFolder, load_source, split
from hpo.data.image_files import ImageFiles
from hpo.data.image_reading import DRAWS, decode, random_crop
from hpo.errors import plural
from hpo.training.devices import device_name, synchronize
from hpo.training.streamed_samples import StreamedSamples

COLUMNS = {
    "loader": (24, "{loader}"),
    "images/s": (9, "{images:.0f}"),
    "model-images/s": (15, "{model_images:.0f}"),
    "× plain": (8, "{times_plain:.2f}"),
}
PLAIN = "plain DataLoader"
Epoch = Callable[[int], Iterator[Tensor]]  # its number, from 1 -> batches on the device


def measure(
    folder: Path | None, images: int, size: int, batch_size: int, processes: int, rounds: int, device: torch.device,
    on_row: OnRow,
) -> Row:  # fmt: skip
    """Times epochs over a folder of images in folders by class; without one, over made JPEGs of 500 × 375 pixels.

    Args:
        images: that are made. size: side of a crop. processes: that decode. rounds: epochs of each loader, in turns.

    Returns:
        JSON values: the setting, and a row for each loader with the medians over the rounds of its images and
        model-images per second, and of its model-images per second divided by the plain loader's in the same round.
    """
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if folder is None:
            make_images(root, images)
        dataset = ImageFolder(root, size=size, train=".", test=0.01, validation=0.01, processes=processes)
        source = load_source(dataset)
        parts = split(source, dataset, 0)
        two = [StreamedSamples(dataset, source, {0: parts}, [0] * models, device) for models in (1, 2)]
        assert isinstance(source.inputs, ImageFiles)
        plain = _Plain(source.inputs, parts.training, batch_size, processes, device)
        with closing(two[0]), closing(two[1]):
            epochs: dict[str, tuple[int, Epoch]] = {PLAIN: (1, plain.epoch)}
            for each in two:
                models = len(each.seeds)
                epochs[f"ImageFolder, {plural(models, 'model')}"] = models, _epoch(each, batch_size)
            rates = _time_in_turns(epochs, rounds, device)
    rows = [_row(name, epochs[name][0], rates, name == PLAIN) for name in epochs]
    for row in rows:
        on_row(row)
    setting = {"images": len(parts.training), "size": size, "batch_size": batch_size, "processes": processes}
    return {"torch": torch.__version__, "device": device_name(device), **setting, "rounds": rounds, "rows": rows}


def summary(result: Row) -> str:
    return (
        f"{result['device']}, {result['images']} images to {result['size']} pixels, batch {result['batch_size']}, "
        f"{result['processes']} processes, medians of {result['rounds']} rounds; no network"
    )


def make_images(root: Path, count: int) -> None:
    """JPEGs of about 80 kB, as large as ImageNet's usual ones: smooth shapes and some noise."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + generator.normal(0, 12, (375, 500, 1))
        path = root / f"{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)


class _Plain(data.Dataset[Tensor]):
    """The usual data set of a script: an image per item."""

    def __init__(
        self, files: ImageFiles, indices: Tensor, batch_size: int, processes: int, device: torch.device
    ) -> None:
        self.crops, self.paths = files.crops, [f"{files.folder}/{files.names[index]}" for index in indices.tolist()]
        self._colours, self._device = files.colours.to(device), device
        self._loader: data.DataLoader[Tensor] = data.DataLoader(
            self, batch_size, shuffle=True, num_workers=processes, persistent_workers=processes > 0,
            pin_memory=device.type == "cuda", multiprocessing_context="forkserver" if processes else None,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = decode(self.paths[index])
        assert not isinstance(image, tuple)
        cropped = random_crop(image, self.crops, [random.random() for _ in range(DRAWS)])
        return torch.from_numpy(np.array(cropped)).permute(2, 0, 1).contiguous()

    def __getstate__(self) -> dict[str, Any]:  # for the processes
        return {"crops": self.crops, "paths": self.paths}

    def epoch(self, _number: int) -> Iterator[Tensor]:
        for pixels in self._loader:
            yield self._colours(pixels.to(self._device, non_blocking=True))


def _epoch(samples: StreamedSamples, batch_size: int) -> Epoch:
    """The batches as training steps get them."""

    def epoch(number: int) -> Iterator[Tensor]:
        order = samples.epoch_order(number)
        samples.start_epoch(order, batch_size, number, views=1, clean=False)
        for indices in order.split(batch_size, 1):
            samples.advance()
            yield samples.views(indices, 1, number)

    return epoch


def _time_in_turns(epochs: dict[str, tuple[int, Epoch]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Images per second of each loader in each round; an epoch before them starts the processes."""
    rates: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, (models, epoch) in epochs.items():
            start, images = time.perf_counter(), 0
            for batch in epoch(number + 1):
                images += batch.shape[:-3].numel() // models
            synchronize(device)
            if number:
                rates[name].append(images / (time.perf_counter() - start))
    return rates


def _row(name: str, models: int, rates: dict[str, list[float]], is_plain: bool) -> Row:
    ratios = [models * own / plain for own, plain in zip(rates[name], rates[PLAIN], strict=True)]
    images = statistics.median(rates[name])
    times = 1.0 if is_plain else statistics.median(ratios)
    return {"loader": name, "images": images, "model_images": models * images, "times_plain": times, "ratios": ratios}
