"""Checkpoints of long runs: another worker resumes them, alone or with others; damaged files do no harm."""

import dataclasses
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpo import MLP, Configuration, Mnist1d, Stages, Study
from hpo.errors import HpoError, UsageError
from hpo.storage import curves
from hpo.storage.database import connect
from hpo.storage.ledger import load_study
from hpo.training.checkpoints import Checkpoints, delete_run, from_environment
from hpo.trials import Outcome, Slot, Work
from hpo.worker.live_progress import Epoch
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 5
STUDY = Study(
    data=Mnist1d(samples=200, label_noise=0.2),
    model=MLP((40, 8, 10)),
    baseline="A",
    configurations=(Configuration("A"), Configuration("B", regularizer="vasso")),
    epochs=EPOCHS,
)


def work(*slots: int, phase: str = "tune") -> Work:
    plain = {"weight_decay": 1e-3, "rho": 0.05, "theta": 0.5}
    settings = [plain | {"learning_rate": 0.001 * (slot + 1)} for slot in slots]
    chosen = [Slot(slot, slot, 1000 + slot, 1, setting) for slot, setting in zip(slots, settings, strict=True)]
    return Work("B", phase, chosen)  # type: ignore[arg-type]


def trainer(
    folder: Path | None, stop_after: int | None = None, epochs: list[int] | None = None, study: Study = STUDY
) -> Trainer:
    """A trainer that saves every epoch and can be interrupted after one."""

    def on_epoch(finished: Epoch) -> None:
        if epochs is not None:
            epochs.append(finished.epoch)
        if finished.epoch == stop_after:
            raise KeyboardInterrupt

    return Trainer(study, "cpu", on_epoch, Checkpoints(folder, "study", 0.0) if folder else None)


def interrupt(folder: Path, after: int, given: Work) -> list[Path]:
    """Trains so many epochs; returns all checkpoints."""
    with pytest.raises(KeyboardInterrupt):  # raised before that epoch is saved
        trainer(folder, stop_after=after + 1)(given)
    return sorted(folder.glob("*.pt"))


@pytest.fixture(scope="module")
def uninterrupted() -> dict[int, Outcome]:
    """The outcomes of four trials, by slot."""
    return {outcome.id: outcome for outcome in trainer(None)(work(0, 1, 2, 3))}


def test_an_interrupted_run_resumes_where_it_was_saved(tmp_path: Path) -> None:
    rerun = work(0, 1, phase="rerun")
    full_run = trainer(None)(rerun)
    assert len(interrupt(tmp_path, 3, rerun)) == 2
    epochs: list[int] = []
    resuming = trainer(tmp_path, epochs=epochs)
    resumed = resuming(rerun)
    assert epochs == [4, 5]
    for one, other in zip(full_run, resumed, strict=True):
        assert (one.id, one.value, one.result, one.curves) == (other.id, other.value, other.result, other.curves)
    resuming.delete_checkpoints(rerun)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_stages_of_its_configuration_resumes(tmp_path: Path) -> None:
    growing = Configuration("B", space={"batch_size": Stages({0: 16, 2: 32, 4: 64})})
    study = dataclasses.replace(STUDY, configurations=(STUDY.configurations[0], growing))
    setting = {"learning_rate": 0.01, "weight_decay": 1e-3}
    given = Work("B", "tune", [Slot(0, 0, 1000, 1, setting)])
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, stop_after=4, study=study)(given)
    epochs: list[int] = []
    resuming = trainer(tmp_path, epochs=epochs, study=study)
    [resumed], [full_run] = resuming(given), trainer(None, study=study)(given)
    assert epochs == [4, 5] and (resumed.value, resumed.curves) == (full_run.value, full_run.curves)
    resuming.delete_checkpoints(given)
    assert not list(tmp_path.iterdir())


def test_members_saved_at_different_epochs_train_in_parts_and_return_in_order(
    tmp_path: Path, uninterrupted: dict[int, Outcome]
) -> None:
    interrupt(tmp_path, 2, work(1, 3))
    interrupt(tmp_path, 4, work(0))
    epochs: list[int] = []
    resumed = trainer(tmp_path, epochs=epochs)(work(0, 1, 2, 3))
    assert [outcome.id for outcome in resumed] == [0, 1, 2, 3]
    assert sorted(epochs) == sorted([5, 3, 4, 5, 1, 2, 3, 4, 5])
    for outcome in resumed:
        for name, values in uninterrupted[outcome.id].curves.items():
            assert outcome.curves[name] == pytest.approx(values, rel=1e-3), name
        assert outcome.result["population"] == {0: 1, 1: 2, 2: 1, 3: 2}[outcome.id]


