"""Several processes that share each minibatch give what one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shared_training
from image_folders import image_folder
from shared_training import Case, cases, mlp

from hpo.errors import UsageError
from hpo.gradients.shares import Share
from hpo.optim.regularizers import REGULARIZERS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),  # from torch.func.jvp
]

PROCESSES = 2


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "images"
    folder.mkdir()
    return image_folder(folder)


@pytest.fixture(scope="module")
def shared(images: Path) -> list[dict[str, Any]]:
    """The results of every case in each of two processes."""
    folder, program = images.parent, Path(shared_training.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES), program, folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", cases())
def test_processes_that_share_minibatches_train_as_one(name: str, shared: list[dict[str, Any]]) -> None:
    check([each[name] for each in shared], shared_training.results(cases()[name], Share()), 1e-9)


def test_processes_share_the_images_of_a_minibatch(images: Path, shared: list[dict[str, Any]]) -> None:
    check([each["images"] for each in shared], shared_training.image_results(images, Share()), 1e-5)


def check(shared: list[Any], expected: list[dict[str, Any]], tolerance: float) -> None:
    assert shared[0] == shared[1], "the processes differ"
    for result, alone in zip(shared[0], expected, strict=True):
        assert result["final"] == pytest.approx(alone["final"], rel=tolerance)
        assert result["curves"].keys() == alone["curves"].keys()
        for metric, values in alone["curves"].items():
            assert result["curves"][metric] == pytest.approx(values, rel=tolerance), metric


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("buffer of samples", "buffer 'seen'"),
        ("unequal subset", "slice(None, 3, None)"),
        ("mixed samples", "the network mixes the samples of a batch"),
    ],
)
def test_what_processes_cannot_share_is_refused_by_all_of_them(
    name: str, words: str, shared: list[dict[str, Any]]
) -> None:
    assert words in shared[0][name] and shared[0][name] == shared[1][name]
    assert shared_training.error_of(shared_training.REFUSED[name], Share()) == ""


@pytest.mark.parametrize(("changes", "words"), [({}, "a multiple of 3"), ({"last_batch": "keep"}, "last_batch='drop'")])
def test_a_minibatch_that_processes_cannot_share_equally_is_refused(changes: dict[str, Any], words: str) -> None:
    count = 4 if changes else 3  # 26 samples are 3 batches of 8 and one of 2
    with pytest.raises(UsageError, match=words):
        shared_training.results(Case(mlp, REGULARIZERS["none"], changes=changes), Share(0, count))
