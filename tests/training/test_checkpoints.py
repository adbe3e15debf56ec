"""Runs kept in a folder: taken up by whoever comes, alone or beside others; damaged files harm nothing."""

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

from hpo import MLP, Configuration, Mnist1d, Study
from hpo.errors import HpoError, UsageError
from hpo.storage.ledger import Slot, Work
from hpo.training.checkpoints import Checkpoints, from_environment
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 5


def study() -> Study:
    return Study(
        data=Mnist1d(samples=300, label_noise=0.2),
        model=MLP((40, 8, 10)),
        baseline="A",
        configurations=(Configuration("A"), Configuration("B", regularizer="vasso")),
        epochs=EPOCHS,
    )


def work(*slots: int, phase: str = "tune") -> Work:
    plain = {"weight_decay": 1e-3, "rho": 0.05, "theta": 0.5}
    settings = [plain | {"learning_rate": 0.001 * (slot + 1)} for slot in slots]
    found = [Slot(slot, slot, 1000 + slot, 1, setting) for slot, setting in zip(slots, settings, strict=True)]
    return Work("B", phase, found)  # type: ignore[arg-type]


def trainer(folder: Path | None, stop_after: int | None = None, epochs: list[int] | None = None) -> Trainer:
    """A trainer that keeps every epoch and breaks off after one."""

    def on_epoch(_: Work, epoch: int, __: int) -> None:
        if epochs is not None:
            epochs.append(epoch)
        if epoch == stop_after:
            raise KeyboardInterrupt

    return Trainer(study(), "cpu", on_epoch, Checkpoints(folder, "study", 0.0) if folder else None)


def break_off(folder: Path, after: int, given: Work) -> None:
    with pytest.raises(KeyboardInterrupt):  # raised before that epoch is kept: the one before it is what is left
        trainer(folder, stop_after=after + 1)(given)


def test_a_run_is_taken_up_where_it_was_kept(tmp_path: Path) -> None:
    whole = trainer(None)(work(0, 1, phase="rerun"))
    break_off(tmp_path, 3, work(0, 1, phase="rerun"))
    assert len(list(tmp_path.glob("*.pt"))) == 2
    epochs: list[int] = []
    taken_up = trainer(tmp_path, epochs=epochs)
    resumed = taken_up(work(0, 1, phase="rerun"))
    assert epochs == [4, 5]
    for one, other in zip(whole, resumed, strict=True):
        assert (one.id, one.value, one.result, one.curves) == (other.id, other.value, other.result, other.curves)
    taken_up.forget(work(0, 1, phase="rerun"))
    assert list(tmp_path.iterdir()) == []


def test_members_kept_at_different_epochs_are_trained_in_parts_and_come_back_in_order(tmp_path: Path) -> None:
    expected = {outcome.id: outcome for outcome in trainer(None)(work(0, 1, 2, 3))}
    break_off(tmp_path, 2, work(1, 3))
    break_off(tmp_path, 4, work(0))
    epochs: list[int] = []
    found = trainer(tmp_path, epochs=epochs)(work(0, 1, 2, 3))
    assert [outcome.id for outcome in found] == [0, 1, 2, 3]
    assert sorted(epochs) == sorted([5, 3, 4, 5, 1, 2, 3, 4, 5])
    for outcome in found:
        for name, values in expected[outcome.id].curves.items():
            assert outcome.curves[name] == pytest.approx(values, rel=1e-3), name
        assert outcome.result["population"] == {0: 1, 1: 2, 2: 1, 3: 2}[outcome.id]


