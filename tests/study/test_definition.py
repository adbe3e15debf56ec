"""What a study may say, and what its definition makes of it."""

import dataclasses
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from hpo import MLP, Configuration, Constant, Cosine, Dataset, Mnist1d, Regularizer, Source, Study
from hpo.errors import UsageError
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import linear_range, log_range
from hpo.study.definition import describe, digest, full_space

BASELINE = Configuration("AdamW", space={"weight_decay": 0.0})
RIVAL = Configuration("GNVR", regularizer="gnvr", prediction="better")


def study(**changes: Any) -> Study:
    fields = {"data": Mnist1d(samples=100), "model": MLP((40, 8, 10)), "configurations": (BASELINE, RIVAL)}
    return Study(**(fields | {"baseline": "AdamW", "batch_size": 16, "epochs": 2} | changes))


def rival(**changes: Any) -> Study:
    return study(configurations=(BASELINE, dataclasses.replace(RIVAL, **changes)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: study(configurations=(BASELINE,)), "fewer than two entries; a comparison needs a baseline and a"),
        (lambda: study(configurations=(BASELINE, BASELINE)), "two entries named 'AdamW'; rename one of them"),
        (lambda: study(baseline="SGD"), "baseline is 'SGD'; name one of the configurations: AdamW, GNVR"),
        (lambda: study(baseline=""), "baseline is ''; name one of the configurations: AdamW, GNVR"),
        (lambda: study(configurations=(BASELINE, "gnvr")), "holds 'gnvr'; every entry is an hpo.Configuration"),
        (lambda: study(epochs=0), "epochs is 0; give a whole number of at least 1"),
        (lambda: study(batch_size=1.5), "batch_size is 1.5; give a whole number of at least 1"),
        (lambda: study(trials=True), "trials is True; give a whole number of at least 1"),
        (lambda: study(tuning_epochs=-1), "tuning_epochs is -1; give a whole number of at least 1"),
        (lambda: study(score_epoch="first"), "score_epoch is 'first'; give 'last' or 'best'"),
        (lambda: study(margin=0), "margin is 0; give a number above 0"),
        (lambda: study(margin=float("nan")), "margin is nan; give a number above 0"),
        (lambda: study(name="a/b"), "name is 'a/b'; use letters, digits"),
        (lambda: study(model="MLP"), r"model is no function; give hpo.MLP\(...\) or a function"),
        (lambda: study(data=[1, 2]), r"data has no load\(\); give hpo.Mnist1d\(...\)"),
        (lambda: rival(name="a/b"), "configuration 'a/b': a name needs .* no '/'"),
        (lambda: rival(name=" GNVR"), "configuration ' GNVR': a name needs"),
        (lambda: rival(trials=0), "configuration 'GNVR': trials is 0; give a whole number of at least 1"),
        (lambda: rival(prediction="best"), "configuration 'GNVR': prediction is 'best'; give 'better', 'worse'"),
        (lambda: rival(space={"lambda": "0.1"}), r"configuration 'GNVR': space\['lambda'\] is '0.1'; give log_range"),
        (lambda: rival(space={"lambda": float("nan")}), r"space\['lambda'\] is nan; give .* or a finite number"),
        (lambda: rival(space={"lambda": True}), r"space\['lambda'\] is True"),
        (lambda: MLP((40,)), r"MLP: widths is \(40,\); give at least two whole numbers of at least 1"),
        (lambda: MLP((40, 0, 10)), r"MLP: widths is \(40, 0, 10\)"),
    ],
)
def test_a_wrong_study_is_refused_when_it_is_written(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: rival(space={"lamda": 0.1}),
            "configuration 'GNVR': space names 'lamda', which neither optimizer 'adamw' nor regularizer 'gnvr' has; "
            "choose from learning_rate, weight_decay, beta1, beta2, epsilon, lambda",
        ),
        (lambda: rival(regularizer="sam2"), "configuration 'GNVR': regularizer is 'sam2'; give an hpo.Regularizer or"),
        (lambda: rival(optimizer="lion"), "configuration 'GNVR': optimizer is 'lion'; .* one of sgd, nesterov, adam"),
        (
            lambda: rival(regularizer=Regularizer("mine", REGULARIZERS["none"].grads, {"weight_decay": 0.1})),
            "optimizer 'adamw' and regularizer 'mine' both have 'weight_decay'; rename the regularizer's",
        ),
        (lambda: study(data=Clouds(sizes=(torch.ones(1),))), "Clouds: a field is not a plain value"),
    ],
)
def test_a_wrong_study_is_refused_when_it_is_described(make: Callable[[], Study], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        describe(make())
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Clouds(Dataset):
    """A data set of somebody's own."""

    sizes: tuple = (1, 2)

    def load(self) -> Source:
        zeros, labels = torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64)
        return Source(zeros, labels, zeros, labels, 2)


