"""Integers, choices, conditions and training hyperparameters in a definition, and what is refused."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import hpo
from hpo import MLP, Configuration, Cosine, Mnist1d, Regularizer, Study, choice, integers, linear_range, log_range, when
from hpo.errors import UsageError
from hpo.models import CharLM
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import Choice, Entry
from hpo.space import as_json, from_json, split_space
from hpo.study.components import full_space, static_names
from hpo.study.definition import describe, digest
from hpo.study.fingerprint import fingerprint
from hpo.study.training_space import training_names, with_training

PLAIN = REGULARIZERS["none"].grads
RANKED = Regularizer(
    "ranked",
    PLAIN,
    {
        "rank": integers(1, 8),
        "kind": choice("svd", "random"),
        "strength": when("kind", "svd", log_range(0.01, 1), otherwise=0.0),
        "signed": True,
    },
    static=("rank", "kind"),
)


def network(width: int = 16, depth: int = 1) -> nn.Module:
    return MLP((40, *[width] * depth, 10))()


def configuration(regularizer: Any = RANKED, **space: Any) -> Configuration:
    return Configuration("B", regularizer=regularizer, space={name.replace("__", "."): v for name, v in space.items()})


def study(*configurations: Configuration, **changes: Any) -> Study:
    fields: dict[str, Any] = {"data": Mnist1d(samples=100), "model": network, "baseline": "A", "epochs": 2}
    return Study(**(fields | {"configurations": (Configuration("A"), *configurations)} | changes))


@pytest.mark.parametrize(
    "entry",
    [
        log_range(1e-4, 1), integers(1, 64, log=True, off="low"), choice(32, 64, 128), choice(True, False),
        choice("a", "b", None), choice(0.5, 1), when("kind", ("a", "b"), choice(1, 2), otherwise=None),
        *(3, "a", None, True),
    ],
)  # fmt: skip
def test_every_entry_survives_json_with_the_types_of_its_values(entry: Entry) -> None:
    read = from_json(json.loads(json.dumps(as_json(entry))))
    assert read == entry and repr(read) == repr(entry)


def test_a_definition_holds_all_kinds_and_old_ranges_as_before() -> None:
    space = describe(study(configuration(batch_size=choice(16, 32), model__width=64)))["configurations"][1]["space"]
    assert space["learning_rate"] == {"low": 1e-4, "high": 1e-2, "log": True, "off": None}
    assert space["rank"] == {"low": 1, "high": 8, "log": False, "off": None, "integer": True}
    assert space["kind"] == {"choices": ["svd", "random"]}
    assert space["strength"]["when"] == "kind" and space["strength"]["otherwise"] == 0.0
    assert (space["batch_size"], space["model.width"]) == ({"choices": [16, 32]}, 64)
    assert space["signed"] is True and isinstance(space["model.width"], int)


def test_which_hyperparameters_are_static() -> None:
    names = static_names(configuration(batch_size=32, dropout=0.1, model__width=choice(8, 16), signed=False))
    assert names == {"rank", "kind", "batch_size", "model.dropout", "model.width"}


def test_a_condition_on_a_fixed_hyperparameter_is_decided() -> None:
    assert full_space(configuration(kind="svd"))["strength"] == log_range(0.01, 1)
    assert full_space(configuration(kind="random"))["strength"] == 0.0
    strength = when("kind", "svd", linear_range(0, 1), otherwise=0.5)
    assert full_space(configuration(strength=strength))["strength"] == strength


def test_a_complete_setting_has_every_hyperparameter() -> None:
    space = split_space(full_space(configuration(batch_size=32)))
    present = {"learning_rate": 0.1, "weight_decay": 0.0, "rank": 2}
    with_svd = space.complete({**present, "kind": "svd", "strength": 0.3})
    assert (with_svd["strength"], with_svd["batch_size"], with_svd["beta1"]) == (0.3, 32, 0.9)
    assert space.complete({**present, "kind": "random"})["strength"] == 0.0
    assert space.exists("strength", {"kind": "svd"}) and not space.exists("strength", {"kind": "random"})


def test_training_hyperparameters_change_the_study() -> None:
    base = study(configuration(), schedule=Cosine())
    changed = with_training(base, {"batch_size": 8, "label_smoothing": 0.1, "schedule.warmup_epochs": 1})
    assert (changed.batch_size, changed.label_smoothing, changed.schedule) == (8, 0.1, Cosine(warmup_epochs=1))
    module = with_training(base, {"model.width": 7, "model.depth": 2}).model()
    assert [tuple(leaf.shape) for leaf in module.parameters() if leaf.dim() == 2] == [(7, 40), (7, 7), (10, 7)]
    built_in = dataclasses.replace(base, model=MLP((40, 8, 10)))
    assert with_training(built_in, {"model.dropout": 0.25}).model == MLP((40, 8, 10), dropout=0.25)
    assert with_training(base, {}) is base
    assert {"batch_size", "label_smoothing", "model.width", "model.depth", "schedule.warmup_epochs"} <= {
        *training_names(base)
    }


WRONG: dict[str, Callable[[], Any]] = {
    "choice() needs two": lambda: choice(),
    "choice(1) needs two": lambda: choice(1),
    "write choice(1, 2)": lambda: choice([1, 2]),  # type: ignore[arg-type]
    "choice(1, (2,)) has (2,)": lambda: choice(1, (2,)),  # type: ignore[arg-type]
    "choice(0.1, nan) has nan": lambda: choice(0.1, float("nan")),
    "equal values": lambda: choice(1, True),
    "the bound 1.5": lambda: integers(1, 1.5),  # type: ignore[arg-type]
    "the bound True": lambda: integers(True, 3),
    "2–2 has low ≥ high": lambda: integers(2, 2),
    "0–3 touches 0": lambda: integers(0, 3, log=True),
    "has 3; give log_range": lambda: when("kind", "a", 3),  # type: ignore[arg-type]
    "otherwise=[]": lambda: when("kind", "a", choice(1, 2), otherwise=[]),
    "'B': kind is 'a'; give a number": lambda: full_space(
        configuration(Regularizer("r", PLAIN, {"kind": 0.1}), kind=choice("a", "b"))
    ),
    "rank is True; give a number": lambda: full_space(
        configuration(Regularizer("r", PLAIN, {"rank": integers(1, 2)}), rank=True)
    ),
    "signed is 2; give True or False": lambda: full_space(configuration(signed=2)),
    "depends on 'knd'": lambda: full_space(configuration(strength=when("knd", "svd", log_range(1, 2)))),
    "depends on kind = 'qr'": lambda: full_space(configuration(strength=when("kind", "qr", choice(1, 2), otherwise=0))),
    "give when(…, otherwise=…)": lambda: full_space(configuration(strength=when("kind", "svd", log_range(1, 2)))),
    "look alike": lambda: full_space(configuration(Regularizer("r", PLAIN, {"model width": 1.0}), model__width=8)),
    "space names 'batchsize'": lambda: full_space(configuration(batchsize=8)),
    "accumulate, dropout, model.ARGUMENT, schedule.ARGUMENT; did you mean 'accumulate'": lambda: full_space(
        configuration(acumulate=2)
    ),
    "accumulate, model.width, model.depth": lambda: describe(study(configuration(width=8))),
    "did you mean 'model.width'": lambda: describe(study(configuration(width=8))),
    "did you mean 'model.depth'": lambda: describe(study(configuration(dpth=8))),
    "did you mean 'schedule.warmup_epochs'": lambda: describe(
        study(configuration(warmup_epoch=1), schedule=Cosine(warmup_epochs=1))
    ),
    "has no argument 'wdth' for model.wdth; it has width, depth; did you mean 'width'": lambda: describe(
        study(configuration(model__wdth=8))
    ),
    "give choice(32, 64) or integers(20, 100)": (
        lambda: describe(study(configuration(batch_size=linear_range(20, 100))))
    ),
    "give choice(1, 2, 4) or integers(1, 4, log=True)": (
        lambda: describe(study(configuration(accumulate=log_range(1, 4))))
    ),
    "whole numbers; give integers(17, 30)": (
        lambda: describe(study(configuration(batch_size=when("kind", "svd", linear_range(16.5, 30), 16))))
    ),
    "label_smoothing is 1": lambda: describe(study(configuration(label_smoothing=choice(0, 1)))),
    "schedule: warmup_epochs is -1": lambda: describe(study(configuration(schedule__warmup_epochs=-1))),
    "has no argument 'dropout'": lambda: describe(study(configuration(dropout=0.1))),
    "epochs is a field of Study": lambda: full_space(configuration(epochs=integers(1, 9))),
    "did you mean 'learning_rate'": lambda: full_space(configuration(lr=0.1)),
    "model.dropout is given twice, also as dropout": lambda: describe(
        study(configuration(model__dropout=0.1, dropout=0.2), model=MLP((40, 8, 10)))
    ),
    "configuration 'A': the model function takes 'width'": lambda: describe(
        study(configuration(model__width=8), model=lambda width: network(width))
    ),
}  # fmt: skip


@pytest.mark.parametrize("named", WRONG)
def test_a_wrong_space_is_refused_in_one_sentence(named: str) -> None:
    with pytest.raises(UsageError) as caught:
        WRONG[named]()
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_short_name_is_the_full_one_everywhere() -> None:
    def described(name: str) -> Any:
        rate = when(name, 0.2, log_range(0.01, 0.1), otherwise=0.02)
        space = {name: choice(0.0, 0.2), "learning_rate": rate, "weight_decay": 0.0}
        first = Configuration("B", space=space, first=[{name: 0.2}])
        grid = study(
            Configuration("B", space={name: choice(0.0, 0.2)}),
            sampler=hpo.grid({name: [0.2], "learning_rate": [0.01], "weight_decay": [0.01]}),
            model=MLP((40, 8, 10)),
        )
        return describe(study(first, model=MLP((40, 8, 10)))), describe(grid)

    assert described("dropout") == described("model.dropout")
    assert described("dropout")[0]["configurations"][1]["first"] == [{"model.dropout": 0.2}]
    assert described("dropout")[1]["sampler"]["grid"]["model.dropout"] == [0.2]


def test_choices_and_static_names_are_part_of_what_is_compared() -> None:
    one, other = (study(configuration(batch_size=entry)) for entry in (choice(16, 32), choice(16, 64)))
    assert digest(describe(one)) != digest(describe(other))
    numbers = {"rank": Choice((1, 2))}
    plain = study(configuration(Regularizer("r", PLAIN, numbers)))
    static = study(configuration(Regularizer("r", PLAIN, numbers, static=("rank",))))
    assert fingerprint(plain) != fingerprint(static)


LANGUAGE = {"model": CharLM(width=64)}


@pytest.mark.parametrize(
    ("space", "changes", "proposed"),
    [
        ({"batch_size": integers(16, 64)}, {"accumulate": 4, "batch_size": 64}, "batch_size: choice(16, 32, 64)"),
        ({"accumulate": integers(1, 4)}, {"batch_size": 64}, "accumulate: choice(1, 2, 4)"),
        ({"accumulate": 3, "batch_size": integers(30, 40)}, {}, "batch_size: choice(30, 33, 36, 39)"),
        ({"model__heads": integers(1, 8)}, LANGUAGE, "model.heads: choice(1, 2, 4, 8)"),
        ({"model__width": 96, "model__heads": integers(1, 8)}, LANGUAGE, "model.heads: choice(1, 2, 4, 8)"),
    ],
)
def test_whole_numbers_between_the_ends_are_checked(
    space: dict[str, Any], changes: dict[str, Any], proposed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        describe(study(configuration(**space), **changes))
    assert str(caught.value).endswith(f"or give {proposed}") and "\n" not in str(caught.value)
    name, _, written = proposed.partition(": ")
    fitting = {name.replace(".", "__"): eval(written)}
    describe(study(configuration(**space | fitting), **changes))


def test_of_a_grid_only_its_values_are_checked() -> None:
    def described(*values: int) -> dict[str, Any]:
        tuned = configuration(REGULARIZERS["none"], batch_size=integers(16, 64))
        space = {"learning_rate": 1e-3, "weight_decay": 0.0}
        entries = tuple(dataclasses.replace(each, space=each.space | space) for each in (Configuration("A"), tuned))
        return describe(
            study(configurations=entries, accumulate=4, batch_size=64, sampler=hpo.grid({"batch_size": [*values]}))
        )

    assert described(16, 32, 64)["sampler"] == {"grid": {"batch_size": [16, 32, 64]}}
    with pytest.raises(UsageError, match="batch_size is 18"):
        described(16, 18)


def test_impossible_combinations_are_not_counted() -> None:
    """Of 5²⁴ combinations all but 4²⁴ + 1 are impossible; where the first choice is made, only one is left."""

    def wide(**_: Any) -> nn.Module:
        return network()

    counts = {f"model.n{number}": when("model.kind", "b", choice(1, 2, 3, 4), otherwise=0) for number in range(24)}
    described = describe(study(Configuration("B", space={"model.kind": choice("a", "b"), **counts}), model=wide))
    assert counts.keys() <= described["configurations"][1]["space"].keys()


def test_each_of_too_many_values_is_checked() -> None:
    many = {"model__width": choice(*range(64, 2048, 64)), "model__blocks": choice(*range(1, 64))}
    with pytest.raises(UsageError, match="heads is 3"):
        describe(study(configuration(**many, model__heads=choice(1, 2, 3)), **LANGUAGE))
    last = {"model__width": choice(*range(64, 2048, 64), 2047)}
    with pytest.raises(UsageError, match="width 2047"):
        describe(study(configuration(**many | last, model__heads=2), **LANGUAGE))


def test_the_arguments_of_a_network_are_checked_together() -> None:
    """3 divides 96 and not the 64 of the study; where it is under a condition, only that one has it."""
    describe(study(configuration(model__width=96, model__heads=integers(1, 4)), **LANGUAGE))
    heads = when("model.width", 96, choice(3, 6), otherwise=8)
    describe(study(configuration(model__width=choice(64, 96), model__heads=heads), **LANGUAGE))
    with pytest.raises(UsageError, match="heads is 3"):
        describe(study(configuration(model__width=choice(96, 64), model__heads=choice(3, 6)), **LANGUAGE))


def test_fields_are_checked_together() -> None:
    """24 is no multiple of the study's 8 micro-batches but of this configuration's 3."""
    describe(study(configuration(batch_size=choice(24, 48), accumulate=3), batch_size=64, accumulate=8))
    with pytest.raises(UsageError, match="configuration 'B': batch_size is 32, which accumulate=3"):
        describe(study(configuration(batch_size=choice(24, 32), accumulate=choice(1, 3))))
