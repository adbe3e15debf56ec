"""Weights of reruns: the file gives the network whose metrics are in the database."""

import json
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hpo
from hpo import housekeeping
from hpo.data import load_source
from hpo.errors import UsageError
from hpo.trials import Slot
from hpo.user_code.messages import warn_once
from hpo.worker.weights import WeightsFolder

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")


def narrow(width: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(40, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 10))


def study(**changes: object) -> hpo.Study:
    chosen = {
        "name": "small", "data": hpo.Mnist1d(samples=300), "model": narrow, "epochs": 2, "trials": 2, "seeds": 3,
        "tuning_runs": 1, "baseline": "A", "batch_size": 32,
        "configurations": [
            hpo.Configuration("A", average=hpo.EMA(decay=0.9)),
            hpo.Configuration("B: ä?", optimizer="sgd", space={"model.width": hpo.choice(3, 5)}),
        ],
    }  # fmt: skip
    return hpo.Study(**{**chosen, **changes})


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hpo.Results:
    monkeypatch.setenv("HPO_WEIGHTS", str(tmp_path / "weights"))
    return hpo.run(study(), f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports")


def test_kept_weights_give_the_metrics_of_the_rerun(finished: hpo.Results, tmp_path: Path) -> None:
    source = load_source(study().data)
    for row in finished.reruns.itertuples():
        module = hpo.load_model(study(), row.configuration, row.seed, tmp_path / "weights")
        assert not module.training
        with torch.no_grad():
            right = (module(source.test_inputs).argmax(1) == source.test_labels).float().mean()
        assert float(right) == pytest.approx(row.value, abs=1e-6)


def test_the_file_says_where_its_weights_come_from(finished: hpo.Results, tmp_path: Path) -> None:
    (first,) = (tmp_path / "weights" / "small" / "A").glob("*1000.safetensors")
    with safetensors.safe_open(first, framework="pt") as file:
        provenance = json.loads(file.metadata()["hpo"])
    row = finished.reruns.query("configuration == 'A' and seed == 1000").iloc[0]
    assert provenance["setting"]["learning_rate"] == row["setting/learning_rate"]
    assert provenance["metrics"]["test_accuracy"] == pytest.approx(row["result/test_accuracy"], rel=1e-6)
    assert (provenance["study"], provenance["configuration"], provenance["seed"]) == ("small", "A", 1000)
    assert provenance["tuning_run"] == row["tuning_run"] == 1


def test_weights_of_an_earlier_setting_are_refused(
    finished: hpo.Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better trial replaces the setting, and its reruns leave no weights without HPO_WEIGHTS."""
    monkeypatch.delenv("HPO_WEIGHTS")
    url = f"sqlite:///{tmp_path}/hpo.db"
    later = hpo.run(study(), url, "cpu", trials=12, reports=tmp_path / "reports")
    reruns = later.reruns[~later.reruns.superseded]
    changed = {row.configuration for row in reruns.itertuples() if row.round > 1}
    assert changed
    for row in reruns.itertuples():
        if row.round > 1:
            with pytest.raises(UsageError, match="earlier setting"):
                hpo.load_model(study(), row.configuration, row.seed, tmp_path / "weights", url)
        else:
            hpo.load_model(study(), row.configuration, row.seed, tmp_path / "weights", url)
    hpo.load_model(study(), "A", int(finished.reruns.seed.iloc[0]), tmp_path / "weights", f"sqlite:///{tmp_path}/no.db")


@pytest.mark.usefixtures("finished")
def test_weights_that_do_not_exist_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no weights"):
        hpo.load_model(study(), "A", 7, tmp_path / "weights")
    other = study(
        model=lambda: torch.nn.Linear(40, 10), configurations=[hpo.Configuration("A"), hpo.Configuration("C")]
    )
    with pytest.raises(UsageError, match="other parameters"):
        hpo.load_model(other, "A", 1000, tmp_path / "weights")


def test_a_folder_that_cannot_be_written_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warn_once.cache_clear()
    (tmp_path / "weights").write_text("no folder")
    monkeypatch.setenv("HPO_WEIGHTS", str(tmp_path / "weights"))
    results = hpo.run(study(), f"sqlite:///{tmp_path}/hpo.db", "cpu", reports=tmp_path / "reports")
    assert (results.reruns.state == "done").all() and "cannot write weights" in caplog.text


def test_a_full_disk_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The limit on the size of files fails in the same call as a full disk."""
    warn_once.cache_clear()
    result: Any = SimpleNamespace(weights={"weight": torch.zeros(10_000)}, final={})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        WeightsFolder(tmp_path, "small", {}).save("A", Slot(1, 0, 1000, 1, {}), result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write weights" in caplog.text and "File too large" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


FILE = """
import hpo

STUDY = hpo.Study(
    data=hpo.Mnist1d(samples=300), model=hpo.MLP((40, 4, 10)), batch_size=32,
    epochs=2, trials=2, seeds=1, tuning_runs=1, baseline="AdamW",
    configurations=[hpo.Configuration("AdamW"), hpo.Configuration("SAM", regularizer="sam")],
)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_is_loaded_by_the_name_in_the_database_also_after_a_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HPO_WEIGHTS", "HPO_STORAGE", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    if workers == 2:
        monkeypatch.setenv("HPO_WEIGHTS", "")  # names no folder either
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "one.py").write_text(FILE)
    results = hpo.run("one", device="cpu", name="mine", epochs=1, workers=workers, keep_weights=True)
    assert "HPO_WEIGHTS" not in os.environ and set(results.curves.epoch) == {1}
    assert hpo.results("mine").report == Path("reports/mine/README.md") == results.report
    kept = hpo.load_model("mine", "SAM", 1000).state_dict()
    assert any("weights/mine" in line for line in housekeeping.rename("sqlite:///hpo.db", "mine", "other"))
    again = hpo.load_model("other", "SAM", 1000).state_dict()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    with pytest.raises(UsageError, match="did you mean 'SAM'"):
        hpo.load_model("other", "sam", 1000)
    with pytest.raises(UsageError, match="weights/other/SAM"):
        hpo.load_model("one", "SAM", 1000)


def test_processes_need_a_file() -> None:
    with pytest.raises(UsageError, match="workers=2"):
        hpo.run(study(), workers=2)
