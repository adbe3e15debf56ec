"""Tables: numbers standardised and categories encoded by the training part of each seed; targets; what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpo import MLP, Configuration, Study, Table
from hpo.data import load_source, split
from hpo.errors import UsageError
from hpo.random import stream
from hpo.study.definition import describe, digest
from hpo.training.loop import train
from hpo.training.recipe import Member
from hpo.training.samples import Samples
from hpo.user_code.messages import warn_once
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def frame(rows: int = 60) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    age = generator.integers(18, 80, rows)
    city = generator.choice(["Bonn", "Köln", "Ulm"], rows)
    city[3] = "Jena"
    hours = 1e6 + 100 * generator.normal(size=rows)
    pay = age * 2.5 + (city == "Ulm") * 30 + generator.normal(size=rows)
    return pd.DataFrame({"age": age, "city": city, "hours": hours, "member": age > 40, "one": 5, "pay": pay})


def csv(folder: Path, table: pd.DataFrame, separator: str = ",") -> str:
    path = folder / "people.csv"
    table.to_csv(path, index=False, sep=separator)
    return str(path)


def rows_of_the_test_set(rows: int) -> np.ndarray:
    """Those of a random fifth, in order."""
    return np.sort(torch.randperm(rows, generator=stream(0, "data", "test")).numpy()[-round(0.2 * rows) :])


def samples_of(data: Table, seeds: list[int]) -> Samples:
    source = load_source(data)
    return Samples(data, source, {seed: split(source, data, seed) for seed in seeds}, seeds, "cpu")


def test_every_seed_scales_by_its_own_training_part(tmp_path: Path) -> None:
    """scikit-learn's scaler on the training rows of the seed, from the raw table."""
    raw = frame()
    data = Table(csv(tmp_path, raw), target="pay", test=0.2)
    names = ["age", "hours", "one", "city=Bonn", "city=Jena", "city=Köln", "city=Ulm", "member=False", "member=True"]
    assert data.columns == names and data.features == 9
    seeds = [0, 1, 2]
    samples, source = samples_of(data, seeds), load_source(data)
    indices = torch.arange(len(source.inputs)).expand(3, -1)
    scaled = samples.views(indices, 1, 1)[:, 0]
    [tests] = samples.read(torch.arange(len(source.test_inputs)).expand(3, -1), 1000, test=True)
    rest = np.setdiff1d(np.arange(60), rows_of_the_test_set(60))
    for row, seed in enumerate(seeds):
        training = rest[split(source, data, seed).training.numpy()]
        scaler = StandardScaler().fit(raw.loc[training, ["age", "hours"]].to_numpy(float))
        for values, rows in ((scaled[row], rest), (tests[row], rows_of_the_test_set(60))):
            expected = scaler.transform(raw.loc[rows, ["age", "hours"]].to_numpy(float))
            np.testing.assert_allclose(values[:, :2].numpy(), expected, atol=2e-3)
            assert not values[:, 2].any(), "a constant tells nothing"
            np.testing.assert_array_equal(values[:, 3].numpy(), raw.loc[rows, "city"] == "Bonn")
        known = bool((raw.loc[training, "city"] == "Jena").any())
        assert scaled[row][:, 4].any() == known, "a category that training does not have is 0"
    assert samples.scaling is not None
    samples.keep([2])
    torch.testing.assert_close(samples.views(indices[:1], 1, 1)[0, 0], scaled[2])


def test_a_linear_network_learns_what_least_squares_finds(tmp_path: Path) -> None:
    data = Table(csv(tmp_path, frame(400)), target="pay")
    configurations = (Configuration("A", optimizer="adam"), Configuration("B"))
    study = Study(data=data, model=MLP((9, 1)), epochs=60, batch_size=32, baseline="A", configurations=configurations)
    trainer = Trainer(study, "cpu")
    recipe = trainer.recipe(study.configurations[0], rerun=True)
    hyper = trainer.recipes.setting_to_try("A", {"learning_rate": 0.02, "weight_decay": 0.0})
    [result] = train(recipe, [Member(0, hyper)], test=True)
    source = load_source(data)
    exact = LinearRegression().fit(source.inputs, source.labels)
    assert result.final["test_r2"] == pytest.approx(exact.score(source.test_inputs, source.test_labels), abs=0.02)
    assert result.final["test_r2"] > 0.95


