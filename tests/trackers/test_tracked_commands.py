"""`--log` as a person uses it: in `hpo run`, `hpo worker` and `hpo log`; a tracker that fails harms no study."""

import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from tracker_files import read_tensorboard

from hpo.cli import main

STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    name="s", title="t", hypothesis="h", data=Mnist1d(samples=100), model=MLP((40, 8, 10)), batch_size=32, epochs=2,
    trials=2, seeds=1, tuning_runs=1, baseline="A", configurations=(Configuration("A"), Configuration("B")),
)
"""
needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
NAMES = {f"{name}/{rest}" for name in ("A", "B") for rest in ("trial/1-001", "trial/1-002", "rerun/1000")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "s.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    for name in ("HPO_STORAGE", "HPO_TENSORBOARD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def hpo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hpo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@needs_tensorboard
def test_run_and_worker_log_and_a_finished_study_is_logged_once(folder: Path) -> None:
    worker = hpo("worker", "s.py", "--device", "cpu", "--log", "tensorboard")
    assert worker.returncode == 0, worker.stderr
    runs = read_tensorboard(folder)
    assert set(runs) == NAMES and all(run.ended for run in runs.values())
    assert all(set(run.curves["validation_accuracy"]) == {1, 2} for run in runs.values())
    assert {"optimizer", "regularizer", "learning_rate", "weight_decay", "epsilon"} <= runs[
        "A/rerun/1000"
    ].config.keys()
    assert 0 <= runs["A/rerun/1000"].final["test_accuracy"] <= 1
    files = {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/events*")}
    again = hpo("run", "s.py", "--device", "cpu", "--log", "tensorboard")  # nothing is left to train or to log
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/events*")} == files
    assert "6 runs of s logged to runs/s; `tensorboard --logdir runs`" in worker.stdout
    assert "no new run of s logged to runs/s" in hpo("log", "s", "tensorboard").stdout


@needs_tensorboard
def test_a_tracker_that_fails_harms_no_study_and_is_made_up_for(folder: Path) -> None:
    (folder / "runs").write_text("a file where a folder should be")
    done = hpo("run", "s.py", "--device", "cpu", "--workers", "1", "--log", "tensorboard")
    assert done.returncode == 0 and "report: " in done.stdout, done.stderr
    assert (done.stdout + done.stderr).count("tensorboard failed (") == 1
    failed = hpo("log", "s", "tensorboard")
    assert failed.returncode == 1 and failed.stderr.startswith("hpo: ") and failed.stderr.count("\n") == 1
    (folder / "runs").unlink()
    assert hpo("log", "s", "tensorboard").returncode == 0
    assert set(read_tensorboard(folder)) == NAMES


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_a_tracker_that_cannot_be_opened_is_named_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hpo("run", "s.py", "--device", "cpu", "--workers", "1").returncode == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (folder / "runs").as_uri())  # which MLflow does not support any more
    failed = hpo("log", "s", "mlflow")
    assert (
        failed.returncode == 1 and failed.stderr.startswith("hpo: mlflow failed: ") and failed.stderr.count("\n") == 1
    )


def test_a_tracker_that_ends_its_process_harms_no_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "broken" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent("import os\nos._exit(3)\n"))
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'broken'}:{Path(__file__).parents[2]}")
    done = hpo("run", "s.py", "--device", "cpu", "--workers", "1", "--log", "wandb")
    assert done.returncode == 0 and "report: " in done.stdout, done.stderr
    assert (done.stdout + done.stderr).count("wandb ended early (exit code 3)") == 1


def test_what_a_tracker_prints_hides_no_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "broken" / "wandb"
    package.mkdir(parents=True)
    program = r"""import os; os.write(1, b"\xff loading: "); raise ImportError("no module")"""
    (package / "__init__.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'broken'}:{Path(__file__).parents[2]}")
    done = hpo("run", "s.py", "--device", "cpu", "--workers", "1", "--log", "wandb")
    assert done.returncode == 0 and "report: " in done.stdout and "Traceback" not in done.stderr, done.stderr
    assert (done.stdout + done.stderr).count("wandb failed (ImportError: no module") == 1


def test_a_tracker_that_is_not_installed_is_named_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpo.trackers.find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["hpo", "run", "s.py", "--log", "mlflow"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and "pip install 'hpo-studies[mlflow]'" in capsys.readouterr().err
    assert not (folder / "hpo.db").exists()


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_names_its_offline_runs_or_says_how_to_do_without_an_account(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hpo("run", "s.py", "--device", "cpu", "--workers", "1").returncode == 0
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    refused = hpo("log", "s", "wandb")
    assert refused.returncode == 1 and "WANDB_MODE=offline" in refused.stderr and ".;" not in refused.stderr
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = hpo("log", "s", "wandb")
    assert "6 runs of s logged" in done.stdout and "`wandb sync wandb/offline-run-*`" in done.stdout
    assert len(list(folder.glob("wandb/offline-run-*"))) == 6
