"""Every sampler: the same settings whichever worker samples them, in batches that suit it."""

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from storage_study import definition, known_for_long, outcomes

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving, choice, grid, linear_range, log_range
from hpo.errors import UsageError
from hpo.search_space import integers, when
from hpo.space import as_json, split_space
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Setting, open_study
from hpo.study import sampler as sampler_module
from hpo.study.definition import describe, digest
from hpo.trials import FinishedTrial
from hpo.worker.replay import Replay, cmaes
from hpo.worker.sampler import sample
from hpo.worker.sequence import sequence
from hpo.worker.suggestions import Suggestions

GENETIC = functools.partial(optuna.samplers.NSGAIISampler, population_size=5)  # its state is in its trials
SPACE = {
    "learning_rate": as_json(log_range(1e-4, 1e-1)), "lambda": as_json(linear_range(0, 2)),
    "kind": as_json(choice("a", "b")), "size": as_json(when("kind", "a", integers(1, 9), otherwise=0)), "momentum": 0.9,
}  # fmt: skip
GRID = {"grid": {"learning_rate": [0.001, 0.01, 0.1], "lambda": [0, 1], "size": [2, 3]}}
SAMPLERS: dict[str, Any] = {
    **{name: name for name in ("tpe", "random", "gp", "cmaes", "qmc")},
    "grid": GRID, "custom": {"kind": "NSGAIISampler"},
}  # fmt: skip


def ledger_of(url: str, sampler: str, trials: int = 14, name: str = "s", **configuration: Any) -> Ledger:
    entry = {"name": "A", "trials": 18 if sampler == "grid" else None, "space": SPACE, **configuration}
    described = definition(configurations=[entry], sampler=SAMPLERS[sampler])
    numbers = {"trials": trials, "seeds": 2, "tuning_runs": 2}
    return known_for_long(open_study(connect(url), name, described, "d", numbers, {}, {}))


def tune(ledger: Ledger, sampler: str, size: int, workers: int = 1) -> dict[tuple[int, int], Setting]:
    """(tuning run, slot) → setting of all trials, from workers that take turns."""
    make = GENETIC if sampler == "custom" else None
    suggestions = [Suggestions(ledger, make) for _ in range(workers)]
    settings: dict[tuple[int, int], Setting] = {}
    turn = 0
    while (work := ledger.lease("x", size)) and work.phase == "tune":
        work = ledger.assign("x", work, suggestions[turn % workers].settings(work))
        settings |= {(slot.tuning_run, slot.slot): slot.setting or {} for slot in work.slots}
        ledger.finish("x", outcomes(work))
        turn += 1
    return settings


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_settings_do_not_depend_on_who_samples_them(url: str, sampler: str) -> None:
    ledger = ledger_of(url, sampler)
    one = tune(ledger, sampler, 99)
    ledger.delete()
    three = tune(ledger_of(url, sampler), sampler, 3, workers=3)
    assert one == three
    assert len(one) == (36 if sampler == "grid" else 28)
    space = split_space(SPACE)
    for setting in one.values():
        assert not space.objection(setting) and ("size" in setting) == (setting["kind"] == "a")
    distinct = Counter(repr(setting) for (run, _), setting in one.items() if run == 0)
    assert len(distinct) == sum(distinct.values())
    if sampler != "grid":
        assert [one[0, slot] for slot in range(14)] != [one[1, slot] for slot in range(14)]


def test_a_grid_is_every_combination_once(url: str) -> None:
    settings = tune(ledger_of(url, "grid"), "grid", 5)
    tried = {tuple(settings[0, slot].items()) for slot in range(18)}
    expected = {
        (("learning_rate", rate), ("lambda", weight), ("kind", kind), *([("size", size)] if kind == "a" else []))
        for rate in (0.001, 0.01, 0.1) for weight in (0.0, 1.0) for kind in ("a", "b") for size in (2, 3)
    }  # fmt: skip
    assert tried == expected