def test_files_frames_separators_and_parquet_give_the_same_samples(tmp_path: Path) -> None:
    plain = load_source(Table(frame(), target="pay"))
    for separator in ",;\t":
        source = load_source(Table(csv(tmp_path, frame(), separator), target="pay"))
        assert all(torch.allclose(one, other) for one, other in zip(source[:4], plain[:4], strict=True))
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame().to_parquet(tmp_path / "people.parquet")
    source = load_source(Table(tmp_path / "people.parquet", target="pay"))
    assert all(torch.equal(one, other) for one, other in zip(source[:4], plain[:4], strict=True))


def test_a_long_file_has_one_type_in_each_column(tmp_path: Path) -> None:
    """pandas would read the first 2¹⁸ rows of three columns on their own, in which every kind is a number."""
    text = "a,kind,y\n" + "1,0,0\n2,1,1\n" * 2**17 + "1,3+,0\n2,0,1\n" * 5
    (tmp_path / "long.csv").write_text(text)
    test = pd.DataFrame({"a": [1, 2], "kind": ["0", "3+"], "y": [0, 1]})
    data = Table(tmp_path / "long.csv", target="y", test=test)
    assert data.columns == ["a", "kind=0", "kind=1", "kind=3+"]
    assert load_source(data).inputs[:, 1:].sum(0).tolist() == [2**17 + 5, 2**17, 5]
    assert load_source(Table(tmp_path / "long.csv", target="kind", test=test)).test_labels.tolist() == [0, 2]


