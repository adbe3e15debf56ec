"""Results: the tables are those of the report's files, and the figures those of the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from synthetic_record import synthetic_record
from typer.testing import CliRunner

import hpo
from hpo.cli import app
from hpo.errors import UsageError
from hpo.report import Results, write_report
from hpo.report.export import TABLES, export_tables
from hpo.report.shown_progress import table


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(synthetic_record(names=("AdamW", "GNVR", "SAM")))


def test_trials_and_reruns_are_those_of_the_reports_files(results: Results, tmp_path: Path) -> None:
    write_report(results._record, tmp_path / "x", "x", [])
    for name in ("trials", "reruns"):
        written = pd.read_csv(tmp_path / "x" / f"{name}.csv")
        own = getattr(results, name)
        assert list(own) == list(written) and len(own) == len(written)
        for column in own.select_dtypes("number"):
            np.testing.assert_allclose(own[column], written[column], rtol=1e-15)
    curves = [pd.read_csv(tmp_path / "x" / f"{name}.csv") for name in ("trial_curves", "curves")]
    assert len(results.curves) == sum(map(len, curves))
    assert results.curves["train_loss"].sum() == pytest.approx(sum(curve["train_loss"].sum() for curve in curves))


def test_verdicts_follow_from_the_reruns(results: Results) -> None:
    reruns = results.reruns[~results.reruns.superseded]
    values = reruns.pivot(index="seed", columns="configuration", values="result/test_accuracy")
    assert list(results.verdicts.configuration) == ["GNVR", "SAM"]
    for row in results.verdicts.itertuples():
        test = stats.ttest_rel(values[row.configuration], values["AdamW"])
        assert (row.mean, row.p) == pytest.approx(
            ((values[row.configuration] - values["AdamW"]).mean(), test.pvalue), rel=1e-9
        )
        assert (row.low, row.high) == pytest.approx(test.confidence_interval(), rel=1e-9)
        assert row.won == (values[row.configuration] > values["AdamW"]).sum()


def test_best_settings_are_those_of_the_best_trials(results: Results) -> None:
    for row in results.best.itertuples():
        trials = results.trials[results.trials.configuration == row.configuration]
        best = trials.loc[trials["value"].idxmax()]
        assert (row.number, row.score, row.learning_rate) == (best.number, best.value, best["setting/learning_rate"])


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_one_setting_of_each_configuration_is_the_one_to_use(direction: str) -> None:
    results = Results(synthetic_record(names=("AdamW", "GNVR", "SAM"), tuning_runs=3, seeds=6, direction=direction))
    best_of = max if direction == "maximize" else min
    score = "result/validation_accuracy" if direction == "maximize" else "result/validation_loss"
    means = results.reruns.groupby(["configuration", "tuning_run"])[score].mean().unstack()
    for name, rows in results.best.groupby("configuration"):
        compared = (means - means.mean()).loc[name]
        assert rows.compared_score.tolist() == pytest.approx(compared.tolist(), abs=1e-9)
        assert rows[rows.chosen].compared_score.tolist() == [best_of(rows.compared_score)]
        assert results.setting_to_use(name).equals(rows[rows.chosen].iloc[0])
    chosen = results.best[results.best.chosen]
    assert results.setting_to_use().compared_score == best_of(chosen.compared_score)
    assert results.choice_rule and not Results(synthetic_record(finished_trials=0)).choice_rule
    with pytest.raises(UsageError, match="no finished trial of AdamW has a score"):
        Results(synthetic_record(finished_trials=0)).setting_to_use("AdamW")
    with pytest.raises(UsageError, match="did you mean 'GNVR'"):
        results.setting_to_use("GNRV")


def test_people_count_from_one(results: Results) -> None:
    for frame in (results.trials, results.reruns, results.curves):
        assert frame.number.min() == frame.tuning_run.min() == 1
    assert results.trials["round"].min() == 1 and set(results.curves.phase) == {"trial", "rerun"}


def test_a_table_that_is_changed_leaves_the_results_as_they_are() -> None:
    results = Results(synthetic_record())
    results.trials["value"] = 0.0
    assert len(results.trials)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7])
def test_figures_are_plotlys_and_have_the_drawings_of_the_page(results: Results, number: int) -> None:
    from plotly.graph_objects import Figure

    figure = results.figure(number)
    assert isinstance(figure, Figure) and len(figure.data) and figure.layout.title.text


@pytest.mark.parametrize("number", [0, 8, 9])
def test_figures_that_cannot_be_drawn_are_refused(results: Results, number: int) -> None:
    with pytest.raises(UsageError, match="figure"):
        results.figure(number)


def test_a_notebook_shows_the_verdicts_and_no_html_of_a_name() -> None:
    results = Results(synthetic_record(names=("AdamW", "<b>SAM</b>")))
    page = results._repr_html_()
    assert "<table>" in page and "<b>" not in page and "&lt;b&gt;SAM" in page
    assert "<b>SAM</b> against AdamW" in repr(results)
    counts: dict[str, Any] = {"<i>": dict.fromkeys(("trials_done", "trials_total", "reruns_done", "reruns_total"), 1)}
    counts["<i>"] |= {"best": 0.25, "failed": 0, "diverged": 0, "pruned": 0}
    assert "<i>" not in table("<i>", counts) and "1 of 1" in table("s", counts) and "0.25" in table("s", counts)
    counts["<i>"]["diverged"] = 2  # the trial and the rerun: the score is that of a model that learned nothing
    assert "0.25" not in table("s", counts)


def test_exported_tables_are_read_back(results: Results, tmp_path: Path) -> None:
    readers = {
        "csv": pd.read_csv,
        "json": lambda path: pd.DataFrame(json.loads(path.read_text())),
        "parquet": pd.read_parquet,
    }
    for kind, read in readers.items():
        if kind == "parquet":
            pytest.importorskip("pyarrow")
        paths = export_tables(results, tmp_path / kind, kind)
        assert [path.name for path in paths] == [f"{name}.{kind}" for name in TABLES]
        for name, path in zip(TABLES, paths, strict=True):
            own, back = getattr(results, name), read(path)
            assert list(back) == list(own) and len(back) == len(own)
            for column in own.select_dtypes("number"):
                np.testing.assert_array_equal(back[column].astype(float), own[column].astype(float))


def test_mixed_choices_can_be_exported(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    results = Results(synthetic_record())
    mixed = results.trials
    mixed["setting/kind"] = [None if row % 3 == 0 else "a" if row % 3 == 1 else row for row in range(len(mixed))]
    results.__dict__["_tables"] = {**results._tables, "trials": mixed}
    export_tables(results, tmp_path, "parquet")
    back = pd.read_parquet(tmp_path / "trials.parquet")["setting/kind"]
    assert list(back[:3]) == [None, "a", "2"] or (pd.isna(back[0]) and list(back[1:3]) == ["a", "2"])


def test_results_are_read_from_the_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/hpo.db"
    tuned = hpo.Configuration("A", space={"batch_size": hpo.choice(16, 17)}, first=[{"batch_size": 16}] * 2)
    study = hpo.Study(
        name="small", data=hpo.Mnist1d(samples=200), model=hpo.MLP((40, 4, 10)), epochs=1, trials=2, seeds=3,
        tuning_runs=1, baseline="A", configurations=[tuned, hpo.Configuration("B")],
    )  # fmt: skip
    results = hpo.run(study, url, "cpu", reports=tmp_path / "reports")
    assert capsys.readouterr().err.rstrip().endswith("B: 3 of 3 reruns")
    numbers: list[dict[str, Any]] = [
        {"seeds": 4.5},
        {"trials": True},
        {"population": 0},
        {"threads": 0},
        {"workers": 0},
    ]
    for number in numbers:
        with pytest.raises(UsageError, match=next(iter(number))):
            hpo.run(study, url, "cpu", reports=tmp_path / "reports", **number)
    hpo.run(study, url, torch.device("cpu"), seeds=4, reports=tmp_path / "reports", progress=False)
    assert "reruns" not in capsys.readouterr().err
    results, again = hpo.results("small", url, reports=tmp_path / "reports"), hpo.results("small", url, reports="none")
    pd.testing.assert_frame_equal(results.trials, again.trials)
    assert results.report == tmp_path / "reports" / "small" / "README.md" and again.report is None
    assert hpo.results(Path("studies") / "small.py", url).trials.equals(again.trials)
    with pytest.raises(UsageError, match="did you mean 'small'"):
        hpo.results("smal", url)
    with pytest.raises(UsageError, match="no database"):
        hpo.results("small", f"sqlite:///{tmp_path}/other.db")
    words = ["export", "small", "--storage", url, "--format", "json", "--to", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(json.loads((tmp_path / "out" / "best.json").read_text())) == 2
    words = ["export", "small", "--storage", url, "--format", "csv", "--to", str(tmp_path / "csv")]
    assert CliRunner().invoke(app, words).exit_code == 0
    best = CliRunner().invoke(app, ["best", "small", "-c", "B", "--storage", url, "--json"])
    (row,) = results.best[results.best.configuration == "B"].to_dict("records")
    (printed,) = json.loads(best.stdout)
    assert "batch_size" not in printed["setting"] and pd.isna(row["batch_size"])  # only A has it
    of_a = hpo.results("small", url).best.query("configuration == 'A'")["batch_size"]
    assert of_a.tolist() == [16] and of_a.dtype.kind == "i"
    assert (tmp_path / "csv" / "best.csv").read_text().splitlines()[1].endswith(",16")
    fixed = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}  # AdamW's, which no configuration tunes
    assert printed["setting"].items() >= fixed.items() and row.items() >= fixed.items()
    assert printed["score"] == row["score"] and printed["setting"]["learning_rate"] == row["learning_rate"]
    shown = CliRunner().invoke(app, ["best", "small", "--storage", url]).stdout
    assert "learning_rate=" in shown and "beta2=0.999" in shown
    wrong = CliRunner().invoke(app, ["best", "small", "-c", "D", "--storage", url])
    assert isinstance(wrong.exception, UsageError)