def test_seconds_before_the_interruption_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "study", 0.0)
    break_off(tmp_path, 2, work(0))
    [path] = tmp_path.glob("*.pt")
    kept = checkpoints.read(path)
    assert kept is not None and kept["seconds"] > 0
    checkpoints.write(path, kept["state"], 1000.0)
    [outcome] = trainer(tmp_path)(work(0))
    assert outcome.seconds is not None and outcome.seconds > 1000


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 4000),
        lambda path: path.rename(path.with_stem("0" * 32)),
    ],
    ids=["cut", "empty", "zeros", "another run's"],
)
def test_a_damaged_checkpoint_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], Any]
) -> None:
    break_off(tmp_path, 2, work(0))
    [path] = tmp_path.glob("*.pt")
    content = path.read_bytes()
    damage(path)
    if not path.exists():
        path.write_bytes(path.with_stem("0" * 32).read_bytes())
        path.with_stem("0" * 32).unlink()
        content = content.replace(path.stem.encode(), b"0" * 32)
        path.write_bytes(content)
    epochs: list[int] = []
    with caplog.at_level(logging.WARNING, "hpo"):
        trainer(tmp_path, epochs=epochs)(work(0))
    assert epochs == [1, 2, 3, 4, 5] and len(list(tmp_path.glob("*.damaged"))) == 1
    assert "is damaged" in caplog.text and "set aside and the run begins anew" in caplog.text


def test_a_checkpoint_that_cannot_be_read_now_stays_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(tmp_path, 2, work(0))
    [path] = tmp_path.glob("*.pt")
    checkpoints = Checkpoints(tmp_path, "study", 0.0)

    def away(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "hpo"):
        patch.setattr(Path, "read_bytes", away)
        assert checkpoints.read(path) is None
    assert "cannot be read now (Input/output error)" in caplog.text and path.exists()

    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("hpo.training.checkpoints.torch.load", full)
        with pytest.raises(MemoryError):
            checkpoints.read(path)
    assert checkpoints.read(path) is not None


def test_a_write_that_is_broken_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any, half: Path) -> None:
        half.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("hpo.training.checkpoints.torch.save", interrupted)
    checkpoints = Checkpoints(tmp_path, "study", 0.0)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(checkpoints.path("B", "tune", 0, {}), {}, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_time_before_an_interruption_counts_against_the_limit(tmp_path: Path) -> None:
    """A run that takes longer than the limit is given up with and without checkpoints, and then begins anew."""
    break_off(tmp_path, 3, work(0))
    [path] = tmp_path.glob("*.pt")
    limited = trainer(tmp_path)
    limited.study = dataclasses.replace(study(), trial_timeout=500.0)
    kept = Checkpoints(tmp_path, "study", 0.0).read(path)
    assert kept is not None
    Checkpoints(tmp_path, "study", 0.0).write(path, kept["state"], 1000.0)
    with pytest.raises(TimeoutError, match="not finished after 500 s, in epoch 4 of 5"):
        limited(work(0))
    assert list(tmp_path.iterdir()) == []
    assert len(limited(work(0))) == 1


def test_parts_trained_one_after_the_other_have_their_own_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(tmp_path, 2, work(1))
    [path] = tmp_path.glob("*.pt")
    before = torch.load(path)["seconds"]
    seconds = 0.0

    def on_epoch(*_: object) -> None:
        nonlocal seconds
        seconds += 1

    monkeypatch.setattr("hpo.training.checkpoints.time", SimpleNamespace(monotonic=lambda: seconds))
    taken_up = Trainer(study(), "cpu", on_epoch, Checkpoints(tmp_path, "study", 0.0))
    first, second = sorted(taken_up(work(0, 1)), key=lambda outcome: outcome.id)
    assert (first.seconds, second.seconds) == (5, before + 3)  # five epochs, and three after the two that were kept


def test_a_run_is_known_by_all_that_it_depends_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "study", 60)
    same = [("B", "tune", 0, {"a": 1.0, "b": 2.0}), ("B", "tune", 0, {"b": 2.0, "a": 1.0})]
    others = [("C", "tune", 0, {"a": 1.0, "b": 2.0}), ("B", "rerun", 0, {"a": 1.0, "b": 2.0})]
    others += [("B", "tune", 1, {"a": 1.0, "b": 2.0}), ("B", "tune", 0, {"a": 1.0, "b": 2.5})]
    paths = [checkpoints.path(*run) for run in (*same, *others)]
    paths.append(Checkpoints(tmp_path, "changed", 60).path(*same[0]))
    assert paths[0] == paths[1] and len(set(paths)) == len(paths) - 1


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


