"""Names that a study's author chooses where they meet hpo's names, or each other."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_record import synthetic_export
from torch import nn

from hpo import Configuration, Regularizer, Study
from hpo.cli.commands.try_once import _finite
from hpo.errors import UsageError
from hpo.report import make_record, write_report
from hpo.study.components import full_space
from hpo.study.definition import describe, digest
from tests.data.test_data_loading import Clouds


@dataclass(frozen=True)
class Kinds(Clouds):
    """Has fields that mean something else in a definition."""

    kind: str = "a"
    widths: int = 3
    milestones: int = 4


@dataclass(frozen=True)
class OtherKinds(Kinds):
    """The same fields."""


def network(kind: str = "a", arguments: int = 0) -> nn.Module:
    return nn.Linear(4, 3 + arguments + len(kind))


def study(**changes: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B"))
    fields = {"data": Clouds(), "model": network, "baseline": "A", "configurations": configurations}
    return Study(**(fields | changes))


def test_a_field_with_the_name_of_a_key_is_kept_under_another_key() -> None:
    data = describe(study(data=Kinds()))["data"]
    assert data["kind"] == "Kinds" and "a" in data.values()
    models = [functools.partial(network, **fields) for fields in ({"kind": "b"}, {"arguments": 1}, {})]
    studies = [study(data=entry) for entry in (Kinds(), Kinds(kind="b"), OtherKinds())]
    studies += [study(model=model) for model in (*models, functools.partial(network, "b"))]
    assert len({digest(describe(entry)) for entry in studies}) == len(studies)
    assert describe(study(model=models[0]))["model"]["kind"] == "network"


def test_the_fields_and_hyperparameters_of_an_author_do_not_confuse_a_report(tmp_path: Path) -> None:
    """A width that is one number, milestones without a schedule, settings with the names of columns."""
    export, curves = synthetic_export(data=describe(study(data=Kinds(kind="x")))["data"])
    for row in export["slots"]:
        if row["setting"]:
            row["setting"] = row["setting"] | {"value": 7.0, "seed": 8.0, "population": 9.0}
    text = write_report(make_record(export, curves), tmp_path, "s", []).read_text()
    assert [words for words in ("Kinds, ", "kind x", "widths 3", "milestones 4") if words not in text] == []
    for name in ("trials.csv", "reruns.csv"):
        frame = pd.read_csv(tmp_path / name)
        assert frame.columns.is_unique
        assert set(frame["setting/value"]) == {7.0} and set(frame["setting/seed"]) == {8.0}
        assert 7.0 not in set(frame["value"]) and 8.0 not in set(frame["seed"])


@pytest.mark.parametrize(
    ("one", "other"), [("A", "A"), ("A B", "A  B"), ("A B", "A\tB"), ("A B", "A\u00a0B"), ("\u00e9", "e\u0301")]
)
def test_configurations_that_look_alike(one: str, other: str) -> None:
    with pytest.raises(UsageError, match="configurations has two entries"):
        study(baseline=one, configurations=(Configuration(one), Configuration(other)))


@pytest.mark.parametrize("other", ["a", "A_", "A-B", "A.B", "A+B"])
def test_names_that_are_allowed(other: str) -> None:
    configurations = (Configuration("A"), Configuration(other))
    assert study(configurations=configurations, name="comparison").configurations == configurations


def test_hyperparameters_that_look_alike() -> None:
    def space(*names: str) -> dict[str, Any]:
        regularizer = Regularizer("mine", lambda *_: None, dict.fromkeys(names, 0.5))
        return full_space(Configuration("B", regularizer=regularizer))

    for names in (("rho", "rho_"), ("weight__decay",), ("a_b", "a b")):
        with pytest.raises(UsageError, match="look alike"):
            space(*names)
    assert space("rho", "rho_prime")["rho_prime"] == 0.5


def test_what_is_not_finite_is_null_in_json() -> None:
    nan, infinity = float("nan"), float("inf")
    given = {"curves": {"a": [1.0, nan, -infinity]}, "final": {"b": infinity, "c": 2}, "epoch": None}
    actual = json.loads(json.dumps(_finite(given), allow_nan=False))
    assert actual == {"curves": {"a": [1.0, None, None]}, "final": {"b": None, "c": 2}, "epoch": None}
