"""Settings with different shapes in one batch: a population for each, with the results that each setting has alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpo import MLP, Configuration, Cosine, Mnist1d, Regularizer, Study, choice, integers, per_model, when
from hpo.errors import UsageError
from hpo.study.pruner import SuccessiveHalving
from hpo.training import loop
from hpo.training.checkpoints import Checkpoints
from hpo.training.steps import Steps
from hpo.trials import Outcome, Slot, Work
from hpo.worker import trainer as trainer_module
from hpo.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = {"learning_rate": 1e-2, "weight_decay": 0.0}


def network(width: int = 8, dropout: float = 0.0) -> nn.Module:
    return MLP((40, width, 10), dropout=dropout)()


def init(_: Any, hyper: Any) -> Any:
    return {"rows": torch.zeros(hyper["rank"], 40), "seen": torch.zeros(())}


def grads(objective: Any, params: Any, state: Any, hyper: Any) -> Any:
    """Adds the first rows of the first layer's gradient again, `rank` of them, times `strength` where kind is "add"."""
    gradient = objective.grad(params)
    rows = gradient["linear1.weight"][: hyper["rank"]]
    strength = hyper["strength"] if hyper["kind"] == "add" else 0.0
    added = torch.cat([rows, torch.zeros_like(gradient["linear1.weight"][hyper["rank"] :])])
    added = torch.where(hyper["signed"], added, -added)
    changed = gradient | {"linear1.weight": gradient["linear1.weight"] + strength * added}
    return changed, {"rows": rows, "seen": state["seen"] + hyper["count"]}, {"seen": state["seen"]}


RANKED = Regularizer(
    "ranked",
    grads,
    {
        "rank": integers(1, 4), "kind": choice("add", "none"), "signed": choice(True, False), "count": integers(1, 9),
        "strength": when("kind", "add", choice(0.5, 1.0), otherwise=0.0),
    },
    init=init,
    static=("rank", "kind"),
)  # fmt: skip


def study(**changes: Any) -> Study:
    space = {
        "batch_size": choice(16, 32, 64), "model.width": choice(8, 16), "model.dropout": choice(0.0, 0.3),
        "label_smoothing": choice(0.0, 0.1), "schedule.warmup_epochs": choice(0, 1),
    }  # fmt: skip
    configurations = (Configuration("A", space=space), Configuration("B", "sgd", RANKED, {"batch_size": 32}))
    fields: dict[str, Any] = {"data": Mnist1d(samples=200), "model": network, "schedule": Cosine(), "epochs": 2}
    return Study(**(fields | {"configurations": configurations, "baseline": "A", "name": "s"} | changes))


