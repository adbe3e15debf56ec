"""A study of images in files from the command line: to its report, with a broken image, stopped and killed."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ForkServer
from image_folders import image_folder, write_image

from hpo.data.identity import PROBES

STUDY = '''
"""Images."""

from torch import nn

from hpo import Configuration, ImageFolder, Study, log_range

RATE = {"learning_rate": log_range(1e-3, 1e-2)}


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))


STUDY = Study(
    data=ImageFolder("photos", size=16, label_noise=0.2, processes=2),
    model=network,
    batch_size=8,
    epochs=EPOCHS,
    trials=2,
    seeds=3,
    tuning_runs=1,
    baseline="SGD",
    configurations=(
        Configuration("SGD", optimizer="sgd", space=RATE),
        Configuration("SAM", optimizer="sgd", regularizer="sam", space=RATE),
    ),
)
'''
TEST_IMAGES = 35  # of each class
MARK = "HPO_TEST_OF_IMAGES"


@pytest.fixture
def hpo(fork_server: ForkServer, tmp_path: Path) -> CommandLine:
    """The command line in a folder with the images."""
    commands = CommandLine(fork_server, tmp_path / "work")
    commands.write_study("short", STUDY.replace("EPOCHS", "2"))
    commands.write_study("long", STUDY.replace("EPOCHS", "100_000"))
    classes = {"cat": TEST_IMAGES, "dog": TEST_IMAGES}
    image_folder(commands.folder / "photos", {"train": {"cat": 16, "dog": 16}, "val": classes})
    return commands


def test_a_study_is_resumed_after_a_broken_image_is_replaced(hpo: CommandLine) -> None:
    """The image is one that workers do not compare: it is first read by a rerun, and no trial is lost for it."""
    total = 2 * TEST_IMAGES
    compared = {number * total // PROBES for number in range(PROBES)}
    number = min(number for number in range(TEST_IMAGES) if number not in compared)
    image = hpo.folder / f"photos/val/cat/cat_{number:03}.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    errors = hpo.run("run", "short", "--population", "2", "--workers", "1", code=1)
    assert f"cat_{number:03}.jpg cannot be decoded" in errors
    assert "Traceback" not in errors
    write_image(image, 1)
    hpo.run("run", "short", "--population", "2", "--workers", "1")
    entries = json.loads(hpo.run("status", "short", "--json"))["short"]["configurations"]
    for entry in entries.values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (2, 3, 0)
    assert "ImageFolder" in (hpo.folder / "reports/short/README.md").read_text()


def readers(mark: str) -> list[int]:
    """The running processes that were started, by way of a fork server, in the environment with this mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended, or is another user's
            continue
        if f"{MARK}={mark}\0".encode() in environment and state != "Z":
            found.append(int(process.name))
    return found


def wait_for(count: int, mark: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while len(readers(mark)) < count if count else readers(mark):
        assert time.monotonic() < deadline, readers(mark)
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_survives_a_worker(number: signal.Signals, hpo: CommandLine) -> None:
    mark = f"{hpo.folder} {number}"
    worker = hpo.start("worker", "long", **{MARK: mark})
    wait_for(3, mark, 100)  # the fork server and its two processes
    time.sleep(1)
    start = time.monotonic()
    worker.send_signal(number)
    code = worker.wait()
    assert code == (-number if number == signal.SIGKILL else 128 + number), worker.text()
    assert time.monotonic() - start < 5
    wait_for(0, mark, 5)
    if number != signal.SIGKILL:
        states = json.loads(hpo.run("status", "long", "--json"))["long"]["configurations"]
        assert all(entry["trials_done"] == entry["failed"] == 0 for entry in states.values())