def test_a_second_file_is_the_test_set(tmp_path: Path) -> None:
    raw = frame()
    path = csv(tmp_path, raw[:50])
    data = Table(path, target="pay", test=raw[50:], exclude=("one",))
    source = load_source(data)
    assert (len(source.labels), len(source.test_labels), data.features) == (50, 10, 8)
    mean, sd = raw[:50]["pay"].mean(), raw[:50]["pay"].std(ddof=0)
    np.testing.assert_allclose(source.test_labels.numpy(), (raw[50:]["pay"] - mean) / sd, rtol=1e-5)
    plain = load_source(Table(path, target="pay", test=raw[50:], scale_target=False))
    np.testing.assert_allclose(plain.test_labels.numpy(), raw[50:]["pay"], rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "task", "outputs"),
    [
        ("city", "classification", 3),
        ("member", "classification", 2),
        ("few", "classification", 4),
        ("age", "regression", 1),
        ("pay", "regression", 1),
        (("age", "pay"), "regression", 2),
        (("flag", "mark"), "multilabel", 2),
    ],
)
def test_the_column_suggests_the_task(target: Any, task: str, outputs: int) -> None:
    raw = frame().drop(index=3).assign(few=np.arange(59) % 4, flag=np.arange(59) % 2, mark=np.arange(59) % 3 // 2)
    data = Table(raw, target=target)
    assert (data.task, data.outputs) == (task, outputs)
    described = describe(
        Study(
            data=data, model=MLP((data.features, data.outputs)), baseline="A", batch_size=8,
            configurations=(Configuration("A"), Configuration("B")),
        )
    )  # fmt: skip
    assert described["data"]["target"] == (target if isinstance(target, str) else list(target))


def test_the_content_of_the_file_is_part_of_the_definition_and_its_folder_is_not(tmp_path: Path) -> None:
    def definition(data: Table) -> str:
        configurations = (Configuration("A"), Configuration("B"))
        return digest(describe(Study(data=data, model=MLP((9, 1)), baseline="A", configurations=configurations)))

    plain = definition(Table(csv(tmp_path, frame()), target="pay"))
    (tmp_path / "elsewhere").mkdir()
    assert definition(Table(csv(tmp_path / "elsewhere", frame()), target="pay")) == plain
    assert definition(Table(csv(tmp_path, frame(61)), target="pay")) != plain
    assert definition(Table(csv(tmp_path, frame()), target="pay", test=0.3)) != plain


def gaps() -> pd.DataFrame:
    table = frame()
    table.loc[[2, 5], "hours"] = np.nan
    return table


@pytest.mark.parametrize("types", [{}, {"age": "Int64", "city": "string", "member": "boolean"}])
def test_missing_cells_are_filled_by_the_training_part_of_each_seed(types: dict[str, str]) -> None:
    """scikit-learn's scaler and imputer, fitted on the training rows of the seed."""
    raw = frame(80).astype({"member": object, "age": float})
    generator = np.random.default_rng(1)
    for name in ("age", "hours", "city", "member"):
        raw.loc[generator.random(80) < 0.3, name] = None
    data = Table(raw.astype(types), target="pay", missing="mean")
    assert data.columns[:3] == ["age", "hours", "one"]
    assert [name for name in data.columns if "missing" in name] == ["city=missing", "member=missing"]
    seeds, source = [0, 1, 2], load_source(data)
    samples, rest = samples_of(data, seeds), np.setdiff1d(np.arange(80), rows_of_the_test_set(80))
    scaled = samples.views(torch.arange(len(rest)).expand(3, -1), 1, 1)[:, 0]
    [tests] = samples.read(torch.arange(len(source.test_inputs)).expand(3, -1), 1000, test=True)
    for row, seed in enumerate(seeds):
        training = rest[split(source, data, seed).training.numpy()]
        fill = make_pipeline(StandardScaler(), SimpleImputer()).fit(raw.loc[training, ["age", "hours"]].to_numpy(float))
        for values, rows in ((scaled[row], rest), (tests[row], rows_of_the_test_set(80))):
            expected = fill.transform(raw.loc[rows, ["age", "hours"]].to_numpy(float))
            np.testing.assert_allclose(values[:, :2].numpy(), expected, atol=2e-3)
            for name in ("city", "member"):
                cells = values[:, data.columns.index(f"{name}=missing")]
                np.testing.assert_array_equal(cells.numpy(), raw.loc[rows, name].isna())
    assert not torch.equal(scaled[0, :, 0], scaled[1, :, 0])


def test_filled_tables_train_and_are_other_data_than_complete_ones() -> None:
    raw = gaps().assign(test_only=1.0)
    test = gaps().assign(test_only=None, city=None)
    data = Table(raw, target="pay", test=test, missing="mean")
    assert "city=missing" not in data.columns, "it occurs in the test set only"
    configurations = (Configuration("A"), Configuration("B"))
    study = Study(data=data, model=MLP((10, 8, 1)), epochs=2, batch_size=8, baseline="A", configurations=configurations)
    assert describe(study)["data"]["missing"] == "mean"
    trainer = Trainer(study, "cpu")
    [result] = train(
        trainer.recipe(study.configurations[0], rerun=True),
        [Member(0, trainer.recipes.setting_to_try("A", {}))],
        test=True,
    )
    assert np.isfinite(result.final["test_r2"])
    complete = Table(frame(), target="pay", missing="mean")
    assert all(
        torch.equal(one, other)
        for one, other in zip(load_source(complete)[:4], load_source(Table(frame(), target="pay"))[:4], strict=True)
    )


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (frame(), {"target": "payy"}, "target names the column 'payy'; the columns are age, .*did you mean 'pay'"),
    (frame(), {"target": "pay", "exclude": ("id",)}, "exclude names the column 'id'"),
    (gaps(), {"target": "pay"}, r"'hours' has 2 missing values in 60 rows; give missing='mean'.*exclude=\('hours',\)"),
    (gaps(), {"target": "hours", "missing": "mean"}, "'hours' has 2 missing values .* the target; drop these rows"),
    (gaps(), {"target": "pay", "missing": "median"}, "missing is 'median'; give 'mean'"),
    (frame().assign(hours=None), {"target": "pay", "missing": "mean"}, "'hours' has no values"),
    (frame(), {"target": "city", "task": "regression"}, "the task is regression, and the target 'city' is no number"),
    (frame(), {"target": ("pay", "city")}, "several targets need to be numbers, and 'city' is a category"),
    (frame().assign(y=[0.0, 1.0] * 30), {"target": "y"}, "'y' is float64 with the values 0 and 1 only; give task="),
    (frame().assign(pay=np.inf), {"target": "pay"}, "the target 'pay' has infinite values"),
    (frame(), {}, "target is missing; give .* age, city, hours"),
    (frame(), {"target": 3}, "target is 3; give"),
    (frame(), {"target": "pay", "test": frame().drop(columns="age")}, "test table has no column 'age'"),
    (frame().set_axis(["a", "b", "b", "c", "d", "pay"], axis=1), {"target": "pay"}, "two columns are named 'b'"),
    (np.zeros((4, 2)), {"target": "pay"}, "a ndarray is no table; give the path"),
    ({"pay": [1]}, {"target": "pay"}, "a dict is no table"),
    (gaps().assign(age=None), {"target": "pay"}, r"'age' has 60 missing values, 'hours' has 2 in 60 rows"),
    (frame().assign(when=pd.Timestamp("2020-01-01")), {"target": "pay"}, "'when' has the type datetime64"),
    (frame(300).assign(id=[f"p{i}" for i in range(300)]), {"target": "pay"}, "'id' has 240 different texts"),
    (frame().assign(hours=np.inf), {"target": "pay"}, "'hours' has infinite values"),
    (frame()[["pay"]], {"target": "pay"}, "no column is left"),
    (frame()[:0], {"target": "pay"}, "there are no rows"),
    ("nowhere.csv", {"target": "pay"}, "there is no file 'nowhere.csv'"),
    (frame(), {"target": "city", "test": frame().assign(city="Rom")}, "'city' is 'Rom' only in the test rows"),
    (frame(), {"target": "pay", "test": 2.0}, "test is 2.0; give a fraction"),
    (frame().assign(city=[0, "1"] * 30), {"target": "city"}, "the target 'city' has both numbers and texts"),
    (frame().assign(city=[0, "0"] * 30), {"target": "pay"}, "column 'city' has both 0 and '0'"),
    (frame(), {"target": "pay", "test": frame().assign(pay="much")}, "'pay' is a number, but not in the test rows"),
]


@pytest.mark.parametrize(("file", "changes", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_unusable_tables_are_refused_in_one_sentence(file: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Table(file, **changes)
    assert "\n" not in str(caught.value)


def test_a_float_target_of_zeros_and_ones_is_what_its_task_says() -> None:
    raw = frame().assign(y=[0.0, 1.0] * 30)
    outputs = [Table(raw, target="y", task=task).outputs for task in ("classification", "regression")]
    assert outputs == [2, 1]


def test_a_column_that_identifies_rows_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    Table(frame().assign(id=[f"p{i}" for i in range(60)]), target="pay")
    [text] = [record.getMessage() for record in caplog.records]
    assert "'id'" in text and "48 different texts in 48 rows" in text and "exclude=('id',)" in text
    caplog.clear()
    Table(frame(), target="pay")
    assert not caplog.records


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    (tmp_path / "a.csv").write_text('x,y\n1,2\n"3,4\n5,6,7\n')
    for name in ("a.csv",) if not _has_pyarrow() else ("a.csv", "a.parquet"):
        with pytest.raises(UsageError, match=r"cannot be read \(.*give a CSV or Parquet file"):
            Table(tmp_path / name, target="y")


def _has_pyarrow() -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True
