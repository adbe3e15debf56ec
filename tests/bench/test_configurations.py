"""`hpo bench study` and the end of a study measure the steps of all configurations by turns; the report shows them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import hpo
from hpo import MLP, Configuration, Mnist1d, Study, api
from hpo.bench import configurations
from hpo.cli import app
from hpo.errors import HpoError, UsageError
from hpo.optim.regularizer import Regularizer
from hpo.search_space import Choice
from hpo.storage.ledger import Ledger
from hpo.training import step_times
from hpo.worker import step_times as measurement
from hpo.worker import work as worker
from hpo.worker.trainer import Trainer
from tests.bench.tables import check_table

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def ten_gradients(objective: Any, params: Any, state: Any, _hyper: Any) -> Any:
    """The sum of the gradients at ten places."""
    total = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
    for number in range(10):
        gradient = objective.grad({name: leaf * (1 + number / 100) for name, leaf in params.items()})
        total = {name: leaf + gradient[name] for name, leaf in total.items()}
    return total, state, {}


def small_study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "small", "data": Mnist1d(samples=200), "model": MLP((40, 128, 10)), "epochs": 1, "batch_size": 20,
        "baseline": "A", "trials": 1, "seeds": 3, "tuning_runs": 1,
        "configurations": (Configuration("SAM", regularizer="sam"), Configuration("A")),
    }  # fmt: skip
    return Study(**values | changes)


def test_rows_are_medians_of_rounds_and_ratios_to_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second version: numpy's quantiles of made-up rounds."""
    import numpy as np

    rounds = np.random.default_rng(0).uniform(1, 2, (step_times.ROUNDS, 2))
    monkeypatch.setattr(measurement, "time_recipes", lambda *_: rounds.tolist())
    trainer = Trainer(small_study(), CPU)
    printed: list[Any] = []
    result = configurations.measure(trainer, None, [4], printed.append)
    check_table(configurations, result, printed[0])
    assert result["rows"] == printed and result["threads"] == 1
    for row, series in zip(printed, rounds.T, strict=True):
        assert row["ms"] == pytest.approx(np.median(series) / 4 * 1000)
        assert row["ratio"] == pytest.approx(np.median(series / rounds[:, 1]))
        low, high = np.quantile(series / rounds[:, 1], [0.25, 0.75])
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert [row["configuration"] for row in printed] == ["SAM", "A"]