@pytest.mark.parametrize(
    ("sampler", "sizes"),
    [("tpe", [10, 5, 5]), ("gp", [10, 5, 5]), ("random", [20]), ("qmc", [20]), ("cmaes", [6, 6, 6, 2])],
)
def test_batches_suit_the_sampler(url: str, sampler: str, sizes: list[int]) -> None:
    groups = [group for group in ledger_of(url, sampler, 20).groups() if group.phase == "tune"]
    assert [group.total for group in groups if group.tuning_run == 0] == sizes


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_raising_the_trials_continues_a_sequence(url: str, sampler: str) -> None:
    ledger = ledger_of(url, sampler, 6)
    first = tune(ledger, sampler, 4)
    open_study(ledger.engine, "s", ledger.definition, "d", {"trials": 14, "seeds": 2, "tuning_runs": 2}, {}, {})
    rest = tune(ledger, sampler, 4)
    assert len(first) == 12 and len(rest) == 16
    ledger.delete()
    assert tune(ledger_of(url, sampler, 14), sampler, 99) == first | rest


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid"])
def test_hyperparameters_in_another_order_do_not_change_the_settings(url: str, sampler: str) -> None:
    ledger = ledger_of(url, sampler)
    work = ledger.lease("x", 4)
    assert work
    work = ledger.assign("x", work, Suggestions(ledger).settings(work))
    ledger.finish("x", outcomes(work))
    first = {(slot.tuning_run, slot.slot): slot.setting for slot in work.slots}
    rest = tune(ledger_of(url, sampler, space=dict(reversed(SPACE.items()))), sampler, 4)
    ledger.delete()
    assert tune(ledger_of(url, sampler), sampler, 99) == first | rest


def distance(setting: Setting) -> float:
    return abs(math.log10(float(setting["learning_rate"] or 0)) + 2) + abs(float(setting["lambda"] or 0) - 1)


Propose = Callable[[list[FinishedTrial], range], list[Setting]]


def bowl(space: Any, propose: Propose, batches: list[range]) -> list[float]:
    """The distances from the optimum of the last batch."""
    finished: list[FinishedTrial] = []
    settings: list[Setting] = []
    for number, slots in enumerate(batches):
        settings = propose(finished, slots)
        assert all(not space.objection(setting) for setting in settings)
        trials = zip(slots, settings, strict=True)
        finished += [FinishedTrial(setting, -distance(setting), None, slot, number) for slot, setting in trials]
    return [distance(setting) for setting in settings]


def test_samplers_that_learn_come_closer_than_random_search() -> None:
    space = split_space({"learning_rate": SPACE["learning_rate"], "lambda": SPACE["lambda"]})
    blind = sequence("random", space, 60, 0, {})
    away = sum(map(distance, blind)) / len(blind)
    batches = [range(start, start + 10) for start in range(0, 30, 10)]
    gaussian = bowl(space, lambda known, slots: sample(space, known, [], len(slots), "maximize", 1, "gp"), batches)
    assert sum(gaussian) / len(gaussian) < 0.6 * away
    replay = Replay(cmaes, space, "maximize", 0, {}, 6)
    evolved = bowl(space, replay.settings, [range(start, start + 6) for start in range(0, 90, 6)])
    assert sum(evolved) / len(evolved) < 0.5 * away
    genes = Replay(GENETIC, space, "maximize", 0, {}, 5)
    bred = bowl(space, genes.settings, [range(start, start + 5) for start in range(0, 100, 5)])
    assert sum(bred) / len(bred) < 0.6 * away


def test_a_sobol_sequence_covers_a_range_more_evenly_than_random_search() -> None:
    space = split_space({"lambda": SPACE["lambda"], "kind": SPACE["kind"]})
    settings = sequence("qmc", space, 64, 5, {})
    eighths = Counter(int(float(setting["lambda"] or 0) * 4) for setting in settings)
    assert set(eighths.values()) == {8}
    assert Counter(setting["kind"] for setting in settings) == {"a": 32, "b": 32}


