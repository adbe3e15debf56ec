"""Training on images in files: the same as on the decoded images in memory, and no process is left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from image_folders import image_folder
from torch import Tensor, nn

from hpo import Dataset, HpoError, ImageFolder, Source
from hpo.data import load_source, split
from hpo.data.image_changes import change_image, draw_changes
from hpo.data.image_files import ImageFiles
from hpo.data.image_loader import PREFETCHED, ImageLoader
from hpo.data.image_reading import DRAWS, Crops, Request, decode, random_crop
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import mix, stream_key, uniform
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe
from hpo.training.streamed_samples import StreamedSamples

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 12
SGD = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0}
SEEDS = [3, 5, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("images"))


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 5, 2))


def recipe(data: Dataset, source: Source | None = None, regularizer: str = "none", **changes: Any) -> Recipe:
    parts = (source or load_source(data), network, REGULARIZERS[regularizer], OPTIMIZERS["sgd"])
    return Recipe(data, *parts, epochs=3, batch_size=5)._replace(**changes)


def members(seeds: list[int] = SEEDS) -> list[Member]:
    return [Member(seed, {**SGD, "learning_rate": 0.01 * (1 + row)}) for row, seed in enumerate(seeds)]


def samples_of(data: ImageFolder, seeds: list[int] = SEEDS) -> StreamedSamples:
    source = load_source(data)
    return StreamedSamples(data, source, {seed: split(source, data, seed) for seed in seeds}, seeds, "cpu")


def slow_view(files: ImageFiles, index: int, seed: int, epoch: int, view: int) -> Tensor:
    """One augmented view of one image, from its own key and draws."""
    key = mix(torch.tensor(stream_key(seed, "data")), epoch, index, view)
    image = decode(f"{files.folder}/{files.names[index]}")
    cropped = random_crop(image, files.crops, uniform(key, torch.arange(DRAWS)).tolist())  # type: ignore[arg-type]
    if files.crops.changes:
        cropped = change_image(cropped, files.crops.changes, draw_changes(key, files.crops.changes, SIZE).tolist())
    pixels = torch.tensor(list(cropped.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3).permute(2, 0, 1)
    means, deviations = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels.float() / 255 - means) / deviations


@pytest.mark.parametrize(
    ("processes", "settings"), [(0, {}), (2, {}), (2, {"rand_augment": 2, "magnitude": 15, "cutout": 5})], ids=str
)
def test_batches_are_those_of_a_plain_loop_over_the_files(
    processes: int, settings: dict[str, Any], folder: Path
) -> None:
    """Bit for bit, for every member of two seeds: order and augmentation by (seed, epoch, image, view)."""
    data = ImageFolder(folder, size=SIZE, validation=0.25, processes=processes, **settings)
    with closing(samples_of(data)) as samples:
        files = samples.source.inputs
        assert isinstance(files, ImageFiles)
        for epoch in (1, 2):
            order = samples.epoch_order(epoch)
            samples.start_epoch(order, 5, epoch, views=2, clean=True)
            for start in range(0, 24, 5):  # the last batch is incomplete
                indices = order[:, start : start + 5]
                samples.advance()
                views = samples.views(indices, 2, epoch, clean=True)
                assert views.shape == (3, 3, indices.shape[1], 3, SIZE, SIZE)
                for row, seed in enumerate(SEEDS):
                    for column, index in enumerate(indices[row].tolist()):
                        for view in (0, 1):
                            expected = slow_view(files, index, seed, epoch, view)
                            assert torch.equal(views[row, view, column], expected)
                        assert torch.equal(views[row, 2, column], files[torch.tensor([index])][0])


class Resident(Dataset):
    """The decoded images of a folder in memory."""


@pytest.mark.parametrize("seeds", [[3], [3, 3], SEEDS])
def test_training_is_that_on_the_same_images_in_memory(seeds: list[int], folder: Path) -> None:
    """Without augmentation; with label noise, whose fits are evaluated in every epoch, mixup, and the test set."""
    settings: dict[str, Any] = {"label_noise": 0.3, "validation": 0.25, "mixup": 0.4}
    streamed = ImageFolder(folder, size=SIZE, augmented=False, processes=1, **settings)
    source = load_source(streamed)
    decoded = source._replace(inputs=source.inputs[:], test_inputs=source.test_inputs[:])
    assert not decoded.is_streamed
    expected = train(recipe(Resident(**settings), decoded, last_batch="keep"), members(seeds), test=True)
    actual = train(recipe(streamed, source, last_batch="keep"), members(seeds), test=True)
    for one, other in zip(actual, expected, strict=True):
        assert "noisy_labels_fitted" in one.curves
        assert one.curves == other.curves
        assert one.final == other.final


def test_two_views_train_and_members_of_a_seed_see_what_each_sees_alone(folder: Path) -> None:
    data = ImageFolder(folder, size=SIZE, processes=1)
    member = Member(3, {**SGD, "alpha": 0.1})
    [alone] = train(recipe(data, regularizer="gvr"), [member])
    pair = train(recipe(data, regularizer="gvr"), [member, member])
    for result in pair:
        assert result.curves["train_loss"] == pytest.approx(alone.curves["train_loss"], rel=1e-4)


def test_members_that_are_stopped_leave_the_others_as_they_were(folder: Path) -> None:
    data = ImageFolder(folder, size=SIZE, processes=1)
    expected = train(recipe(data), members([3, 5]))
    actual = train(recipe(data), members([3, 5]), prune=lambda epoch, _: [0] if epoch == 1 else [])
    assert actual[0].stopped_epoch == 1
    assert actual[1].curves["train_loss"] == pytest.approx(expected[1].curves["train_loss"], rel=1e-4)


def count_decoded(seeds: list[int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    decoded = []

    def counted(path: str) -> Any:
        decoded.append(path)
        return decode(path)

    with closing(samples_of(ImageFolder(folder, size=SIZE, processes=0), seeds)) as samples:
        monkeypatch.setattr("hpo.data.image_reading.decode", counted)
        samples.start_epoch(samples.epoch_order(1), 5, 1, views=2, clean=False)
        for _ in range(5):
            samples.advance()
        list(samples.read(samples.validation.indices, 4))
        list(samples.read(torch.arange(8).expand(len(seeds), -1), 3, test=True))
    monkeypatch.undo()
    return len(decoded)


def test_members_of_a_seed_share_the_decoded_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, validation, test = 25, 6, 8
    assert count_decoded([3], folder, monkeypatch) == training + validation + test
    assert count_decoded([3, 3, 3], folder, monkeypatch) == training + validation + test
    assert count_decoded([3, 5, 3], folder, monkeypatch) == 2 * (training + validation) + test


def broken(folder: Path, tmp_path: Path) -> ImageFolder:
    for path in folder.rglob("*.jpg"):
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        target.write_bytes(content[:-200] if path.name == "dog_007.jpg" else content)
    return ImageFolder(tmp_path, size=SIZE, processes=2)


def test_a_broken_image_ends_training_with_its_name(folder: Path, tmp_path: Path) -> None:
    data = broken(folder, tmp_path)
    with pytest.raises(HpoError, match=r"train/dog/dog_007.jpg cannot be decoded .*truncated") as caught:
        train(recipe(data), members())
    assert "\n" not in str(caught.value)


def requests(count: int, folder: Path, taken: list[int]) -> Iterator[Request]:
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    for number in range(count):
        taken.append(number)
        yield Request(paths, [[]] * len(paths), central=True)


CROPS = Crops(SIZE, 14, (0.08, 1.0), (3 / 4, 4 / 3), 0.5)


def test_few_batches_are_read_ahead(folder: Path) -> None:
    """Memory is bounded, however slow training is."""
    taken: list[int] = []
    with closing(ImageLoader(CROPS, 2, pinned=False)) as loader:
        for number, _ in enumerate(loader.read(requests(20, folder, taken))):
            assert len(taken) <= number + 1 + 2 * PREFETCHED
        assert len(taken) == 20


def test_a_process_that_is_killed_ends_training_with_advice(folder: Path) -> None:
    with closing(ImageLoader(CROPS, 1, pinned=False)) as loader:
        batches = loader.read(requests(1000, folder, []))
        next(batches)
        [process] = loader._processes
        process.kill()
        with pytest.raises(HpoError, match=r"ended unexpectedly.*memory") as caught:
            list(batches)
        assert "\n" not in str(caught.value)


def test_no_process_is_left_after_training_or_an_error(folder: Path, tmp_path: Path) -> None:
    """Although the error's traceback still holds the training's variables."""
    before = set(multiprocessing.active_children())
    train(recipe(ImageFolder(folder, size=SIZE, processes=2), epochs=1), members())
    assert set(multiprocessing.active_children()) <= before
    with pytest.raises(HpoError, match="dog_007"):
        train(recipe(broken(folder, tmp_path)), members())
    assert set(multiprocessing.active_children()) <= before


# A program without `if __name__ == "__main__"`, which the processes that read images must not run again.
PROGRAM = """
import multiprocessing, sys
print("started", flush=True)
from pathlib import Path
from hpo.data.image_loader import ImageLoader
from hpo.data.image_reading import Crops, Request
paths = [str(path) for path in Path(sys.argv[1]).rglob("*.jpg")]
loader = ImageLoader(Crops(12, 14, (0.08, 1.0), (3 / 4, 4 / 3), 0.5), 2, pinned=False)
for number, _ in enumerate(loader.read(Request(paths, [[]] * len(paths), True) for _ in range(100_000))):
    if number == 2:
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_survives_a_killed_program(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_running, pids))
        process.send_signal(number)
        process.wait()
        deadline = time.monotonic() + 5
        while any(map(is_running, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