@dataclass(frozen=True)
class Mistaken(Clouds):
    """One whose classes are mistaken for each other, kept in a folder of this machine's."""

    confusions = {0: 1}  # noqa: RUF012
    folder: str | None = field(default=None, metadata={"described": False})


class OnlyLoads:
    def load(self) -> None: ...


def test_data_that_has_no_noise_and_split_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match=r"OnlyLoads has no label_noise; make it a subclass of hpo.Dataset"):
        study(data=OnlyLoads())
    half = type("Half", (OnlyLoads,), {"label_noise": 0.0, "noise": "symmetric", "validation": 0.2, "split": "last"})
    with pytest.raises(UsageError, match=r"Half has no augment; make it a subclass of hpo.Dataset"):
        study(data=half())


def test_a_study_is_frozen() -> None:
    for frozen in (study(), BASELINE, Mnist1d(), MLP(), log_range(1, 2)):
        name = dataclasses.fields(frozen)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, name, None)


def test_the_definition_in_full() -> None:
    described = describe(study(score="validation_loss", schedule=Cosine(1.0), tuning_epochs=1))
    assert described == json.loads(json.dumps(described))
    learning_rate = {"low": 1e-4, "high": 1e-2, "log": True, "off": None}
    decay = {"low": 1e-6, "high": 1e-1, "log": True, "off": None}
    betas = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    penalty = {"lambda": {"low": 1e-3, "high": 10.0, "log": True, "off": "low"}}
    rows = [
        ("AdamW", "none", None, {"learning_rate": learning_rate, "weight_decay": 0.0, **betas}),
        ("GNVR", "gnvr", "better", {"learning_rate": learning_rate, "weight_decay": decay, **betas, **penalty}),
    ]
    assert described == {
        "data": {
            "kind": "Mnist1d",
            "label_noise": 0.0,
            "validation": 0.2,
            "split": "random",
            "samples": 100,
            "generator_seed": 42,
            "augmented": False,
        },
        "model": {"kind": "MLP", "widths": [40, 8, 10]},
        "batch_size": 16,
        "epochs": 2,
        "tuning_epochs": 1,
        "score": "validation_loss",
        "direction": "minimize",
        "score_epoch": "last",
        "schedule": {"kind": "Cosine", "warmup_epochs": 1.0},
        "margin": 0.01,
        "baseline": "AdamW",
        "configurations": [
            {
                "name": name,
                "optimizer": "adamw",
                "regularizer": regularizer,
                "trials": None,
                "prediction": prediction,
                "space": space,
            }
            for name, regularizer, prediction, space in rows
        ],
    }


def test_what_is_left_out_is_filled_in() -> None:
    described = describe(study())
    assert described["tuning_epochs"] == 2
    assert described["schedule"] == {"kind": "Constant", "warmup_epochs": 0.0}
    assert described["direction"] == "maximize"
    assert describe(study(schedule=Constant(), tuning_epochs=2)) == described


def test_a_range_keeps_the_end_at_which_the_method_is_off() -> None:
    """An own range over a hyperparameter of a known method knows where that method is off; an own end stands."""
    space = full_space(dataclasses.replace(RIVAL, space={"lambda": log_range(0.1, 1)}))
    assert space["lambda"] == log_range(0.1, 1, off="low")
    space = full_space(dataclasses.replace(RIVAL, space={"lambda": linear_range(0.1, 1, off="high")}))
    assert space["lambda"] == linear_range(0.1, 1, off="high")
    assert full_space(dataclasses.replace(RIVAL, space={"lambda": 0.1}))["lambda"] == 0.1