def set_seconds(folder: Path, path: Path, seconds: float) -> None:
    checkpoints = Checkpoints(folder, "study", 0.0)
    saved = checkpoints.read(path)
    assert saved is not None and saved["seconds"] > 0
    checkpoints.write(path, saved["state"], seconds)


def test_seconds_before_the_interruption_count(tmp_path: Path) -> None:
    [path] = interrupt(tmp_path, 2, work(0))
    set_seconds(tmp_path, path, 1000.0)
    [outcome] = trainer(tmp_path)(work(0))
    assert outcome.seconds is not None and outcome.seconds > 1000


def test_seconds_before_an_interruption_count_against_the_limit(tmp_path: Path) -> None:
    """After a timeout the run restarts from scratch."""
    [path] = interrupt(tmp_path, 3, work(0))
    set_seconds(tmp_path, path, 1000.0)
    limited = trainer(tmp_path)
    limited.study = dataclasses.replace(STUDY, trial_timeout=500.0)
    with pytest.raises(TimeoutError, match="500 s, in epoch 4 of 5"):
        limited(work(0))
    assert list(tmp_path.iterdir()) == []
    assert len(limited(work(0))) == 1


def test_parts_that_train_one_after_the_other_have_their_own_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = interrupt(tmp_path, 2, work(1))
    before = torch.load(path)["seconds"]
    seconds = 0.0

    def on_epoch(*_: object) -> None:
        nonlocal seconds
        seconds += 1

    monkeypatch.setattr("hpo.training.checkpoints.time", SimpleNamespace(monotonic=lambda: seconds))
    resuming = Trainer(STUDY, "cpu", on_epoch, Checkpoints(tmp_path, "study", 0.0))
    first, second = sorted(resuming(work(0, 1)), key=lambda outcome: outcome.id)
    assert (first.seconds, second.seconds) == (5, before + 3)  # five epochs, and three after the two that were saved


def rename_run(path: Path) -> None:
    """Makes a readable file that belongs to another run."""
    path.write_bytes(path.read_bytes().replace(path.stem.encode(), b"0" * 32))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 4000),
        rename_run,
        lambda path: torch.save({"run": path.stem, "state": Path("a"), "seconds": 1.0}, path),
    ],
    ids=["cut", "empty", "zeros", "another run's", "code"],
)
def test_a_damaged_checkpoint_is_renamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], Any]
) -> None:
    [path] = interrupt(tmp_path, 2, work(0))
    damage(path)
    epochs: list[int] = []
    with caplog.at_level(logging.WARNING, "hpo"):
        trainer(tmp_path, epochs=epochs)(work(0))
    assert epochs == [1, 2, 3, 4, 5] and len(list(tmp_path.glob("*.damaged"))) == 1
    assert path.stem in caplog.text and "damaged" in caplog.text
    assert "weights_only" not in caplog.text and "torch" not in caplog.text, "PyTorch's advice is not ours"


@pytest.mark.parametrize(
    ("target", "error"),
    [("pathlib.Path.read_bytes", OSError(5, "Input/output error")), ("torch.load", MemoryError())],
)
def test_a_checkpoint_that_cannot_be_read_now_is_kept(
    target: str, error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, "study", 0.0)
    path = checkpoints.path("B", "tune", 0, {})
    checkpoints.write(path, {"epoch": 1}, 1.0)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "hpo"):
        patch.setattr(target, fail)
        if isinstance(error, OSError):
            assert checkpoints.read(path) is None and "Input/output error" in caplog.text
        else:
            with pytest.raises(MemoryError):
                checkpoints.read(path)
    assert checkpoints.read(path) == {"state": {"epoch": 1}, "seconds": 1.0}


