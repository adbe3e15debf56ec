"""Which studies are refused, and the definition and digest of a valid one."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpo import (
    MLP,
    Arrays,
    BinaryCrossEntropy,
    Configuration,
    Constant,
    Cosine,
    CrossEntropy,
    Dataset,
    Mnist1d,
    Regularizer,
    Source,
    SquaredError,
    Study,
    whole,
)
from hpo.errors import UsageError
from hpo.optim.regularizers import REGULARIZERS
from hpo.search_space import linear_range, log_range
from hpo.study.components import explanations, full_space
from hpo.study.definition import describe, digest
from hpo.study.directions import metric_directions

BASELINE = Configuration("AdamW", space={"weight_decay": 0.0})
RIVAL = Configuration("GNVR", regularizer="gnvr", prediction="better")


def study(**changes: Any) -> Study:
    fields = {"data": Mnist1d(samples=100), "model": MLP((40, 8, 10)), "configurations": (BASELINE, RIVAL)}
    return Study(**(fields | {"baseline": "AdamW", "batch_size": 16, "epochs": 2} | changes))


def rank(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a metric gets labels
    return outputs.amax(1)


def rival(**changes: Any) -> Study:
    return study(configurations=(BASELINE, dataclasses.replace(RIVAL, **changes)))


def numbers(task: str) -> Arrays:
    generator = np.random.default_rng(0)
    return Arrays(generator.normal(size=(100, 40)), generator.integers(0, 2, size=(100, 5)), task=task)


# A wrong field -> the field and value that the error names.
WRONG: dict[str, Callable[[], Any]] = {
    "fewer than two": lambda: study(configurations=(BASELINE,)),
    "two entries named 'AdamW'": lambda: study(configurations=(BASELINE, BASELINE)),
    "baseline is 'SGD'": lambda: study(baseline="SGD"),
    "baseline is ''": lambda: study(baseline=""),
    "'gnvr'": lambda: study(configurations=(BASELINE, "gnvr")),
    "single configuration": lambda: study(configurations=3),
    "epochs is 0": lambda: study(epochs=0),
    "batch_size is 1.5": lambda: study(batch_size=1.5),
    "trials is True": lambda: study(trials=True),
    "tuning_epochs is -1": lambda: study(tuning_epochs=-1),
    "warmup_epochs is 3 and a run has 2 epochs": lambda: study(epochs=2, schedule=Cosine(3)),
    "warmup_epochs is 2.5 and a run has 2 epochs": lambda: study(epochs=9, tuning_epochs=2, schedule=Cosine(2.5)),
    "tuning_runs is 0": lambda: study(tuning_runs=0),
    "tuning_runs is 4 and seeds is 3": lambda: study(tuning_runs=4, seeds=3),
    "seeds_per_trial is 1002": lambda: study(tuning_runs=3, seeds_per_trial=334),
    "trial_timeout is 0": lambda: study(trial_timeout=0),
    "score is 'accuracy'": lambda: study(score="accuracy"),
    "direction is 'up'": lambda: study(direction="up"),
    "direction is 'rank'": lambda: study(direction={"rank": "minimize"}),
    "direction['rank'] is 'down'": lambda: study(metrics={"rank": rank}, direction={"rank": "down"}),
    "score is the custom metric": lambda: study(
        metrics={"rank": rank, "size": rank}, score="validation_rank", direction={"size": "minimize"}
    ),
    "score_epoch is 'first'": lambda: study(score_epoch="first"),
    "precision is 'float16'": lambda: study(precision="float16"),
    "label_smoothing is 1": lambda: study(label_smoothing=1),
    "label_smoothing and loss": lambda: study(label_smoothing=0.1, loss=nn.CrossEntropyLoss()),
    "loss is not callable": lambda: study(loss=3),
    "loss is SquaredError, which is for regression, but": lambda: study(loss=SquaredError()),
    "loss is BinaryCrossEntropy": lambda: study(loss=BinaryCrossEntropy(), model=MLP((40, 8, 1))),
    "loss is CrossEntropy": lambda: study(loss=CrossEntropy(), data=numbers("regression")),
    "give hpo.BinaryCrossEntropy": lambda: study(loss=CrossEntropy(class_weights=[1] * 5), data=numbers("multilabel")),
    "the task of the data is token": lambda: study(loss=SquaredError(), data=numbers("tokens")),
    "margin is 0": lambda: study(margin=0),
    "margin is nan": lambda: study(margin=float("nan")),
    "name is 'a/b'": lambda: study(name="a/b"),
    "name is 'compare-a'": lambda: study(name="compare-a"),
    "model is not": lambda: study(model="MLP"),
    "returns a new torch.nn.Module": lambda: study(model=nn.Linear(40, 10)),
    "data is of class list": lambda: study(data=[1, 2]),
    "data is of class OnlyLoads": lambda: study(data=OnlyLoads()),
    "data is the class Mnist1d": lambda: study(data=Mnist1d),
    "name of a configuration is 'a/b'": lambda: rival(name="a/b"),
    "name of a configuration is ' GNVR'": lambda: rival(name=" GNVR"),
    "configuration 'GNVR': trials is 0": lambda: rival(trials=0),
    "configuration 'GNVR': prediction is 'best'": lambda: rival(prediction="best"),
    "configuration 'GNVR': space is [1]": lambda: rival(space=[1]),
    "space['lambda'] is nan": lambda: rival(space={"lambda": float("nan")}),
    "space['lambda'] is [0.1]": lambda: rival(space={"lambda": [0.1]}),
    "MLP: widths is (40,)": lambda: MLP((40,)),
    "MLP: widths is (40, 0, 10)": lambda: MLP((40, 0, 10)),
}
# What only the definition of the whole study shows -> the names that the error contains.
WRONG_TOGETHER: dict[Callable[[], Study], tuple[str, ...]] = {
    lambda: rival(space={"lamda": 0.1}): ("'GNVR'", "'lamda'", "'adamw'", "'gnvr'", "beta1", "did you mean 'lambda'?"),
    lambda: rival(regularizer="sam2"): ("'GNVR'", "regularizer is 'sam2'", "hpo.Regularizer", "vasso"),
    lambda: rival(optimizer="lion"): ("'GNVR'", "optimizer is 'lion'", "hpo.Optimizer", "nesterov"),
    lambda: rival(regularizer=Regularizer("mine", REGULARIZERS["none"].grads, {"weight_decay": 0.1})): (
        *("'GNVR'", "'adamw'", "'mine'", "'weight_decay'"),
    ),
    lambda: study(data=Clouds(sizes=(torch.ones(1),))): ("Clouds", "Tensor"),
}


@pytest.mark.parametrize("named", WRONG)
def test_a_wrong_study_is_refused_when_it_is_written(named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)) as caught:
        WRONG[named]()
    assert "\n" not in str(caught.value) and ";" in str(caught.value), "one sentence that says what to do"


@pytest.mark.parametrize(("make", "named"), WRONG_TOGETHER.items())
def test_a_wrong_study_is_refused_when_it_is_described(make: Callable[[], Study], named: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        describe(make())
    assert "\n" not in str(caught.value)
    assert [name for name in named if name not in str(caught.value)] == []


@dataclass(frozen=True)
class Clouds(Dataset):
    """A custom data set."""

    sizes: tuple = (1, 2)

    def load(self) -> Source:
        zeros, labels = torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64)
        return Source(zeros, labels, zeros, labels, 2)


@dataclass(frozen=True)
class Mistaken(Clouds):
    """A data set with classes that are confused with each other, in a folder of this machine."""

    confusions = {0: 1}  # noqa: RUF012
    folder: str | None = field(default=None, metadata={"described": False})


class OnlyLoads:
    def load(self) -> None: ...


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
    data = {"label_noise": 0.0, "validation": 0.2, "split": "random", "samples": 100}
    assert described == {
        "data": {"kind": "Mnist1d", **data, "generator_seed": 42, "augmented": False},
        "model": {"kind": "MLP", "widths": [40, 8, 10]}, "schedule": {"kind": "Cosine", "warmup_epochs": 1.0},
        "batch_size": 16, "epochs": 2, "tuning_epochs": 1, "margin": 0.01, "baseline": "AdamW",
        "score": "validation_loss", "direction": "minimize", "score_epoch": "last",
        "configurations": [
            {
                "name": name, "optimizer": "adamw", "regularizer": regularizer, "trials": None,
                "prediction": prediction, "space": space,
            }
            for name, regularizer, prediction, space in rows
        ],
    }  # fmt: skip


def test_defaults_are_filled_in() -> None:
    described = describe(study())
    assert described["tuning_epochs"] == 2
    assert described["schedule"] == {"kind": "Constant", "warmup_epochs": 0.0}
    assert described["direction"] == "maximize"
    assert describe(study(schedule=Constant(), tuning_epochs=2)) == described


def test_directions_of_custom_metrics_are_those_that_the_study_or_the_metric_says() -> None:
    both = {"rank": rank, "size": rank}
    assert metric_directions(study(metrics=both)) == {}
    assert metric_directions(study(metrics=both, direction={"size": "minimize"})) == {"size": "minimize"}
    one = study(metrics=both, score="validation_rank", direction="minimize")
    two = study(metrics=both, score="validation_rank", direction={"rank": "minimize", "size": "maximize"})
    assert metric_directions(one) == {"rank": "minimize"}
    assert metric_directions(two) == {"rank": "minimize", "size": "maximize"}
    assert describe(two) == describe(one), "only the score's direction has an effect"

    class Counter:
        higher_is_better = False
        update = compute = reset = rank

    told = study(metrics={"counter": Counter(), "whole": whole(Counter()), "other": rank})
    assert metric_directions(told) == {"counter": "minimize", "whole": "minimize"}


def test_a_range_keeps_the_end_at_which_the_method_is_off() -> None:
    """A range for a hyperparameter of a built-in method takes its `off` from the default, unless it has one."""
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


def test_a_class_of_networks_is_a_function_that_returns_one() -> None:
    assert study(model=nn.Identity).model is nn.Identity


def test_every_field_that_matters_changes_the_digest() -> None:
    digests = {name: digest(describe(make())) for name, make in CHANGES.items()}
    digests["nothing"] = digest(describe(study()))
    shared = {name for name, value in digests.items() if list(digests.values()).count(value) > 1}
    assert not shared


def test_only_an_order_of_groups_that_affects_training_changes_the_digest() -> None:
    """Where it is alphabetical, or no two patterns change the same hyperparameter, the digest has always been so."""

    def grouped(*patterns: str) -> dict[str, Any]:
        return describe(rival(groups={pattern: {"learning_rate": 0.1} for pattern in patterns}))

    plain = grouped("a*", "b*")
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert digest(plain) == hashlib.sha256(canonical.encode()).hexdigest()
    assert digest(grouped("b*", "a*")) != digest(plain)
    apart = [{"b*": {"learning_rate": 1.0}, "a*": {"beta1": 1.0}}, {"a*": {"beta1": 1.0}, "b*": {"learning_rate": 1.0}}]
    assert len({digest(describe(rival(groups=groups))) for groups in apart}) == 1


def test_what_does_not_affect_results_is_not_in_the_definition() -> None:
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


def test_the_generators_arguments_are_in_the_definition_where_one_was_changed() -> None:
    usual, changed = (describe(study(data=data))["data"] for data in (Mnist1d(), Mnist1d(final_seq_length=64)))
    assert changed == usual | {
        "train_split": 0.8, "template_len": 12, "padding": [36, 60], "scale_coeff": 0.4, "max_translation": 48,
        "corr_noise_scale": 0.25, "iid_noise_scale": 0.02, "shear_scale": 0.75, "shuffle_seq": False,
        "final_seq_length": 64,
    }  # fmt: skip


def test_texts_and_planned_numbers_do_not_change_the_digest() -> None:
    expected = digest(describe(study()))
    changes: list[dict[str, Any]] = [
        {"title": "T"}, {"hypothesis": "H"}, {"name": "n"}, {"trials": 7}, {"seeds": 3}, {"tuning_runs": 2},
    ]  # fmt: skip
    assert {digest(describe(study(**change))) for change in changes} == {expected}
    respelt = dataclasses.replace(BASELINE, space={"beta1": 0.9, "weight_decay": 0})  # a default, written out
    assert digest(describe(study(configurations=[respelt, RIVAL]))) == expected


def test_the_digest_is_pinned() -> None:
    """A digest that depended on the version of hpo would make every stored study look changed."""
    assert digest({"b": [1, 2.5, None], "a": {"ρ": True}}) == (
        "83d6f1601ea8d17db856541d21babe360156571f8627eb616f106d8857055754"
    )
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


def test_a_partial_model_is_described_with_its_arguments() -> None:
    model = describe(study(model=functools.partial(nn.Linear, 40, out_features=10)))["model"]
    assert model == {"kind": "Linear", "arguments": [40], "out_features": 10}


def test_the_explanation_of_a_regularizer_has_its_formula() -> None:
    def own(objective: Any, params: Any, state: Any, hyper: Any) -> Any:
        """Mean loss plus a penalty.

        loss + λ · penalty
        """

    entries = {name: Configuration(name, regularizer=name) for name in ("none", "rogc", "clip_sample", "gam", "vasso")}
    mine = Configuration("own", regularizer=Regularizer("own", own, hyperparameters={"lambda": 1.0}))
    words = explanations(study(configurations=(BASELINE, *entries.values(), mine)))
    assert words.keys() == {"rogc", "clip_sample", "gam", "vasso", "own"}
    assert "without their noise): the batch gradient becomes g" in words["clip_sample"]
    assert "τ = Q3 + k (Q3 − Q1)" in words["rogc"] and "g_i · min(1, c/(‖g_i‖ + 1e-8))" in words["clip_sample"]
    assert (
        "g0 = g(w); g1 = g(w + ρ′ g0/‖g0‖); h = g1 − g0; g2" in words["gam"] and "d ← (1 − θ) d + θ g" in words["vasso"]
    )
    assert words["own"] == "Mean loss plus a penalty. loss + λ · penalty"
