"""Each tracker's files, read back: one run for every trial and rerun, with config, curves, final metrics and tags."""

import shutil
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from storage_study import definition, known_for_long, make, outcomes
from tracker_files import READERS, StoredRun

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id, open_study
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import delete_study
from hpo.trackers import open_tracker
from hpo.trackers.follower import Follower
from hpo.worker.live_progress import Epoch, LiveProgress

SCORE = "validation_accuracy"


@pytest.fixture(params=[
    pytest.param(name, marks=[
        pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"),
        pytest.mark.filterwarnings("ignore"),  # of the trackers
    ])
    for name in READERS
])  # fmt: skip
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_DIR", "MLFLOW_TRACKING_URI", "HPO_TENSORBOARD"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "mlflow":
        shutil.copy(request.getfixturevalue("empty_mlflow"), tmp_path / "mlflow.db")
    return str(request.param)


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, whose creation takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def ledger_of(url: str, trials: int = 2, seeds: int = 1) -> Ledger:
    return make(connect(url), trials=trials, seeds=seeds)


def follower(ledger: Ledger, tracker: str, **options: Any) -> Follower:
    return Follower(ledger, open_tracker(tracker, ledger.study), **options)


def take(ledger: Ledger, worker_id: str, count: int = 2, seconds: float = 60.0) -> Work:
    work = ledger.lease(worker_id, count, seconds)
    assert work is not None
    weight = {"lambda": 0.5} if work.configuration == "A" else {}
    settings = [weight | {"learning_rate": 0.001 * (slot.slot + 1)} for slot in work.slots if slot.setting is None]
    return Mirror(ledger).begin(worker_id, ledger.assign(worker_id, work, settings))


def finish_all(ledger: Ledger) -> None:
    while ledger.state() != "done":
        work = take(ledger, "z", 20)
        ledger.finish("z", outcomes(work))


def report(ledger: Ledger, worker_id: str, work: Work, *scores: float) -> None:
    curves = {SCORE: list(scores), "train_loss": [1.0] * len(scores)}
    results: Any = {slot.id: [SimpleNamespace(curves=curves, diverged_epoch=None)] for slot in work.slots}
    live = LiveProgress(ledger, worker_id)
    live.note(Epoch(work, len(scores), 6, results, True))
    live.report()


def read(tracker: str) -> dict[str, StoredRun]:
    return READERS[tracker](Path())