def test_an_interrupted_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any, half: Path) -> None:
        half.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("hpo.training.checkpoints.torch.save", interrupted)
    checkpoints = Checkpoints(tmp_path, "study", 0.0)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(checkpoints.path("B", "tune", 0, {}), {}, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpo.training.checkpoints.torch.save", full)
    with caplog.at_level(logging.WARNING, "hpo"):
        [outcome] = trainer(tmp_path)(work(0))
    assert math.isfinite(outcome.value or math.nan) and "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_becomes_unavailable_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From the third epoch on, there is a file in its place, so that every access to what was in it fails."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def on_epoch(finished: Epoch) -> None:
        if finished.epoch == 3:
            assert len(list(folder.glob("*.pt"))) == 2
            folder.rename(tmp_path / "away")
            folder.write_text("")

    training = Trainer(STUDY, "cpu", on_epoch, Checkpoints(folder, "study", 0.0))
    with caplog.at_level(logging.WARNING, "hpo"):
        outcomes = training(work(0, 1))
        training.delete_checkpoints(work(0, 1))
    assert all(outcome.value is not None and math.isfinite(outcome.value) for outcome in outcomes)
    assert "cannot write a checkpoint" in caplog.text and caplog.text.count("cannot delete checkpoints") == 1


def test_a_damaged_checkpoint_that_cannot_be_renamed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [path] = interrupt(tmp_path, 2, work(0))
    path.write_bytes(b"")

    def fail(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", fail)
    epochs: list[int] = []
    with caplog.at_level(logging.WARNING, "hpo"):
        trainer(tmp_path, epochs=epochs)(work(0))
    assert epochs == [1, 2, 3, 4, 5] and "damaged" in caplog.text


def test_a_run_is_identified_by_everything_that_it_depends_on(tmp_path: Path) -> None:
    setting = {"a": 1.0, "b": 2.0}
    checkpoints = Checkpoints(tmp_path, "study", 60)
    path = checkpoints.path("B", "tune", 0, setting)
    assert path == checkpoints.path("B", "tune", 0, {"b": 2.0, "a": 1.0})
    others = [("C", "tune", 0, setting), ("B", "rerun", 0, setting), ("B", "tune", 1, setting)]
    paths = [checkpoints.path(*other) for other in [*others, ("B", "tune", 0, setting | {"b": 2.5})]]
    paths.append(Checkpoints(tmp_path, "changed", 60).path("B", "tune", 0, setting))
    assert len({path, *paths}) == 6


def test_checkpoints_need_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPO_CHECKPOINTS", raising=False)
    assert from_environment("study") is None
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path / "shared" / "folder"))
    for minutes, seconds in ((None, 600), ("0.5", 30)):
        if minutes:
            monkeypatch.setenv("HPO_CHECKPOINT_MINUTES", minutes)
        checkpoints = from_environment("study")
        assert checkpoints is not None and checkpoints.folder.is_dir() and checkpoints.seconds == seconds
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path / "file" / "folder"))
    with pytest.raises(HpoError, match="HPO_CHECKPOINTS is"):
        from_environment("study")


