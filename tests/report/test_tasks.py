"""Studies of every kind of targets, from a run to the report, the note of the dashboard and Optuna's tables."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from hpo import MLP, Arrays, CharLM, Configuration, Study, Tales, UsageError, notebooks
from hpo.analysis.compute import compute_numbers
from hpo.report import read_record, write_comparison
from hpo.report.summary import summarise
from hpo.storage.database import connect
from hpo.storage.ledger import load_study

pytestmark = pytest.mark.usefixtures("one_thread")

X = np.random.default_rng(0).normal(size=(120, 4)).astype("float32")
DATA: dict[str, tuple[Any, Any]] = {
    "regression": (Arrays(X, X[:, 0] * 2 + X[:, 1]), MLP((4, 8, 1))),
    "several numbers": (Arrays(X, X[:, :2] * 2), MLP((4, 8, 2))),
    "multilabel": (Arrays(X, (X[:, :3] > 0).astype(int)), MLP((4, 8, 3))),
    "one logit": (Arrays(X, (X[:, 0] > 0).astype(int), label_noise=0.2), MLP((4, 8, 1))),
    "tokens": (Tales(length=8, characters=600), CharLM(Tales.vocabulary, length=8, width=8, heads=2)),
}
# The test metric of verdicts, its direction, whether it is in percent, and the other columns of T1.
EXPECTED: dict[str, tuple[str, str, bool, list[str]]] = {
    "regression": ("test R²", "maximize", False, ["test RMSE"]),
    "several numbers": ("test R²", "maximize", False, ["test RMSE"]),
    "multilabel": ("test F1", "maximize", True, ["test exact match"]),
    "one logit": ("test accuracy", "maximize", True, []),
    "tokens": ("test loss", "minimize", False, ["test perplexity", "test accuracy"]),
}


def study_of(case: str, **changes: Any) -> Study:
    data, model = DATA[case]
    chosen: dict[str, Any] = {
        "data": data, "model": model, "epochs": 2, "trials": 2, "seeds": 3, "tuning_runs": 1, "batch_size": 16,
        "baseline": "A", "name": "own",
        "configurations": (Configuration("A"), Configuration("B", regularizer="gnvr", prediction="better")),
    }  # fmt: skip
    return Study(**chosen | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each study with its database and its reports."""
    folders = {}
    for case in DATA:
        folders[case] = tmp_path_factory.mktemp("task")
        notebooks.run(study_of(case), f"sqlite:///{folders[case]}/hpo.db", "cpu", reports=folders[case] / "reports")
    return folders


@pytest.mark.parametrize("case", DATA)
def test_words_and_numbers_follow_the_targets(case: str, finished: dict[str, Path]) -> None:
    folder = finished[case] / "reports" / "own"
    label, direction, share, further = EXPECTED[case]
    results = json.loads((folder / "results.json").read_text())
    assert (results["metric"]["direction"], results["metric"]["share"]) == (direction, share)
    pages = {name: (folder / name).read_text() for name in ("README.md", "report.html", "results.tex")}
    header = next(line for line in pages["README.md"].splitlines() if "final training loss |" in line).split(" | ")
    fits = ["noisy labels fitted"] if case == "one logit" else []
    columns = header[2 : header.index("diverged")]
    assert columns == [f"{label} [95% CI]", *further, "final training loss", "generalisation gap", *fits]
    better = "lower is better" if direction == "minimize" else "higher is better"
    assert f"verdicts compare {label} ({better})" in pages["README.md"]
    assert (" points" in pages["README.md"]) == share
    if case in ("regression", "several numbers", "multilabel"):
        for page in (*pages.values(), json.dumps(results)):
            assert "accurac" not in page.lower() and "label noise" not in page.replace("can have label noise", "")
    for entry in results["configurations"]:
        metrics = entry["reruns"]["test_metrics"]
        assert len(metrics) == 1 + len(further) and all(len(values) == 3 for values in metrics.values())
        assert all(math.isfinite(value) for values in metrics.values() for value in values.values())
        if case == "tokens":
            for seed, loss in metrics["test_loss"].items():
                assert metrics["test_perplexity"][seed] == pytest.approx(math.exp(loss), rel=1e-4)
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    validation = {"test R²": "r2", "test F1": "f1", "test accuracy": "accuracy", "test loss": "loss"}[label]
    assert f"2-validation-{validation}.png" in figures and all(name.isascii() for name in figures)
    curves = (folder / "curves.csv").read_text().splitlines()[0]
    assert f"validation_{validation}" in curves


