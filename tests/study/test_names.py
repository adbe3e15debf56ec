"""Names of a study's author where they meet hpo's own, or one another."""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from synthetic_record import synthetic_export
from torch import nn

from hpo import Configuration, Regularizer, Study
from hpo.cli.commands.try_once import _finite
from hpo.errors import UsageError
from hpo.report import make_record, write_report
from hpo.study.definition import describe, digest, full_space
from tests.data.test_data_loading import Clouds


@dataclass(frozen=True)
class Kinds(Clouds):
    """Has a field that means something else in a definition."""

    kind: str = "a"
    widths: int = 3
    milestones: int = 4


@dataclass(frozen=True)
class OtherKinds(Kinds):
    """The same fields."""


def network(kind: str = "a", arguments: int = 0) -> nn.Module:
    return nn.Linear(4, 3 + arguments + len(kind))


def study(**changes: Any) -> Study:
    chosen: dict[str, Any] = {
        "data": Clouds(), "model": network, "baseline": "A", "configurations": (Configuration("A"), Configuration("B")),
    }  # fmt: skip
    return Study(**chosen | changes)


def test_a_field_of_a_name_that_definitions_have_is_kept_beside_it() -> None:
    data = describe(study(data=Kinds()))["data"]
    assert data["kind"] == "Kinds" and "a" in data.values()
    studies = [
        study(data=Kinds()), study(data=Kinds(kind="b")), study(data=OtherKinds()),
        study(model=functools.partial(network, kind="b")), study(model=functools.partial(network, arguments=1)),
        study(model=functools.partial(network, "b")), study(model=functools.partial(network)),
    ]  # fmt: skip
    assert len({digest(describe(entry)) for entry in studies}) == len(studies)
    assert describe(study(model=functools.partial(network, kind="b")))["model"]["kind"] == "network"


def test_fields_named_like_those_of_hpos_parts_are_printed(tmp_path: Path) -> None:
    """A width that is one number, a milestone that is none of a schedule."""
    described = describe(study(data=Kinds(kind="x")))["data"]
    export, curves = synthetic_export(data=described)
    text = write_report(make_record(export, curves), tmp_path, "s", []).read_text()
    assert "Kinds, " in text and "kind x" in text and "widths 3" in text and "milestones 4" in text


@pytest.mark.parametrize(
    ("one", "other"), [("A", "A"), ("A B", "A  B"), ("A B", "A\tB"), ("A B", "A\u00a0B"), ("\u00e9", "e\u0301")]
)
def test_configurations_that_look_alike(one: str, other: str) -> None:
    with pytest.raises(UsageError, match="configurations has two entries"):
        study(baseline=one, configurations=(Configuration(one), Configuration(other)))


@pytest.mark.parametrize("other", ["a", "A_", "A-B", "A.B", "A+B"])
def test_configurations_of_other_names(other: str) -> None:
    assert study(configurations=(Configuration("A"), Configuration(other))).configurations[1].name == other


def test_hyperparameters_that_look_alike() -> None:
    def of(*names: str) -> Configuration:
        return Configuration("B", regularizer=Regularizer("mine", lambda *_: None, dict.fromkeys(names, 0.5)))

    for names in (("rho", "rho_"), ("weight__decay",), ("a_b", "a b")):
        with pytest.raises(UsageError, match="look alike"):
            full_space(of(*names))
    assert full_space(of("rho", "rho_prime"))["rho_prime"] == 0.5


def test_a_study_may_not_be_named_like_a_comparison() -> None:
    with pytest.raises(UsageError, match="'compare-a'"):
        dataclasses.replace(study(), name="compare-a")
    assert dataclasses.replace(study(), name="comparison").name == "comparison"


def test_names_of_hyperparameters_meet_no_column(tmp_path: Path) -> None:
    """trials.csv and reruns.csv have columns of their own for what a study's author named."""
    import pandas as pd

    export, curves = synthetic_export()
    for row in export["slots"]:
        if row["setting"]:
            row["setting"] = row["setting"] | {"value": 7.0, "seed": 8.0, "population": 9.0}
    write_report(make_record(export, curves), tmp_path, "s", [])
    for name in ("trials.csv", "reruns.csv"):
        frame = pd.read_csv(tmp_path / name)
        assert frame.columns.is_unique
        assert set(frame["setting/value"]) == {7.0} and set(frame["setting/seed"]) == {8.0}
        assert 7.0 not in set(frame["value"]) and 8.0 not in set(frame["seed"])


def test_what_is_not_finite_is_null_in_json() -> None:
    nan, infinity = float("nan"), float("inf")
    given = {"curves": {"a": [1.0, nan, -infinity]}, "final": {"b": infinity, "c": 2}, "epoch": None}
    found = json.loads(json.dumps(_finite(given), allow_nan=False))
    assert found == {"curves": {"a": [1.0, None, None]}, "final": {"b": None, "c": 2}, "epoch": None}