def test_they_are_off_unless_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPO_CHECKPOINTS", raising=False)
    assert from_environment("study") is None
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path / "shared" / "folder"))
    found = from_environment("study")
    assert found is not None and found.folder.is_dir() and found.seconds == 600
    monkeypatch.setenv("HPO_CHECKPOINT_MINUTES", "0.5")
    found = from_environment("study")
    assert found is not None and found.seconds == 30
    for wrong in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("HPO_CHECKPOINT_MINUTES", wrong)
        with pytest.raises(UsageError, match=r"HPO_CHECKPOINT_MINUTES is .*; give a number of minutes above 0"):
            from_environment("study")
    monkeypatch.setenv("HPO_CHECKPOINT_MINUTES", "5")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPO_CHECKPOINTS", str(tmp_path / "file" / "folder"))
    with pytest.raises(HpoError, match="which cannot be made"):
        from_environment("study")


SLOW = '''
import os
import time
from dataclasses import dataclass

from hpo import MLP, Configuration, Mnist1d, Study


@dataclass(frozen=True)
class Slow:
    """A schedule that notes every step and makes the later epochs last."""

    def __call__(self, step, steps, steps_per_epoch):
        epoch, place = divmod(step, steps_per_epoch)
        with open("steps.log", "a") as file:
            print(os.getpid(), step, steps_per_epoch, file=file)
        time.sleep(0.3 if epoch >= 4 and place == 0 else 0)
        return 1.0


STUDY = Study(
    data=Mnist1d(samples=200), model=MLP((40, 4, 10)), schedule=Slow(), batch_size=50, epochs=12, trials=1, seeds=1,
    baseline="A", configurations=(Configuration("A"), Configuration("B")),
)
'''


def epochs_in(log: Path) -> list[tuple[str, int]]:
    """(process, epoch) of every epoch that began: its first two steps were asked for one after the other."""
    noted = [(pid, int(step), int(count)) for pid, step, count in map(str.split, log.read_text().splitlines())]
    return [
        (pid, step // count + 1)
        for (pid, step, count), (_, following, _) in pairwise(noted)
        if step % count == 0 and following == step + 1
    ]


def test_a_killed_workers_run_goes_on_in_another_process(tmp_path: Path) -> None:
    """kill -9 in the middle of a run; the next worker's curves are whole and it did not begin anew."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "slow.py").write_text(SLOW)
    folder = tmp_path / "kept"
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "HPO_CACHE": str(tmp_path / "cache"),
        "HPO_STORAGE": f"sqlite:///{tmp_path}/t.db",
        "HPO_CHECKPOINTS": str(folder),
        "HPO_CHECKPOINT_MINUTES": "0.001",
    }
    command = [sys.executable, "-m", "hpo", "worker", "slow", "--device", "cpu", "--threads", "1"]
    worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(folder.glob("*.pt")) and time.monotonic() < end and worker.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    worker.kill()
    worker.communicate()
    assert list(folder.glob("*.pt")), "nothing was kept before the kill"

    _, step, count = (tmp_path / "steps.log").read_text().splitlines()[-1].split()
    last = int(step) // int(count) + 1

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    again = next(epoch for pid, epoch in epochs_in(tmp_path / "steps.log") if pid != str(worker.pid))
    assert 1 < again <= last and last >= 5

    from hpo.storage import curves
    from hpo.storage.database import connect
    from hpo.storage.ledger import load_study

    engine = connect(f"sqlite:///{tmp_path}/t.db")
    rows = load_study(engine, "slow").export()
    assert {row["state"] for row in rows["slots"]} == {"done"}
    assert [entry["cause"] for entry in rows["failures"]] == ["lost worker"]
    found = curves.read(engine, "slow")
    assert sorted(found["epoch"].tolist()) == sorted(4 * len(set(found["metric"].tolist())) * list(range(1, 13)))
    assert list(folder.iterdir()) == []