def test_populations_take_turns_with_their_own_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round runs a series of each, of as many models as asked for, with the chosen batch size."""
    built: list[Any] = []
    real = step_times.Steps

    class Counted(real):  # type: ignore[misc, valid-type]
        def next(self) -> None:
            built.append((len(self.population), self.population.regularizer.name, self.batch_size))
            super().next()

    monkeypatch.setattr(step_times, "Steps", Counted)
    sizes = {"batch_size": Choice([10, 20])}
    both = (Configuration("SAM", regularizer="sam", space=sizes), Configuration("A", space=sizes))
    trainer = Trainer(small_study(configurations=both), CPU)
    settings = {name: trainer.setting_to_try(name, {"batch_size": size}) for name, size in (("SAM", 10), ("A", 20))}
    measured = measurement.measure_step_times(trainer, settings, [3, 1], seconds=0.0)
    assert measured is not None
    assert [(row["configuration"], row["population"]) for row in measured["rows"]] == [
        ("SAM", 3), ("A", 3), ("SAM", 1), ("A", 1)
    ]  # fmt: skip
    turns = [("sam", 10), ("none", 20)] * step_times.ROUNDS
    for population in (3, 1):
        steps = [(name, size) for models, name, size in built if models == population]
        assert steps[-len(turns) :] == turns
    assert all(row["ms"] > 0 and row["low"] <= row["high"] for row in measured["rows"])


def test_a_configuration_that_computes_more_takes_longer() -> None:
    study = small_study(
        configurations=(
            Configuration("A"),
            Configuration("Ten gradients", regularizer=Regularizer("ten", ten_gradients)),
        ),
        model=MLP((40, 256, 256, 10)),
    )
    trainer = Trainer(study, CPU)
    settings = {name: trainer.setting_to_try(name, {}) for name in ("A", "Ten gradients")}
    measured = measurement.measure_step_times(trainer, settings, [2], 0.1)
    assert measured is not None
    assert measured["rows"][1]["ratio"] > 2 and measured["rows"][0]["ratio"] == 1


def test_populations_are_no_larger_than_memory_holds_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpo.worker import population_limits

    trainer = Trainer(small_study(), CPU)
    settings = {name: trainer.setting_to_try(name, {}) for name in ("SAM", "A")}
    assert measurement.populations_to_time(trainer, settings, 3) == [3, 1]
    assert measurement.populations_to_time(trainer, settings, 1) == [1]
    given: list[float] = []
    monkeypatch.setattr(population_limits, "total_memory", lambda _: 1e6)
    monkeypatch.setattr(population_limits, "population_size", lambda *values: given.append(values[3]) or 2)
    assert measurement.populations_to_time(trainer, settings, 3) == [2, 1]
    assert given == [5e5, 5e5]


def test_nothing_is_measured_beyond_the_limit() -> None:
    trainer = Trainer(small_study(), CPU)
    settings = {name: trainer.setting_to_try(name, {}) for name in ("SAM", "A")}
    assert measurement.measure_step_times(trainer, settings, [3, 1], 0.0, limit=0.0) is None


def test_a_finished_study_has_measured_its_steps(tmp_path: Path) -> None:
    results = hpo.run(small_study(), storage=f"sqlite:///{tmp_path}/a.db", reports=tmp_path / "reports")
    numbers = json.loads((tmp_path / "reports" / "small" / "results.json").read_text())["step_times"]
    assert {(row["configuration"], row["population"]) for row in numbers["rows"]} == {
        ("SAM", 3), ("A", 3), ("SAM", 1), ("A", 1)
    }  # fmt: skip
    text = (tmp_path / "reports" / "small" / "README.md").read_text()
    sam = next(row for row in numbers["rows"] if row["configuration"] == "SAM" and row["population"] == 1)
    assert f"{sam['ratio']:.2f} [{sam['low']:.2f}, {sam['high']:.2f}]" in text
    assert results.report is not None


def test_a_configuration_that_cannot_be_trained_does_not_prevent_the_measurement(tmp_path: Path) -> None:
    def broken(objective: Any, params: Any, state: Any, hyper: Any) -> Any:
        if hyper["rank"] != 500:  # the middle of its space, which is tried before training
            raise ValueError("broken")
        return objective.grad(params), state, {}

    regularizer = Regularizer("broken", broken, {"rank": hpo.integers(0, 1000)}, static=("rank",))
    both = (Configuration("A"), Configuration("Broken", regularizer=regularizer))
    results = hpo.run(
        small_study(configurations=both), storage=f"sqlite:///{tmp_path}/a.db", reports=tmp_path / "reports"
    )
    assert set(results.reruns.query("configuration == 'Broken'").state) == {"failed"}
    numbers = json.loads((tmp_path / "reports" / "small" / "results.json").read_text())["step_times"]
    assert {(row["configuration"], row["population"]) for row in numbers["rows"]} == {("A", 3), ("A", 1)}


@pytest.mark.parametrize(
    ("owner", "name", "failure"),
    [
        (worker, "measure_step_times", RuntimeError("broken")), (worker, "measure_step_times", MemoryError()),
        (Ledger, "chosen_settings", HpoError("no database")), (Ledger, "note_step_times", HpoError("no database")),
    ],
)  # fmt: skip
def test_a_measurement_that_fails_harms_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, failure: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(owner, name, fail)
    results = hpo.run(small_study(), storage=f"sqlite:///{tmp_path}/a.db", reports=tmp_path / "reports")
    assert list(results.reruns.state) == ["done"] * 6
    assert results.report is not None and "`hpo bench study small`" in results.report.read_text()


STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study
STUDY = Study(data=Mnist1d(samples=200), model=MLP((40, 8, 10)), epochs=1, batch_size=20, baseline="A", trials=1,
              seeds=2, tuning_runs=1, configurations=(Configuration("A"), Configuration("SAM", regularizer="sam")))
"""


def test_the_command_stores_what_the_report_then_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configurations, "SECONDS", 0.01)
    Path("studies").mkdir()
    Path("studies/mine.py").write_text(STUDY)
    run = CliRunner().invoke
    before = run(app, ["bench", "study", "mine", "--json"], catch_exceptions=False)  # not in any database
    assert json.loads(before.output)["rows"][0]["population"] == 2 and not Path("hpo.db").exists()

    from hpo.study.loading import load

    url = api.storage_url(None)
    worker.work(load("mine"), api.open_ledger(load("mine"), url), step_times=False)
    run(app, ["report", "mine"], catch_exceptions=False)
    assert "`hpo bench study mine`" in Path("reports/mine/README.md").read_text()
    result = run(app, ["bench", "study", "mine", "--population", "4", "--json"], catch_exceptions=False)
    stored = hpo.results("mine")._record.study["step_times"]
    assert stored == json.loads(result.output) and {row["population"] for row in stored["rows"]} == {4}
    run(app, ["report", "mine"], catch_exceptions=False)
    text = Path("reports/mine/README.md").read_text()
    assert "ms a step, 4 models" in text and "bench study" not in text

    Path("studies/mine.py").write_text(STUDY.replace("(40, 8, 10)", "(40, 9, 10)"))
    refused = run(app, ["bench", "study", "mine"])
    assert isinstance(refused.exception, UsageError) and "mine" in str(refused.exception)
    assert hpo.results("mine")._record.study["step_times"] == stored
