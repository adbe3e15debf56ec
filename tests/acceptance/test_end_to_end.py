"""The main job for real: a small study through the command line, killed, resumed, and its report."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

ROOT = Path(__file__).parents[2]

STUDY = '''
"""A small study."""

from hpo import MLP, Configuration, Mnist1d, Study, log_range

RATE = {"learning_rate": log_range(1e-3, 1e-2), "weight_decay": 1e-3}

STUDY = Study(
    data=Mnist1d(samples=500, label_noise=0.2),
    model=MLP((40, 16, 10)),
    batch_size=32,
    epochs=3,
    trials=12,
    seeds=3,
    tuning_runs=1,
    baseline="AdamW",
    configurations=(
        Configuration("AdamW", space=RATE),
        Configuration("GNVR", regularizer="gnvr", space=RATE, prediction="better"),
    ),
)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.py").write_text(STUDY)
    return tmp_path


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"HPO_CACHE": str(folder.parent / "cache"), "PYTHONPATH": str(ROOT)}
    for name in ("HPO_STORAGE", "OPTUNA_STORAGE"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "hpo", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def hpo(folder: Path, *arguments: str, code: int = 0, traceback: bool = False) -> str:
    """Runs a command to its end; returns what it printed on the stream that matters."""
    process = start(folder, *arguments)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, output + errors
    assert traceback or "Traceback" not in output + errors
    return errors if code else output


def counts(folder: Path) -> dict[str, Any]:
    return json.loads(hpo(folder, "status", "small", "--json"))["small"]["configurations"]


def finished(folder: Path) -> int:
    """Trials and reruns that are done, read without starting a process."""
    import sqlite3

    try:
        with sqlite3.connect(f"file:{folder / 'hpo.db'}?mode=ro", uri=True, timeout=10) as connection:
            return connection.execute("select count(*) from hpo_slots where state = 'done'").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0


def wait_for(folder: Path, done: int) -> None:
    deadline = time.monotonic() + 60
    while finished(folder) < done:
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.05)


def test_run_tunes_reruns_and_reports(folder: Path) -> None:
    output = hpo(folder, "run", "small")

    assert output.splitlines()[-1] == "report: reports/small/README.md"
    assert "GNVR against AdamW:" in output
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (12, 3, 0)
    report = (folder / "reports" / "small" / "README.md").read_text()
    assert "hpo run small" in report
    results = json.loads((folder / "reports" / "small" / "results.json").read_text())
    accuracies = results["configurations"][0]["reruns"]["test_accuracy"]
    assert sorted(accuracies) == ["1000", "1001", "1002"]
    assert all(0 < accuracy < 1 for accuracy in accuracies.values())

    trials = optuna.load_study(study_name="small/GNVR/tune", storage=f"sqlite:///{folder}/hpo.db").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    assert set(trials[0].params) == {"learning_rate", "lambda"}
    reruns = optuna.load_study(study_name="small/GNVR/rerun", storage=f"sqlite:///{folder}/hpo.db").trials
    assert sorted(trial.user_attrs["seed"] for trial in reruns) == [1000, 1001, 1002]
    assert len({tuple(trial.params.items()) for trial in reruns}) == 1

    before = (folder / "reports" / "small" / "README.md").read_bytes()
    again = hpo(folder, "run", "small")
    assert " of 12 trials" in output and " of 12 trials" not in again, "finished work was repeated"
    few = "warning: Few trials a tuning run: AdamW has 12 for 1 hyperparameter, GNVR has 12 for 2 hyperparameters; "
    assert output.splitlines()[-2].startswith(few) and again.splitlines()[-2:] == output.splitlines()[-2:]
    assert (folder / "reports" / "small" / "README.md").read_bytes() == before


def test_changed_definition_is_refused(folder: Path) -> None:
    hpo(folder, "run", "small", "--trials", "2", "--seeds", "2")
    (folder / "studies" / "small.py").write_text(STUDY.replace("batch_size=32", "batch_size=16"))
    message = hpo(folder, "run", "small", code=2)
    assert "batch_size" in message and "--name" in message and "--fresh" in message
    assert message.count("\n") == 1

    hpo(folder, "run", "small", "--trials", "2", "--seeds", "2", "--fresh")
    assert all(entry["trials_done"] == 2 for entry in counts(folder).values())


def test_more_trials_and_seeds_take_up_only_what_is_missing(folder: Path) -> None:
    hpo(folder, "run", "small", "--trials", "2", "--seeds", "2")
    first = optuna.load_study(study_name="small/AdamW/tune", storage=f"sqlite:///{folder}/hpo.db").trials
    hpo(folder, "run", "small", "--trials", "4", "--seeds", "3")
    after = optuna.load_study(study_name="small/AdamW/tune", storage=f"sqlite:///{folder}/hpo.db").trials
    assert [trial.params for trial in after[:2]] == [trial.params for trial in first]
    assert len(after) == 4
    assert "fewer" not in hpo(folder, "status")
    message = hpo(folder, "run", "small", "--trials", "3", code=2)
    assert "may only be raised" in message


def test_tuning_is_repeated_and_its_runs_share_the_reruns(folder: Path) -> None:
    hpo(folder, "run", "small", "--trials", "2", "--seeds", "6", "--tuning-runs", "3")
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (6, 6, 0)
    report = (folder / "reports" / "small" / "README.md").read_text()
    assert "hpo run small --trials 2 --seeds 6 --tuning-runs 3" in report
    assert "3 paired tuning runs" in report and "conditional on one tuning run" not in report
    assert "3 tuning runs a configuration" in report

    hpo(folder, "run", "small")  # the number is remembered
    message = hpo(folder, "run", "small", "--tuning-runs", "2", code=2)
    assert "was planned with 3 tuning runs and 2 are asked for; planned numbers may only be raised" in message
    message = hpo(folder, "run", "small", "--tuning-runs", "4", code=2)
    assert "none would be left for some of 4 tuning runs; give --seeds 7 or more" in message

    hpo(folder, "run", "small", "--tuning-runs", "4", "--seeds", "8")
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (8, 8, 0)
    report = (folder / "reports" / "small" / "README.md").read_text()
    assert "Tuning runs raised from 3 to 4 after a report" in report and "4 paired tuning runs" in report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_gives_work_back_and_the_next_run_goes_on(folder: Path, number: signal.Signals) -> None:
    process = start(folder, "run", "small", "--epochs", "40")
    wait_for(folder, 1)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number, output + errors
    assert "Traceback" not in output + errors
    held = json.loads(hpo(folder, "status", "small", "--json"))["small"]["configurations"]
    assert all(entry["leased"] == 0 for entry in held.values())

    hpo(folder, "run", "small", "--epochs", "40")
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failures"]) == (12, 3, {})


def test_killed_run_resumes_with_exact_totals_and_the_same_settings(folder: Path) -> None:
    process = start(folder, "run", "small", "--epochs", "40")
    wait_for(folder, 1)
    process.kill()
    process.communicate(timeout=30)
    database = f"sqlite:///{folder}/hpo.db"
    before = {
        trial.user_attrs["slot"]: trial.params
        for name in ("AdamW", "GNVR")
        for trial in optuna.load_study(study_name=f"small/{name}/tune", storage=database).trials
        if name == "GNVR"
    }

    hpo(folder, "run", "small", "--epochs", "40")
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (12, 3, 0)
    trials = optuna.load_study(study_name="small/GNVR/tune", storage=database).trials
    complete = {t.user_attrs["slot"]: t.params for t in trials if t.state.name == "COMPLETE"}
    assert sorted(complete) == list(range(12))
    assert all(complete[slot] == params for slot, params in before.items())
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]


def test_errors_are_one_sentence(folder: Path) -> None:
    assert "no study file" in hpo(folder, "run", "nothing", code=2)
    assert "there is no database" in hpo(folder, "report", "other", code=2)
    assert "--device" in hpo(folder, "run", "small", "--device", "tpu", code=2)
    assert "has no configuration 'X'" in hpo(folder, "try", "small", "-c", "X", code=2)
    assert "lambda" in hpo(folder, "try", "small", "-c", "GNVR", "lamda=1", code=2)


def test_try_trains_once_without_a_database(folder: Path) -> None:
    output = hpo(folder, "try", "small", "-c", "GNVR", "lambda=0.5")
    assert len(re.findall(r"^epoch +\d", output, re.MULTILINE)) == 3
    assert "aux/penalty" in output and "test" not in output
    result = json.loads(hpo(folder, "try", "small", "-c", "GNVR", "lambda=0.5", "--json"))
    assert len(result["curves"]["train_loss"]) == 3
    assert not (folder / "hpo.db").exists()

    pruned = STUDY.replace("Study, log", "Study, SuccessiveHalving, log").replace(
        "trials=", "pruner=SuccessiveHalving(2, 2), trials="
    )
    (folder / "studies" / "pruned.py").write_text(pruned)
    result = json.loads(hpo(folder, "try", "pruned", "-c", "AdamW", "--epochs", "1", "--json"))
    assert len(result["curves"]["train_loss"]) == 1, "a pruner of longer trials does not stand in the way"


def test_readme_example_of_an_own_regularizer_works(folder: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    (folder / "studies" / "mine.py").write_text(example[1])
    output = hpo(folder, "run", "mine", "--trials", "2", "--seeds", "3", "--epochs", "1")
    assert "Mine against AdamW:" in output
    curves = (folder / "reports" / "mine" / "curves.csv").read_text().splitlines()[0]
    assert "aux/penalty" in curves


def test_exception_in_a_users_regularizer_fails_its_configuration_alone(folder: Path) -> None:
    broken = STUDY.replace("from hpo import MLP", "from hpo import Regularizer, MLP").replace(
        'regularizer="gnvr", space=RATE', 'regularizer=Regularizer("broken", lambda o, p, s, h: 1 / 0), space=RATE'
    )
    (folder / "studies" / "small.py").write_text(broken)
    message = hpo(folder, "run", "small", "--trials", "2", "--seeds", "2", code=1)
    assert "hpo status" in message
    entries = counts(folder)
    assert entries["AdamW"]["reruns_done"] == 2
    assert entries["GNVR"]["failures"]["exception"] > 0 and entries["GNVR"]["trials_done"] == 0
    assert "GNVR" in (folder / "reports" / "small" / "README.md").read_text()
    assert "small.py, line 19: ZeroDivisionError: division by zero" in hpo(folder, "status", "small")
    trace = hpo(folder, "try", "small", "-c", "GNVR", code=1, traceback=True)
    assert "small.py" in trace and "tracing.py" not in trace

    # The code is mended: what it made fail is tried again, and nothing else.
    mended = broken.replace("1 / 0", "(o.grad(p), s, {})")
    (folder / "studies" / "small.py").write_text(mended)
    assert "regularizer of GNVR" in hpo(folder, "run", "small", "--trials", "2", "--seeds", "2", code=2)
    hpo(folder, "run", "small", "--trials", "2", "--seeds", "2", "--accept-changed-code")
    for entry in counts(folder).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (2, 2, 0)