CHANGES: dict[str, Callable[[], Study]] = {
    "samples": lambda: study(data=Mnist1d(samples=110)),
    "label noise": lambda: study(data=Mnist1d(samples=100, label_noise=0.1)),
    "kind of noise": lambda: study(data=Mistaken(label_noise=0.1, noise="asymmetric")),
    "the same kind": lambda: study(data=Mistaken(label_noise=0.1)),
    "augmented": lambda: study(data=Mnist1d(samples=100, augmented=True)),
    "shift": lambda: study(data=Mnist1d(samples=100, augmented=True, shift=3)),
    "split": lambda: study(data=Mnist1d(samples=100, split="last")),
    "data set": lambda: study(data=Clouds()),
    "widths": lambda: study(model=MLP((40, 9, 10))),
    "network": lambda: study(model=nn.Identity),
    "batch size": lambda: study(batch_size=17),
    "epochs": lambda: study(epochs=3, tuning_epochs=2),
    "tuning epochs": lambda: study(tuning_epochs=1),
    "score": lambda: study(score="validation_loss"),
    "score epoch": lambda: study(score_epoch="best"),
    "schedule": lambda: study(schedule=Cosine()),
    "warm-up": lambda: study(schedule=Constant(1)),
    "margin": lambda: study(margin=0.02),
    "baseline": lambda: study(baseline="GNVR"),
    "one more": lambda: study(configurations=(BASELINE, RIVAL, Configuration("SGD", optimizer="sgd"))),
    "order": lambda: study(configurations=(RIVAL, BASELINE)),
    "name": lambda: rival(name="GNVR 2"),
    "optimizer": lambda: rival(optimizer="adam"),
    "regularizer": lambda: rival(regularizer="clip_sample"),
    "trials of one": lambda: rival(trials=5),
    "prediction": lambda: rival(prediction=None),
    "bound": lambda: rival(space={"lambda": log_range(1e-3, 11)}),
    "scale": lambda: rival(space={"lambda": linear_range(1e-3, 10)}),
    "fixed value": lambda: rival(space={"beta1": 0.8}),
    "off": lambda: rival(space={"lambda": log_range(1e-3, 10, off="high")}),
    "own regularizer": lambda: rival(regularizer=Regularizer("gnvr", slower, REGULARIZERS["gnvr"].hyperparameters)),
}


def slower(objective: Any, params: Any, state: Any, hyper: Any) -> Any:
    return REGULARIZERS["gnvr"].grads(objective, params, state, hyper)


def test_a_network_in_the_place_of_a_function_is_refused() -> None:
    from torch import nn

    assert study(model=nn.Identity).model is nn.Identity
    with pytest.raises(UsageError, match=r"model is no function; give .* a new torch.nn.Module"):
        study(model=nn.Linear(40, 10))


def test_every_field_that_matters_changes_the_digest() -> None:
    digests = {name: digest(describe(make())) for name, make in CHANGES.items()}
    digests["nothing"] = digest(describe(study()))
    shared = {name for name, value in digests.items() if list(digests.values()).count(value) > 1}
    assert not shared


def test_what_changes_nothing_is_no_part_of_the_definition() -> None:
    """A machine's folder, the kind of noise where there is none, the strength of augmentations that are off."""
    same = [
        (Mistaken(), Mistaken(folder="/somewhere")),
        (Mistaken(), Mistaken(noise="asymmetric")),
        (Mnist1d(), Mnist1d(shift=9, scale=0.5, jitter=0.0)),
    ]
    for plain, changed in same:
        assert plain != changed
        assert describe(study(data=plain)) == describe(study(data=changed))
    assert "folder" not in describe(study(data=Mistaken(folder="/somewhere")))["data"]
    assert describe(study(data=Mistaken(label_noise=0.5)))["data"]["noise"] == "symmetric"


def test_words_and_planned_numbers_do_not_change_the_digest() -> None:
    expected = digest(describe(study()))
    changes: list[dict[str, Any]] = [
        {"title": "T"}, {"hypothesis": "H"}, {"name": "n"}, {"trials": 7}, {"seeds": 3}, {"tuning_runs": 2},
    ]  # fmt: skip
    assert {digest(describe(study(**change))) for change in changes} == {expected}
    respelt = dataclasses.replace(BASELINE, space={"beta1": 0.9, "weight_decay": 0})  # a default, written out
    assert digest(describe(study(configurations=[respelt, RIVAL]))) == expected


def test_the_digest_is_pinned() -> None:
    """A digest that changes with the version would make every stored study look changed."""
    assert digest({"b": [1, 2.5, None], "a": {"ρ": True}}) == (
        "83d6f1601ea8d17db856541d21babe360156571f8627eb616f106d8857055754"
    )
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


def test_a_partial_model_is_described_with_its_arguments() -> None:
    model = describe(study(model=functools.partial(nn.Linear, 40, out_features=10)))["model"]
    assert model == {"kind": "Linear", "arguments": [40], "out_features": 10}