def mixed(**fixed: Any) -> list[dict[str, Any]]:
    """Settings of configuration A in an order that mixes their shapes."""
    shapes = [(16, 8), (32, 8), (16, 16), (16, 8), (64, 16), (32, 8), (16, 16)]
    rest = [(0.0, 0.0, 0), (0.3, 0.1, 1)]
    settings = []
    for number, (batch_size, width) in enumerate(shapes):
        dropout, smoothing, warmup = rest[number // 4]
        values = {
            "batch_size": batch_size,
            "model.width": width,
            "model.dropout": dropout,
            "label_smoothing": smoothing,
        }
        settings.append({**RATE, **values, "schedule.warmup_epochs": warmup, **fixed})
    return settings


RANKS = [
    {**RATE, "rank": rank, "kind": kind, "signed": signed, "count": 3, **({"strength": 1.0} if kind == "add" else {})}
    for rank, kind, signed in ((1, "add", True), (3, "none", True), (1, "add", False), (3, "add", True))
]


def work(configuration: str, settings: list[dict[str, Any]], phase: str = "tune") -> Work:
    seeds = [1000 + number if phase == "rerun" else 0 for number in range(len(settings))]
    slots = [Slot(number, number, seeds[number], 1, setting) for number, setting in enumerate(settings)]
    return Work(configuration, phase, slots)  # type: ignore[arg-type]


def numbers(outcomes: list[Outcome]) -> list[Any]:
    """Curves to a few digits: sums of several models may be rounded in another order than those of one."""
    return [
        {name: pytest.approx(values, rel=2e-4, abs=2e-4) for name, values in outcome.curves.items()}
        for outcome in outcomes
    ]


@pytest.mark.parametrize("phase", ["tune", "rerun"])
@pytest.mark.parametrize(("configuration", "settings"), [("A", mixed()), ("B", RANKS)])
def test_a_mixed_batch_gives_what_each_setting_gives_alone(
    configuration: str, settings: list[dict[str, Any]], phase: str
) -> None:
    together = Trainer(study(), "cpu")(work(configuration, settings, phase))
    whole = work(configuration, settings, phase)
    alone = [Trainer(study(), "cpu")(whole.with_slots([slot]))[0] for slot in whole.slots]
    assert [outcome.curves for outcome in together] == numbers(alone)
    assert [outcome.id for outcome in together] == list(range(len(settings)))
    assert len({outcome.curves["train_loss"][-1] for outcome in together}) > len(settings) // 2


def test_a_setting_trains_as_a_study_that_has_these_values() -> None:
    setting = mixed()[-1]
    [outcome] = Trainer(study(), "cpu")(work("A", [setting]))
    plain = study(
        configurations=(Configuration("A"), Configuration("B")), batch_size=16, label_smoothing=0.1,
        model=MLP((40, 16, 10), dropout=0.3), schedule=Cosine(warmup_epochs=1),
    )  # fmt: skip
    [expected] = Trainer(plain, "cpu")(work("A", [RATE]))
    assert outcome.curves == expected.curves and outcome.result == expected.result


def test_populations_hold_equal_shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    populations: list[tuple[int, int]] = []
    train = trainer_module.train

    def counted(recipe: Any, members: Any, *rest: Any, **options: Any) -> Any:
        populations.append((recipe.batch_size, len(members)))
        return train(recipe, members, *rest, **options)

    monkeypatch.setattr(trainer_module, "train", counted)
    outcomes = Trainer(study(seeds_per_trial=2), "cpu", max_models=3)(work("A", mixed(**{"schedule.warmup_epochs": 0})))
    assert sorted(populations) == [(16, 1), (16, 2), (16, 2), (16, 3), (32, 2), (32, 2), (64, 2)]
    populations.clear()
    same = [
        setting | {"model.dropout": 0.0, "label_smoothing": 0.0} for setting in mixed(**{"schedule.warmup_epochs": 0})
    ]
    outcomes = Trainer(study(), "cpu")(work("A", same))
    assert sorted(populations) == [(16, 2), (16, 2), (32, 2), (64, 1)]
    assert [outcome.result["population"] for outcome in outcomes] == [2, 2, 2, 2, 1, 2, 2]


def test_seeds_fix_the_same_inputs_for_every_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order of the samples, their labels and the initial weights, which only the number of samples cut off."""
    inputs: dict[int, tuple[Any, ...]] = {}

    class RecordedSteps(Steps):
        def start_epoch(self, epoch: int) -> None:
            super().start_epoch(epoch)
            if epoch == 1:
                weights = {name: leaf.clone() for name, leaf in self.population.params.items()}
                inputs[self.batch_size] = (self._order.clone(), self._labels.clone(), weights)

    monkeypatch.setattr(loop, "Steps", RecordedSteps)
    noisy = dataclasses.replace(study(), data=Mnist1d(samples=200, label_noise=0.4))
    settings = [mixed()[0] | {"batch_size": size} for size in (16, 32, 64)]
    Trainer(noisy, "cpu")(work("A", settings))
    order, labels, weights = inputs[16]
    for size in (32, 64):
        other_order, other_labels, other_weights = inputs[size]
        count = other_order.shape[1]
        assert count % size == 0 and torch.equal(order[:, :count], other_order)
        assert torch.equal(labels[:, :count], other_labels)
        assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_a_pruner_compares_the_populations_of_a_batch() -> None:
    pruned = Trainer(study(pruner=SuccessiveHalving(min_epochs=1, factor=3), epochs=4), "cpu")
    outcomes = pruned(work("A", mixed()))
    causes = [outcome.cause for outcome in outcomes]
    assert 0 < causes.count("pruned") < len(causes)
    assert [outcome.cause for outcome in pruned(work("A", mixed()))] == causes


def test_checkpoints_tell_static_values_apart(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "s", 0.0)
    trainer = Trainer(study(), "cpu", checkpoints=checkpoints)
    settings = [mixed()[0] | {"batch_size": size} for size in (16, 32)]
    outcomes = trainer(work("A", settings))
    assert len(list(tmp_path.iterdir())) == 2
    assert [outcome.curves for outcome in trainer(work("A", settings))] == [outcome.curves for outcome in outcomes]
    trainer.delete_checkpoints(work("A", settings))
    assert not list(tmp_path.iterdir())


def test_an_optimizer_gets_static_values_in_init_and_update() -> None:
    """A window of past gradients, whose length is the hyperparameter: compared with a loop over plain tensors."""

    def init(params: Any, hyper: Any) -> Any:
        return {"past": {name: torch.zeros(hyper["window"], *leaf.shape) for name, leaf in params.items()}}

    def update(grads: Any, state: Any, params: Any, hyper: Any) -> Any:
        kept = hyper["window"] - 1
        past = {name: torch.cat([grads[name][None], state["past"][name][:kept]]) for name in params}
        scale = hyper["learning_rate"] / hyper["window"]
        return {name: params[name] - scale * past[name].sum(0) for name in params}, {"past": past}

    window = per_model("window", init, update, {"learning_rate": 0.1, "window": integers(1, 5)}, static=("window",))
    configurations = (Configuration("A", optimizer=window), Configuration("B"))
    trained = Trainer(study(configurations=configurations, epochs=1, batch_size=128), "cpu")
    outcomes = trained(work("A", [{"window": 1}, {"window": 2}, {"window": 1}]))
    first, halved, again = (outcome.result["train_loss"] for outcome in outcomes)
    assert first == again != halved
    [slower] = Trainer(
        study(configurations=(Configuration("A", optimizer="sgd"), Configuration("B")), epochs=1, batch_size=128), "cpu"
    )(work("A", [{"learning_rate": 0.05, "weight_decay": 0.0, "momentum": 0.0}]))
    assert halved == pytest.approx(slower.result["train_loss"], rel=1e-5)  # one step: half of one gradient


def test_a_batch_that_the_data_cannot_fill_is_refused_before_training() -> None:
    too_large = Configuration("C", space={"batch_size": integers(16, 200)})
    trainer = Trainer(study(configurations=(Configuration("A"), too_large)), "cpu")
    with pytest.raises(UsageError, match="'C' tunes batch_size up to 200, but the training part has 128 samples"):
        trainer.size()