def test_every_trial_and_rerun_becomes_a_run(tracker: str, tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    finish_all(ledger)
    follow = follower(ledger, tracker)
    follow.log_all()
    runs = read(tracker)
    names = [f"{name}/{rest}" for name in "AB" for rest in ("trial/1-001", "trial/1-002", "rerun/1000")]
    assert sorted(runs) == sorted(names)
    for name, run in runs.items():
        assert run.ended
        assert run.curves == {
            "train_loss": {1: 1.0, 2: 0.5},
            SCORE: {1: pytest.approx(0.1), 2: pytest.approx(0.2)},
        }
        configuration, phase, number = name.split("/")
        rate = 0.002 if number == "1-002" else 0.001
        assert run.final == pytest.approx({"validation_loss": 0.5, "value": 1 - rate, "seconds": 0.01})
        assert float(run.config["learning_rate"]) == rate
        assert {key: str(run.config[key]) for key in ("study", "configuration", "phase", "tuning_run")} == {
            "study": "s", "configuration": configuration, "phase": phase, "tuning_run": "1",
        }  # fmt: skip
        assert ("momentum" in run.config) == (configuration == "A")
    assert runs["A/rerun/1000"].config["seed"] == "1000"


def test_the_optimizer_of_from_torch_is_logged_with_its_arguments(tracker: str, tmp_path: Path) -> None:
    optimizer = {"kind": "torch.optim.RMSprop", "centered": True, "names": ["a"]}
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    described = definition()
    described["configurations"][0] |= {"optimizer": optimizer, "regularizer": "none"}
    planned = {"trials": 1, "seeds": 1, "tuning_runs": 1}
    ledger = known_for_long(open_study(engine, "s", described, "d", planned, {"title": "t"}, {}))
    finish_all(ledger)
    follower(ledger, tracker).log_all()
    config = read(tracker)["A/rerun/1000"].config
    assert (config["optimizer"], config["regularizer"]) == ("torch.optim.RMSprop", "none")
    assert str(config["optimizer.centered"]) == "True" and config["optimizer.names"] == '["a"]'
    assert "optimizer.kind" not in config


def test_a_run_in_training_grows_and_a_retry_replaces_it(tracker: str, url: str) -> None:
    ledger = ledger_of(url, trials=1)
    ledger.register("x")
    follow = follower(ledger, tracker)
    lost = take(ledger, "x", 1, seconds=-1.0)
    for scores in ([0.5], [0.5, 0.75], [0.5, 0.75, 0.875]):
        report(ledger, "x", lost, *scores)
        follow.log_all()
    if tracker != "wandb":  # which writes its file in the background
        run = read(tracker)["A/trial/1-001"]
        assert run.curves == {SCORE: {1: 0.5, 2: 0.75, 3: 0.875}} and not run.ended
    work = take(ledger, "y", 1)
    assert work.slots[0].id == lost.slots[0].id
    report(ledger, "y", work, 0.25)
    follow.log_all()
    ledger.finish("y", [Outcome(each.id, 2, 0.5, curves={SCORE: [0.25, 0.5], "aux/x": [1, 2]}) for each in work.slots])
    follow.log_all()
    follow.log_all()
    assert read(tracker)["A/trial/1-001"] == StoredRun(
        read(tracker)["A/trial/1-001"].config,
        {SCORE: {1: 0.25, 2: 0.5}, "aux/x": {1: 1.0, 2: 2.0}},
        {"value": 0.5},
        True,
    )


def test_a_follower_that_was_lost_or_stopped_is_made_up_for(tracker: str, tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    ledger.register("x")
    work = take(ledger, "x", 1)
    ledger.finish("x", outcomes(work))
    other = take(ledger, "x", 1)
    report(ledger, "x", other, 0.5)
    first = follower(ledger, tracker)
    first.log_all()
    first.close()
    ledger.release("x")
    finish_all(ledger)
    starts: list[str] = []
    second = follower(ledger, tracker)
    start = second.tracker.start
    second.tracker.start = lambda run: (starts.append(run.name), start(run))  # type: ignore[method-assign,assignment]
    second.log_all()
    assert len(starts) == 5, "all but the one that was finished"
    runs = read(tracker)
    assert len(runs) == 6 and all(run.ended and len(run.curves[SCORE]) == 2 for run in runs.values())


def test_a_study_that_begins_again_is_logged_again(tracker: str, tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    finish_all(ledger)
    follower(ledger, tracker).log_all()
    delete_study(ledger.engine, "s")
    fresh = ledger_of(f"sqlite:///{tmp_path}/t.db", trials=1)
    work = take(fresh, "x", 1)
    fresh.finish("x", [Outcome(each.id, 1, 0.125, curves={SCORE: [0.125]}) for each in work.slots])
    follower(fresh, tracker).log_all()
    runs = read(tracker)
    assert len(runs) == 6 and runs["A/trial/1-001"].curves == {SCORE: {1: 0.125}}


class Unreliable:
    """A tracker that fails for some runs, or for a time."""

    def __init__(self, fails: Callable[[Any], bool]) -> None:
        self.fails, self.ended, self.started = fails, list[str](), list[str]()

    def finished(self) -> set[str]:
        return set()

    def start(self, run: Any) -> None:
        self.started.append(run.name)

    def log(self, run: Any, _: Any) -> None:
        if self.fails(run):
            raise ConnectionError("no network\nand more")

    def finish(self, run: Any, _: Any) -> None:
        self.ended.append(run.name)


def test_a_tracker_that_fails_is_tried_again_and_warned_of_once(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db", trials=5)
    finish_all(ledger)
    broken, pauses, warnings = [True], list[float](), list[str]()
    tracker = Unreliable(lambda _: broken[0])

    def over(seconds: float) -> bool:
        pauses.append(seconds)
        broken[0] = len(pauses) < 6
        return len(pauses) > 10

    assert Follower(ledger, tracker).follow(over, warnings.append)
    assert warnings == ["ConnectionError: no network"] and pauses == [6.0, 12.0, 24.0, 48.0, 60.0, 60.0]
    assert len(tracker.ended) == len(set(tracker.ended)) == 12


def test_one_run_that_fails_keeps_no_other_from_being_logged(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db", trials=5)
    finish_all(ledger)
    tracker, ended = Unreliable(lambda run: run.name == "A/trial/1-002"), threading.Event()
    ended.set()
    assert not Follower(ledger, tracker).follow(ended.wait, lambda _: None)
    assert len(tracker.ended) == 11 and "A/trial/1-002" in tracker.started


def test_a_worker_logs_only_its_own_runs(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    mine, others = "host+1:1:a:b", "host+1:11:a:b"
    for worker_id in (mine, others):
        ledger.finish(worker_id, outcomes(take(ledger, worker_id, 1)))
    tracker = Unreliable(lambda _: False)
    Follower(ledger, tracker, worker="host+1:1:").log_all()
    assert tracker.ended == ["A/trial/1-001"]


def test_without_live_only_finished_runs_are_logged(tmp_path: Path) -> None:
    ledger = ledger_of(f"sqlite:///{tmp_path}/t.db")
    take(ledger, new_worker_id(), 1)
    for live, started in ((False, []), (True, ["A/trial/1-001"])):
        tracker = Unreliable(lambda _: False)
        Follower(known_for_long(load_study(ledger.engine, "s")), tracker, live=live).log_all()
        assert tracker.started == started
