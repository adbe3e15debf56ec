"""Custom metrics next to those of hpo: their names never collide, and a mean that is not finite is no divergence."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import storage_study
from synthetic_record import diverge, synthetic_export
from torch import Tensor, nn

from hpo import Configuration, Study
from hpo.analysis.compute import compute_numbers
from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.report import make_record
from hpo.report.figure_plan import plan_figures
from hpo.report.tables import seeds
from hpo.report.tuning_tables import tuning
from hpo.report.warnings import find_warnings
from hpo.report.wording import verdict_lines
from hpo.storage.database import connect
from hpo.storage.optuna.mirror import _result
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe, Result
from hpo.trials import Outcome, Slot, Work
from hpo.user_code.messages import warn_once
from hpo.worker.trainer import Trainer
from tests.data.test_data_loading import SGD, Clouds, plain
from tests.report.golden_studies import opened
from tests.report.test_metric import study_of, text_of, verdict_of

pytestmark = pytest.mark.usefixtures("one_thread")

NO_SCORE = "without a finite score"


def hit(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(-1) == labels).float()


def gain(outputs: Tensor, labels: Tensor) -> Tensor:
    """−inf for every wrong sample."""
    return hit(outputs, labels).log2()


def share(outputs: Tensor, labels: Tensor) -> Tensor:
    """NaN for samples of class 0."""
    return hit(outputs, labels) / (labels > 0) * (labels > 0)


def trained(members: int = 1, rate: float = SGD["learning_rate"], **metrics: Any) -> list[Result]:
    """Two epochs with custom metrics, and the test set."""
    parts = REGULARIZERS["none"], OPTIMIZERS["sgd"]
    recipe = Recipe(Clouds(), plain(), lambda: nn.Linear(4, 3), *parts, epochs=2, batch_size=8, metrics=metrics)
    return train(recipe, [Member(seed, SGD | {"learning_rate": rate}) for seed in range(members)], test=True)


def study(metric: Callable[..., Any] = gain, **changes: Any) -> Study:
    chosen: dict[str, Any] = {
        "data": Clouds(), "model": lambda: nn.Linear(4, 3), "epochs": 2, "trials": 2, "seeds": 3, "batch_size": 8,
        "metrics": {"own": metric}, "score": "validation_own", "direction": "maximize", "baseline": "A",
        "configurations": (Configuration("A"), Configuration("B", optimizer="sgd")),
    }  # fmt: skip
    return Study(**chosen | changes)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_every_name_that_hpo_reports_is_reserved(part: str) -> None:
    [result] = trained()
    names = {name.removeprefix(f"{part}_") for name in (*result.final, *result.curves) if name.startswith(f"{part}_")}
    assert names == {"loss", "accuracy", "samples"}
    for name in names:
        with pytest.raises(UsageError, match=f"metrics has the name '{name}'"):
            trained(**{name: hit})


@pytest.mark.parametrize(
    "name", ["loss", "accuracy", "samples", "test_loss", "validation_own", "train_accuracy", "noisy_labels_fitted"]
)
def test_a_study_refuses_names_that_reports_use(name: str) -> None:
    with pytest.raises(UsageError, match=f"metrics has the name '{name}'"):
        study(metrics={name: hit}, score="validation_loss")


@pytest.mark.parametrize("members", [1, 2])
def test_complex_values_are_refused(members: int) -> None:
    with pytest.raises(UsageError, match=r"metric 'own'.*complex"):
        trained(members, own=lambda outputs, _: outputs.sum(1) + 0j)


def test_metrics_change_none_of_hpos_numbers() -> None:
    """Also under names that hpo has elsewhere."""
    names = ("epochs", "classes", "population", "changed_labels", "training_samples", "value")
    [without] = trained()
    [result] = trained(**dict.fromkeys(names, hit))
    assert result.final.items() >= without.final.items() and result.curves.items() >= without.curves.items()
    assert result.final["test_epochs"] == result.final["test_accuracy"]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    warn_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="hpo")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("members", [1, 2])
def test_a_metric_that_is_not_finite_is_logged_once(members: int, logged: Callable[[], list[str]]) -> None:
    for result in trained(members, gain=gain, hit=hit):
        assert result.diverged_epoch is None
        assert result.curves["validation_gain"] == [-math.inf] * 2 and math.isfinite(result.final["test_hit"])
    [text] = logged()
    assert "'gain'" in text and "-inf" in text


def test_a_diverged_run_is_not_logged(logged: Callable[[], list[str]]) -> None:
    [result] = trained(rate=1e38, gain=gain)
    assert result.diverged_epoch == 1 and not [text for text in logged() if "'gain'" in text]


def outcome(metric: Callable[..., Any], rerun: bool = False, rate: float = 0.1, **changes: Any) -> Outcome:
    slot = Slot(1, 0, 0, 1, {"learning_rate": rate, "weight_decay": 0.0})
    return Trainer(study(metric, **changes), "cpu")(Work("B", "rerun" if rerun else "tune", [slot]))[0]


@pytest.mark.parametrize("metric", [gain, share])
@pytest.mark.parametrize("at", ["last", "best"])
@pytest.mark.parametrize("models", [1, 2])
def test_a_trial_whose_metric_is_not_finite_has_no_score(metric: Any, at: str, models: int) -> None:
    actual = outcome(metric, score_epoch=at, seeds_per_trial=models)
    assert (actual.value, actual.cause) == (None, NO_SCORE)
    assert "diverged_epoch" not in actual.result and math.isfinite(actual.result["validation_loss"])
    assert outcome(hit, score_epoch=at, seeds_per_trial=models).cause is None


def test_causes_of_diverged_trials_and_of_reruns() -> None:
    assert outcome(gain, rate=1e38).cause == "diverged"
    rerun = outcome(share, rerun=True)
    assert rerun.cause is None and rerun.value == rerun.result["test_accuracy"]


def test_the_ledger_counts_trials_without_a_score_separately(tmp_path: Path) -> None:
    ledger = opened(connect(f"sqlite:///{tmp_path}/t.db"), "s", ("A", "B"), trials=4, seeds=1)
    work = ledger.lease("w", 4, 60)
    assert work is not None
    work = ledger.assign("w", work, [{"learning_rate": 0.1 * slot.id} for slot in work.slots])
    ends = [(None, NO_SCORE), (0.2, None), (None, "diverged"), (None, NO_SCORE)]
    ledger.finish("w", [Outcome(slot.id, 1, *end) for slot, end in zip(work.slots, ends, strict=True)])
    counts = ledger.counts()[work.configuration]
    assert (counts["trials_done"], counts[NO_SCORE], counts["diverged"]) == (4, 2, 1)
    best = storage_study.best(ledger, work.configuration)
    assert best is not None and best["value"] == counts["best"] == 0.2
    shown = _result(1, None, NO_SCORE, None, ())
    assert (shown.state.name, shown.cause) == ("FAIL", NO_SCORE)


def report_of(lost: dict[str, list[int]], diverged: int | None = None) -> tuple[str, Any]:
    """A report whose metric is not finite in some reruns (by slot), and whose GNVR diverged in one."""
    export, curves = study_of("gain", "maximize", 0.5)
    for row in export["slots"]:
        if row["phase"] == "rerun" and row["slot"] in lost.get(row["configuration"], ()):
            row["result"]["test_gain"] = None  # the ledger's form of a number that is not finite
        if row["phase"] == "rerun" and row["configuration"] == "GNVR" and row["slot"] == diverged:
            diverge(row, curves, bounded=False)
    return text_of(export, curves), compute_numbers(make_record(export, curves))


def test_reruns_without_the_metric_give_no_verdict_and_did_not_diverge() -> None:
    _, numbers = report_of({"GNVR": [1, 4], "AdamW": [4]})
    assert "test gain is not finite for 3 of 12 reruns" in verdict_lines(numbers)[0]
    assert numbers.rivals[0].verdict.diverged == 0
    undefined = {entry.name: entry.reruns.undefined_seeds for entry in numbers.configurations}
    assert undefined == {"AdamW": [1004], "GNVR": [1001, 1004]}
    [warning] = [line for line in find_warnings(numbers) if line.startswith("GNVR: test gain")]
    assert "2 reruns (seeds 1001, 1004)" in warning and "no verdict" in warning
    assert not [line for line in find_warnings(numbers) if "diverged (" in line]
    rows = {row[0]: row[1:] for row in seeds(numbers).rows}
    assert rows["1004"] == ["not finite", "not finite"] and rows["1001"][1] == "not finite" != rows["1001"][0]


def test_diverged_reruns_and_reruns_without_the_metric_are_distinguished() -> None:
    _, numbers = report_of({"GNVR": [1]}, diverged=2)
    assert "not finite for 1 of 12 reruns, and 1 diverged" in verdict_lines(numbers)[0]
    assert numbers.rivals[0].verdict.diverged == 1
    rows = {row[0]: row[-1] for row in seeds(numbers).rows}
    assert rows["1001"] == "not finite" and "(diverged)" in rows["1002"]
    assert "no verdict: 1 diverged" in verdict_lines(report_of({}, diverged=2)[1])[0]


def test_a_test_loss_that_is_not_finite_is_no_divergence() -> None:
    export, curves = study_of("loss", "minimize", 0.5)
    row = next(row for row in export["slots"] if row["phase"] == "rerun" and row["configuration"] == "GNVR")
    row["result"]["test_loss"] = None
    assert "test loss is not finite for 1 of 12 reruns" in verdict_of(export, curves)
    [warning] = [line for line in find_warnings(compute_numbers(make_record(export, curves))) if "not finite" in line]
    assert warning.startswith("GNVR: test loss") and "(seed 1000)" in warning


def test_a_metric_without_a_verdict_has_a_warning_as_well() -> None:
    export, curves = synthetic_export(metrics={"gain": {"kind": "gain"}})
    for row in export["slots"]:
        if row["phase"] == "rerun":
            row["result"]["test_gain"] = None if row["slot"] == 0 else 1.0
    lines = [
        line for line in find_warnings(compute_numbers(make_record(export, curves))) if "gain is not finite" in line
    ]
    assert len(lines) == 2 and all("1 rerun (seed 1000)" in line and "no verdict" not in line for line in lines)


def test_the_tuning_table_counts_trials_without_a_score() -> None:
    export, curves = synthetic_export()
    trials = [row for row in export["slots"] if row["phase"] == "tune"]
    for row in trials:
        if row["configuration"] == "GNVR" or row["slot"] < 2:
            row |= {"value": None, "cause": NO_SCORE}
    numbers = compute_numbers(make_record(export, curves))
    count = sum(row["configuration"] == "GNVR" for row in trials)
    assert [entry.tuning.without_score for entry in numbers.configurations] == [2, count]
    assert [entry.tuning.diverged for entry in numbers.configurations] == [0, 0]
    table = tuning(numbers)
    column = table.header.index(NO_SCORE)
    assert [row[column] for row in table.rows] == ["2", str(count)]
    assert table.rows[1][table.header.index("best setting")].startswith("none")
    lines = find_warnings(numbers)
    assert [line for line in lines if line.startswith("AdamW: the score of 2 of")]
    assert [line for line in lines if line.startswith("GNVR: no trial has a finite score")]
    assert not [line for line in lines if "diverged" in line]


@pytest.mark.parametrize(("metric", "share"), [("accuracy", True), ("log_accuracy", False)])
def test_only_hpos_accuracy_is_a_percentage(metric: str, share: bool) -> None:
    """In the table and in the figure of the trials."""
    record = make_record(*synthetic_export(score=f"validation_{metric}"))
    numbers = compute_numbers(record)
    table = tuning(numbers)
    assert ("%" in table.rows[0][table.header.index("best score")]) == share
    [history] = [figure for figure in plan_figures(record, numbers) if figure.slug == "tuning-history"]
    assert history.chart is not None and history.chart.metric.share == share  # type: ignore[attr-defined]