@pytest.mark.parametrize("case", DATA)
def test_verdicts_and_gaps_have_the_right_sign(case: str, finished: dict[str, Path]) -> None:
    """The gap is positive where the training samples are fitted better, whatever the direction of the metric."""
    numbers = compute_numbers(read_record(load_study(connect(f"sqlite:///{finished[case]}/hpo.db"), "own")))
    name, sign = numbers.metric.name.removeprefix("test_"), 1 if numbers.metric.direction == "maximize" else -1
    record = read_record(load_study(connect(f"sqlite:///{finished[case]}/hpo.db"), "own"))
    reruns = record.slots[(record.slots.phase == "rerun") & (record.slots.configuration == "A")]
    gaps = [sign * (result[f"train_{name}"] - result[f"test_{name}"]) for result in reruns["result"]]
    assert numbers.baseline.reruns.generalisation_gap.mean == pytest.approx(np.mean(gaps))
    comparison = numbers.rivals[0].verdict.comparison
    assert comparison.won + comparison.tied <= 3 and (sign * comparison.mean > 0 or comparison.won < 3)


@pytest.mark.parametrize("case", DATA)
def test_optuna_and_the_dashboard_show_the_metric_of_the_targets(case: str, finished: dict[str, Path]) -> None:
    url = f"sqlite:///{finished[case]}/hpo.db"
    label, direction, _, _ = EXPECTED[case]
    study = optuna.load_study(study_name="own/A/rerun", storage=url)
    assert study.direction.name == direction.upper()
    name = {"test R²": "r2", "test F1": "f1"}.get(label, label.removeprefix("test "))
    assert study.metric_names == [f"test_{name}"]
    assert all(trial.value == trial.value for trial in study.trials) and len(study.trials) == 3
    note = summarise(read_record(load_study(connect(url), "own"))).note
    assert f"{label} [95% CI]" in note and f"Differences of {label}" in note


def test_several_kinds_stand_side_by_side(finished: dict[str, Path], tmp_path: Path) -> None:
    records = []
    for case, folder in finished.items():
        record = read_record(load_study(connect(f"sqlite:///{folder}/hpo.db"), "own"))
        records.append(record._replace(study=record.study | {"name": case.replace(" ", "-")}))
    text = write_comparison(records, tmp_path / "compare", "hpo report").read_text()
    for label, *_ in EXPECTED.values():
        assert label in text


def test_a_diverged_regression_has_no_score_and_no_verdict(tmp_path: Path) -> None:
    wild = Configuration("B", optimizer="sgd", space={"learning_rate": 1e30})
    study = study_of("regression", configurations=(Configuration("A"), wild))
    folder = notebooks.run(study, f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports").report.parent
    results = json.loads((folder / "results.json").read_text())
    entry = next(each for each in results["configurations"] if each["name"] == "B")
    assert len(entry["reruns"]["diverged_seeds"]) == 3
    assert set(entry["reruns"]["metric_values"].values()) == {None}
    assert results["rivals"][0]["verdict"]["label"] == "no verdict"
    assert "A diverged rerun has no test R², and its comparisons have no verdict." in (folder / "README.md").read_text()


@pytest.mark.parametrize("case", ["regression", "multilabel", "tokens"])
def test_scores_of_other_targets_are_named(case: str) -> None:
    with pytest.raises(UsageError, match=r"score is 'noisy_labels_fitted'; give .*validation_.* for "):
        study_of(case, score="noisy_labels_fitted")
