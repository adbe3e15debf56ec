"""A small study from the command line to its report: run, raised, interrupted, killed and resumed."""

import json
import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from command_line import CommandLine
from fork_server import ForkServer, LoggedChild

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
def hpo(fork_server: ForkServer, tmp_path: Path) -> CommandLine:
    """The command line in a folder with the study."""
    commands = CommandLine(fork_server, tmp_path / "work", HPO_CACHE=str(tmp_path.parent / "cache"))
    commands.write_study("small", STUDY)
    return commands


def counts(hpo: CommandLine) -> dict[str, Any]:
    return json.loads(hpo.run("status", "small", "--json"))["small"]["configurations"]


def check_finished(hpo: CommandLine, trials: int, reruns: int) -> None:
    """Each configuration has so many finished trials and reruns, and nothing that failed for good."""
    for entry in counts(hpo).values():
        assert (entry["trials_done"], entry["reruns_done"], entry["failed"]) == (trials, reruns, 0)


def optuna_trials(hpo: CommandLine, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=f"small/{name}", storage=f"sqlite:///{hpo.folder}/hpo.db").trials


def report(hpo: CommandLine, name: str = "README.md") -> str:
    return (hpo.folder / "reports" / "small" / name).read_text()


def start_and_wait_for_a_finished_trial(hpo: CommandLine, *words: str) -> LoggedChild:
    process = hpo.start(*words)
    while not _finished(hpo.folder / "hpo.db"):
        assert process.poll() is None, process.text()
        time.sleep(0.02)
    return process


def _finished(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute("select count(*) from hpo_slots where state = 'done'").fetchone()[0]
    except sqlite3.OperationalError:  # there is no database yet
        return 0


def test_run_tunes_reruns_and_reports(hpo: CommandLine) -> None:
    output = hpo.run("run", "small")
    assert output.splitlines()[-1] == "report: reports/small/README.md"
    assert "GNVR against AdamW:" in output
    check_finished(hpo, trials=12, reruns=3)
    text = report(hpo)
    assert "hpo run small" in text
    accuracies = json.loads(report(hpo, "results.json"))["configurations"][0]["reruns"]["test_metrics"]["test_accuracy"]
    assert sorted(accuracies) == ["1000", "1001", "1002"]
    assert all(0 < accuracy < 1 for accuracy in accuracies.values())

    trials = optuna_trials(hpo, "GNVR/tune")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    assert set(trials[0].params) == {"learning_rate", "lambda"}
    reruns = optuna_trials(hpo, "GNVR/rerun")
    assert sorted(trial.user_attrs["seed"] for trial in reruns) == [1000, 1001, 1002]
    assert len({tuple(trial.params.items()) for trial in reruns}) == 1

    again = hpo.run("run", "small")
    assert " of 12 trials" in output and " of 12 trials" not in again, "finished work was repeated"
    assert "Few trials" in output.splitlines()[-2] and again.splitlines()[-2:] == output.splitlines()[-2:]
    assert report(hpo) == text


def test_the_authors_text_is_found_under_another_name(hpo: CommandLine) -> None:
    (hpo.folder / "studies" / "small.md").write_text("What I make of it.")
    hpo.run("worker", "small", "--name", "mine", "--epochs", "1")  # it creates the study
    few = ("--trials", "2", "--seeds", "2", "--epochs", "1")
    for name, command in (("other", ("run", "small", "--name", "other", *few)), ("mine", ("report", "mine"))):
        hpo.run(*command)
        text = (hpo.folder / "reports" / name / "README.md").read_text()
        assert "What I make of it." in text and f"--name {name}" in text


def test_a_changed_definition_is_refused(hpo: CommandLine) -> None:
    few = ("--trials", "2", "--seeds", "2")
    hpo.run("run", "small", *few)
    hpo.write_study("small", STUDY.replace("batch_size=32", "batch_size=16"))
    message = hpo.run("run", "small", code=2)
    assert "batch_size" in message and "--name" in message and "--fresh" in message
    assert message.count("\n") == 1

    hpo.run("run", "small", *few, "--fresh", "--yes")
    check_finished(hpo, trials=2, reruns=2)


def test_more_trials_and_seeds_add_only_what_is_missing(hpo: CommandLine) -> None:
    hpo.run("run", "small", "--trials", "2", "--seeds", "2")
    first = optuna_trials(hpo, "AdamW/tune")
    hpo.run("run", "small", "--trials", "4", "--seeds", "3")
    after = optuna_trials(hpo, "AdamW/tune")
    assert [trial.params for trial in after[:2]] == [trial.params for trial in first]
    assert len(after) == 4
    assert "--trials 4" in hpo.run("run", "small", "--trials", "3", code=2)


def test_several_tuning_runs_share_the_reruns(hpo: CommandLine) -> None:
    command = ("run", "small", "--trials", "2", "--seeds", "6", "--tuning-runs", "3")
    hpo.run(*command)
    check_finished(hpo, trials=6, reruns=6)
    text = report(hpo)
    assert f"hpo {' '.join(command)}" in text
    assert "over the means of the 3 tuning runs" in text and "conditional on one tuning run" not in text

    hpo.run("run", "small")  # the number is remembered
    assert "--tuning-runs 3" in hpo.run("run", "small", "--tuning-runs", "2", code=2)
    assert "--seeds 7" in hpo.run("run", "small", "--tuning-runs", "4", code=2)

    hpo.run("run", "small", "--tuning-runs", "4", "--seeds", "8")
    check_finished(hpo, trials=8, reruns=8)
    text = report(hpo)
    assert "from 3 to 4" in text and "over the means of the 4 tuning runs" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_releases_the_trials_and_the_next_run_resumes(hpo: CommandLine, number: signal.Signals) -> None:
    process = start_and_wait_for_a_finished_trial(hpo, "run", "small", "--epochs", "40")
    process.send_signal(number)
    hpo.finish(process, code=128 + number)
    assert all(entry["leased"] == 0 for entry in counts(hpo).values())

    hpo.run("run", "small", "--epochs", "40")
    check_finished(hpo, trials=12, reruns=3)
    assert all(entry["failures"] == {} for entry in counts(hpo).values())


def test_a_killed_run_resumes_with_exact_totals_and_the_same_settings(hpo: CommandLine) -> None:
    process = start_and_wait_for_a_finished_trial(hpo, "run", "small", "--epochs", "40")
    process.kill()
    before = {trial.user_attrs["number"]: trial.params for trial in optuna_trials(hpo, "GNVR/tune")}

    hpo.run("run", "small", "--epochs", "40")
    check_finished(hpo, trials=12, reruns=3)
    trials = optuna_trials(hpo, "GNVR/tune")
    complete = {trial.user_attrs["number"]: trial.params for trial in trials if trial.state.name == "COMPLETE"}
    assert sorted(complete) == list(range(1, 13))
    assert all(complete[number] == params for number, params in before.items())
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]