@pytest.mark.parametrize("minutes", ["soon", "0", "-1", "nan"])
def test_the_minutes_are_a_number_above_0(minutes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("HPO_CHECKPOINT_MINUTES", minutes)
    with pytest.raises(UsageError, match=f"HPO_CHECKPOINT_MINUTES is '{minutes}'"):
        from_environment("study")


SLOW = '''
import os
import time
from dataclasses import dataclass

import torch
from hpo import EMA, MLP, Configuration, Mnist1d, Study, from_torch


class Averaging(torch.optim.NAdam):
    """Evaluates the mean of its last two weights, and refuses a step in evaluation mode."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.trains = False

    def train(self):
        self.swap(True)

    def eval(self):
        self.swap(False)

    def swap(self, trains):
        if self.trains is not trains:
            for parameter in self.param_groups[0]["params"]:
                if "other" in self.state[parameter]:
                    other = self.state[parameter]["other"]
                    self.state[parameter]["other"] = parameter.detach().clone()
                    parameter.data.copy_(other)
        self.trains = trains

    def step(self, closure=None):
        assert self.trains
        before = [parameter.detach().clone() for parameter in self.param_groups[0]["params"]]
        super().step()
        for parameter, old in zip(self.param_groups[0]["params"], before):
            self.state[parameter]["other"] = (parameter.detach() + old) / 2


@dataclass(frozen=True)
class Slow:
    """A schedule that logs every step and makes the later epochs slow."""

    def __call__(self, step, steps, steps_per_epoch):
        epoch, place = divmod(step, steps_per_epoch)
        with open("steps.log", "a") as file:
            print(os.getpid(), step, steps_per_epoch, file=file)
        time.sleep(0.25 if epoch >= 4 and place == 0 else 0)
        return 1.0


STUDY = Study(
    data=Mnist1d(samples=200), model=MLP((40, 4, 10)), schedule=Slow(), batch_size=50, epochs=10, trials=1, seeds=1,
    baseline="A", configurations=CONFIGURATIONS,
)
'''
CONFIGURATIONS = {
    "built in": 'Configuration("A"), Configuration("B")',
    "from PyTorch": """
        Configuration("A", optimizer=from_torch(Averaging, learning_rate=0.01)),
        Configuration("B", optimizer=from_torch(torch.optim.Adamax, learning_rate=0.01), average=EMA(0.9)),
    """,
}


WORKER = """
import functools
from hpo.worker import loop
loop.run_worker = functools.partial(loop.run_worker, lease=6.0)
from hpo.cli import main
main()
"""


def epochs_in(log: Path) -> list[tuple[str, int]]:
    """(process, epoch) of every epoch that began: the schedule was called for its first two steps in turn."""
    noted = [(pid, int(step), int(count)) for pid, step, count in map(str.split, log.read_text().splitlines())]
    return [
        (pid, step // count + 1)
        for (pid, step, count), (_, following, _) in pairwise(noted)
        if step % count == 0 and following == step + 1
    ]


@pytest.mark.parametrize("optimizers", CONFIGURATIONS)
def test_a_killed_workers_run_resumes_in_another_process(optimizers: str, tmp_path: Path) -> None:
    """kill -9 in the middle of a run; the next worker resumes it and its curves are complete."""
    (tmp_path / "studies").mkdir()
    source = SLOW.replace("CONFIGURATIONS", f"({CONFIGURATIONS[optimizers]})")
    (tmp_path / "studies" / "slow.py").write_text(source)
    folder = tmp_path / "kept"
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "HPO_CACHE": str(tmp_path / "cache"),
        "HPO_STORAGE": f"sqlite:///{tmp_path}/t.db",
        "HPO_CHECKPOINTS": str(folder),
        "HPO_CHECKPOINT_MINUTES": "0.001",
    }
    command = [sys.executable, "-c", WORKER, "worker", "slow", "--device", "cpu", "--threads", "1"]
    worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(folder.glob("*.pt")) and time.monotonic() < end and worker.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    worker.kill()
    worker.communicate()
    assert list(folder.glob("*.pt")), "nothing was saved before the kill"

    _, step, count = (tmp_path / "steps.log").read_text().splitlines()[-1].split()
    last = int(step) // int(count) + 1

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [epoch for pid, epoch in epochs_in(tmp_path / "steps.log") if pid != str(worker.pid)]
    resumed_epoch = begun[optimizers == "from PyTorch"]  # the user's optimizer makes a step before training as well
    assert 1 < resumed_epoch <= last and last >= 5

    engine = connect(f"sqlite:///{tmp_path}/t.db")
    rows = load_study(engine, "slow").export()
    assert {row["state"] for row in rows["slots"]} == {"done"}
    assert [entry["cause"] for entry in rows["failures"]] == ["lost worker"]
    stored = curves.read(engine, "slow")
    assert sorted(stored["epoch"].tolist()) == sorted(4 * len(set(stored["metric"].tolist())) * list(range(1, 11)))
    assert list(folder.iterdir()) == []


def test_deleting_a_runs_file_deletes_what_a_killed_worker_has_left_of_it(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "s", 0.0)
    paths = [kept.path("A", "tune", seed, {}) for seed in (0, 1)]
    for path in paths:
        path.write_bytes(b"whole")
        path.with_suffix(".123.half").write_bytes(b"whol")
    delete_run(paths[0])
    assert sorted(tmp_path.iterdir()) == sorted([paths[1], paths[1].with_suffix(".123.half")])