def test_a_replay_counts_replaced_settings_and_diverged_trials() -> None:
    space = split_space({"learning_rate": SPACE["learning_rate"], "lambda": SPACE["lambda"]})

    def finished(replay: Replay, other: bool) -> list[FinishedTrial]:
        settings = replay.settings([], range(6))
        trials = [FinishedTrial(setting, -distance(setting), None, slot) for slot, setting in enumerate(settings)]
        trials[1] = trials[1]._replace(value=None)
        if other:
            trials[2] = trials[2]._replace(setting={"learning_rate": 0.05, "lambda": 1.5})
        return trials

    first, second = (Replay(cmaes, space, "maximize", 0, {}, 6) for _ in range(2))
    same, changed = finished(first, other=False), finished(second, other=True)
    assert first.settings(same, range(6, 12)) != second.settings(changed, range(6, 12))
    again = Replay(cmaes, space, "maximize", 0, {}, 6)
    assert again.settings(changed, range(6, 12)) == second.settings(changed, range(6, 12))
    with pytest.raises(ValueError, match="other results"):
        again.settings(same, range(6, 12))


@pytest.mark.parametrize("make", [optuna.samplers.TPESampler, GENETIC])
def test_a_batch_without_any_score_is_no_better_than_later_losses(make: Any) -> None:
    """Losses may be below or above any number: samplers that go by their order choose the same settings."""
    space = split_space({"learning_rate": SPACE["learning_rate"], "lambda": SPACE["lambda"]})

    def settings(offset: float) -> list[Setting]:
        replay, finished = Replay(make, space, "minimize", 0, {}, 10), list[FinishedTrial]()
        for batch in range(4):
            slots = range(10 * batch, 10 * batch + 10)
            for slot, setting in zip(slots, replay.settings(finished, slots), strict=True):
                loss = distance(setting) + offset if batch and slot % 3 else None
                finished.append(FinishedTrial(setting, loss, None, slot, batch))
        return [trial.setting for trial in finished]

    assert settings(-100.0) == settings(100.0)


def study(sampler: Any, **changes: Any) -> Study:
    configurations = (Configuration("A"), Configuration("B", regularizer="sam"))
    fields: dict[str, Any] = {"data": Mnist1d(samples=100), "model": MLP((40, 8, 10)), "configurations": configurations}
    return Study(**(fields | {"baseline": "A", "sampler": sampler} | changes))


RATES = {"learning_rate": [1e-3, 1e-2], "weight_decay": [0.01], "rho": [0.05, 0.1]}
RATE = {"learning_rate": 1e-3}
WRONG: dict[str, Callable[[], Any]] = {
    "sampler is 'TPE'": lambda: study("TPE"),
    "did you mean 'cmaes'": lambda: study("cma"),
    "sampler is 'grid'": lambda: study("grid"),
    "sampler is 3": lambda: study(3),
    "sampler is <optuna": lambda: study(optuna.samplers.RandomSampler()),
    "sampler 'gp' does not learn from pruned": lambda: study("gp", pruner=SuccessiveHalving()),
    "sampler 'cmaes' does not learn from pruned": lambda: study("cmaes", pruner=SuccessiveHalving()),
    "is no dict": lambda: grid([1]),  # type: ignore[arg-type]
    "rho has 0.1": lambda: grid({"rho": 0.1}),  # type: ignore[dict-item]
    "rho has [0.1, 0.1]": lambda: grid({"rho": [0.1, 0.1]}),
    "'B': the grid has no values of rho": lambda: describe(
        study(grid({"learning_rate": [1e-3], "weight_decay": [0.01]}))
    ),
    "grid: rho is 5": lambda: describe(study(grid(RATES | {"rho": [5]}))),
    "values of 'rh', which no configuration tunes": lambda: describe(study(grid(RATES | {"rh": [5]}))),
    "'B': sampler 'cmaes' needs two ranges": lambda: describe(
        study("cmaes", configurations=(Configuration("A"), Configuration("B", space={"learning_rate": 0.1})))
    ),
    "leave out trials": lambda: describe(
        study(grid(RATES), configurations=(Configuration("A", trials=3), Configuration("B", regularizer="sam")))
    ),
    "settings are tried; leave out first": lambda: describe(
        study(grid(RATES), configurations=(Configuration("A", first=[RATE]), Configuration("B", regularizer="sam")))
    ),
}  # fmt: skip


@pytest.mark.parametrize("named", WRONG)
def test_a_wrong_sampler_is_refused_in_one_sentence(named: str) -> None:
    with pytest.raises(UsageError) as caught:
        WRONG[named]()
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'hpo-studies\[cmaes\]'"):
        study("cmaes")