def test_errors_are_one_sentence(hpo: CommandLine) -> None:
    for words, name in [
        (("run", "nothing"), "nothing"),
        (("report", "other"), "database"),
        (("run", "small", "--device", "tpu"), "--device"),
        (("try", "small", "-c", "X"), "'X'"),
        (("try", "small", "-c", "GNVR", "lamda=1"), "lambda"),
    ]:
        message = hpo.run(*words, code=2)
        assert message.count("\n") == 1 and message.startswith("hpo: ") and name in message


def test_try_trains_once_without_a_database(hpo: CommandLine) -> None:
    output = hpo.run("try", "small", "-c", "GNVR", "lambda=0.5")
    assert len(re.findall(r"^epoch +\d", output, re.MULTILINE)) == 3
    assert "aux/penalty" in output and "test" not in output
    result = json.loads(hpo.run("try", "small", "-c", "GNVR", "lambda=0.5", "--json"))
    assert len(result["curves"]["train_loss"]) == 3
    assert not (hpo.folder / "hpo.db").exists()

    pruned = STUDY.replace("Study, log", "Study, SuccessiveHalving, log").replace(
        "trials=", "pruner=SuccessiveHalving(2, 2), trials="
    )
    hpo.write_study("pruned", pruned)
    result = json.loads(hpo.run("try", "pruned", "-c", "AdamW", "--epochs", "1", "--json"))
    assert len(result["curves"]["train_loss"]) == 1, "a pruner of longer trials is ignored"


def test_the_readmes_custom_regularizer_works(hpo: CommandLine) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    hpo.write_study("mine", example[1])
    output = hpo.run("run", "mine", "--trials", "2", "--seeds", "3", "--epochs", "1")
    assert "Mine against AdamW:" in output
    curves = (hpo.folder / "reports" / "mine" / "curves.csv").read_text().splitlines()[0]
    assert "aux/penalty" in curves


def test_a_regularizer_that_always_fails_is_refused_before_anything_is_trained(hpo: CommandLine) -> None:
    broken = STUDY.replace("from hpo import MLP", "from hpo import Regularizer, MLP").replace(
        'regularizer="gnvr", space=RATE', 'regularizer=Regularizer("broken", lambda o, p, s, h: 1 / 0), space=RATE'
    )
    command = ("run", "small", "--trials", "2", "--seeds", "2")
    hpo.write_study("small", broken)
    assert "'GNVR'" in hpo.run(*command, code=1)
    assert all(not entry["trials_done"] and not entry["failures"] for entry in counts(hpo).values())
    hpo.write_study("small", broken.replace("1 / 0", "(o.grad(p), s, {})"))
    hpo.run(*command)
    check_finished(hpo, trials=2, reruns=2)


def test_an_exception_in_a_regularizer_fails_only_its_configuration(hpo: CommandLine) -> None:
    """One that works in the middle of its space only, so that it is not refused before training."""
    grads = "lambda o, p, s, h: 1 / 0 if h['rank'] != 500 else (o.grad(p), s, {})"
    broken = STUDY.replace("from hpo import MLP", "from hpo import Regularizer, MLP, integers").replace(
        'regularizer="gnvr", space=RATE',
        f'regularizer=Regularizer("broken", {grads}, {{"rank": integers(0, 1000)}}, static=("rank",)), space=RATE',
    )
    command = ("run", "small", "--trials", "2", "--seeds", "2")
    hpo.write_study("small", broken)
    assert "hpo status" in hpo.run(*command, code=1)
    entries = counts(hpo)
    assert entries["AdamW"]["reruns_done"] == 2
    assert entries["GNVR"]["failures"]["exception"] > 0 and entries["GNVR"]["trials_done"] == 0
    assert "GNVR" in report(hpo)
    assert "small.py, line 19: ZeroDivisionError: division by zero" in hpo.run("status", "small")
    trace = hpo.run("try", "small", "-c", "GNVR", "rank=1", code=1)
    assert "small.py" in trace and "tracing.py" not in trace

    # When the code is fixed, only what failed is tried again.
    hpo.write_study("small", broken.replace("1 / 0 if h['rank'] != 500 else ", ""))
    hpo.run(*command)
    check_finished(hpo, trials=2, reruns=2)
