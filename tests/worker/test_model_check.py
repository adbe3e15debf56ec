"""Values of a model function's arguments that no network can be built with are refused before any training."""

from typing import Any

import pytest
from torch import nn

from hpo import Configuration, Mnist1d, Study, choice, grid, integers, linear_range
from hpo.errors import UsageError
from hpo.search_space import Entry
from hpo.worker.model_check import check_model_arguments
from hpo.worker.trainer import Trainer


def network(width: int = 16, dropout: float = 0) -> nn.Module:
    return nn.Sequential(nn.Linear(40, width), nn.Dropout(dropout), nn.Linear(width, 10))


def required(width: int) -> nn.Module:
    return network(width)


def broken(width: int = 16) -> nn.Module:
    raise ValueError(f"not at all with {width}")


def attention(heads: int = 4) -> nn.Module:
    nn.MultiheadAttention(64, heads)
    return network()


def trainer(model: Any = network, **space: Entry) -> Trainer:
    arguments = {f"model.{name}": entry for name, entry in space.items()}
    data, configurations = Mnist1d(samples=100), [Configuration(name, space=arguments) for name in "AB"]
    return Trainer(Study(data=data, model=model, configurations=tuple(configurations), baseline="A"), "cpu")


@pytest.mark.parametrize("model", [network, required])
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (linear_range(16, 64), ["model.width=40.0", "integers(16, 64)"]),
        (32.0, ["model.width=32.0", "model.width: 32?"]),
        ("wide", ["model.width='wide'", "choose other values"]),
        (choice(8, -1), ["model.width=-1", "choose other values"]),
    ],
)
def test_a_value_that_no_network_has_is_named(model: Any, entry: Entry, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        trainer(model, width=entry).size()
    assert all(word in str(caught.value) for word in ["'A'", *words])


def test_both_ends_of_a_range_are_tried() -> None:
    with pytest.raises(UsageError, match=r"model\.dropout=1\.5"):
        trainer(dropout=linear_range(0.1, 1.5)).size()
    assert trainer(dropout=linear_range(0.1, 0.5), width=integers(8, 16)).size() > 0


def test_whole_numbers_between_the_ends_are_tried() -> None:
    for high, numbers in ((8, "1, 2, 4, 8"), (5, "1, 2, 4")):  # 3 is in the middle of the second
        with pytest.raises(UsageError, match=rf"heads=3 .*give model\.heads: choice\({numbers}\)"):
            trainer(attention, heads=integers(1, high)).size()
    assert trainer(attention, heads=choice(1, 2, 4, 8)).size() > 0


def test_of_a_grid_only_its_values_are_tried() -> None:
    data, space = Mnist1d(samples=100), {"model.heads": integers(1, 5)}
    study = Study(
        data=data, model=attention, configurations=(Configuration("A"), Configuration("B", space=space)), baseline="A",
        sampler=grid({"model.heads": [1, 2, 4]}),
    )  # fmt: skip
    made = Trainer(study, "cpu")
    assert made.size() > 0 and made.setting_to_try("B", {})["model.heads"] == 2


def test_a_typed_value_is_checked_and_a_broken_function_keeps_its_own_error() -> None:
    recipes = trainer(width=8).recipes
    check_model_arguments(recipes, "A", recipes.setting_to_try("A", {"model.width": 4}))
    with pytest.raises(UsageError, match=r"model\.width='abc'"):
        check_model_arguments(recipes, "A", recipes.setting_to_try("A", {"model.width": "abc"}))
    with pytest.raises(ValueError, match="not at all with 8"):
        trainer(broken, width=8).try_once("A", trainer(broken, width=8).setting_to_try("A", {}), seed=0)