def test_the_sampler_is_part_of_the_definition_and_a_grid_sets_the_trials() -> None:
    assert "sampler" not in describe(study("tpe"))
    digests = {digest(describe(study(sampler))) for sampler in ("tpe", "random", "gp", "qmc", grid(RATES), GENETIC)}
    assert len(digests) == 6
    described = describe(study(grid(RATES)))
    assert [entry["trials"] for entry in described["configurations"]] == [2, 4]
    assert described["sampler"] == {"grid": RATES}
    assert describe(study(GENETIC))["sampler"]["population_size"] == 5


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda seed: None, "returns None"),  # noqa: ARG005
        (lambda: None, "called as sampler(seed="),
        (lambda seed: optuna.samplers.RandomSampler(), "ignores its seed"),  # noqa: ARG005
        (lambda seed: optuna.samplers.GridSampler({"x": [1, 2]}, seed=seed), "hpo.grid({…})"),
    ],
)
def test_a_function_that_returns_no_seeded_sampler_is_refused(url: str, make: Any, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        Suggestions(ledger_of(url, "custom"), make)
    assert named in str(caught.value) and "\n" not in str(caught.value)


FIRST = [{"learning_rate": 0.002, "kind": "a", "size": 3}, {"lambda": 0.5}]


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_the_first_settings_of_every_tuning_run_are_those_given(url: str, sampler: str) -> None:
    ledger = ledger_of(url, sampler, first=FIRST)
    settings = tune(ledger, sampler, 4)
    space = split_space(SPACE)
    for tuning_run in range(2):
        for slot, given in enumerate(FIRST):
            assert given.items() <= settings[tuning_run, slot].items()
            assert not space.objection(settings[tuning_run, slot])
        assert settings[tuning_run, 0].keys() == {"learning_rate", "lambda", "kind", "size"}
    assert settings[0, 1]["learning_rate"] != settings[1, 1]["learning_rate"]
    assert len(settings) == 28
    ledger.delete()
    assert tune(ledger_of(url, sampler, first=FIRST), sampler, 99, workers=2) == settings


def test_more_first_settings_than_start_up_trials(url: str) -> None:
    first = [{"learning_rate": 0.001 * (number + 1)} for number in range(13)]
    settings = tune(ledger_of(url, "tpe", first=first), "tpe", 5)
    assert [settings[1, slot]["learning_rate"] for slot in range(13)] == [each["learning_rate"] for each in first]
    assert settings[0, 13]["learning_rate"] not in [each["learning_rate"] for each in first]


def test_first_settings_in_a_definition() -> None:
    def with_first(*first: Any, **changes: Any) -> Study:
        b = Configuration("B", space={"batch_size": choice(16, 32), "beta1": choice(0.8, 0.9)}, first=first)
        return study("tpe", configurations=(Configuration("A"), b), **changes)

    described = describe(with_first({"learning_rate": 0.01, "batch_size": 16}, {"weight_decay": 0.1}))
    assert described["configurations"][1]["first"] == [{"learning_rate": 0.01, "batch_size": 16}, {"weight_decay": 0.1}]
    assert "first" not in described["configurations"][0]
    wrong: dict[str, Any] = {
        "setting 1 of first cannot be tried: learning_rate is 1, which is outside 0.0001–0.01": [{"learning_rate": 1}],
        "setting 2 of first cannot be tried: batch_size is 8": [{"batch_size": 16}, {"batch_size": 8}],
        "beta2 is fixed at 0.999": [{"beta2": 0.99}],
        "there is no hyperparameter 'rho'": [{"rho": 0.99}],
        "batch_size is True": [{"batch_size": True}],
    }
    for named, first in wrong.items():
        with pytest.raises(UsageError) as caught:
            describe(with_first(*first))
        assert named in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="first has 2 settings for 1 trial"):
        with_first({"learning_rate": 0.01}, {"learning_rate": 0.001}, trials=1)
    with pytest.raises(UsageError, match="'B': first is 3"):
        Configuration("B", first=3)  # type: ignore[arg-type]
