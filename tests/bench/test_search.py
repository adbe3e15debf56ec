"""The benchmarks of searches and of pruning compare tuning runs that differ only in what is measured."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.bench import pruning, search
from hpo.trials import STARTUP_TRIALS, Outcome, Work
from hpo.worker.trainer import Trainer
from tests.bench.tables import check_table

CPU = torch.device("cpu")
TINY = Study(
    data=Mnist1d(samples=120, label_noise=0.2),
    model=MLP((40, 8, 10)),
    baseline="A",
    configurations=(Configuration("A"), Configuration("B")),
    epochs=2,
    batch_size=20,
    score="validation_loss",
    name="tiny",
)

pytestmark = pytest.mark.usefixtures("one_thread")


def measure_search(study: Study, trials: int, batches: list[int], fresh_seeds: int = 1, **options: Any) -> Any:
    rows: list[Any] = []
    result = search.measure(Trainer(study, CPU), "A", trials, batches, 3, fresh_seeds, rows.append, **options)
    assert result["rows"] == rows
    check_table(search, result, rows[0])
    return rows


def test_searches_side_by_side_equal_separate_searches() -> None:
    one, four = measure_search(TINY, 12, [1, 4], 2)
    assert (one["batch"], four["batch"]) == (1, 4)
    assert one["difference"] == 0 and len(one["quality"]) == len(four["quality"]) == 3
    differences = [b - a for a, b in zip(one["quality"], four["quality"], strict=True)]
    assert four["difference"] == pytest.approx(sum(differences) / 3)
    assert four["low"] <= four["difference"] <= four["high"]
    [alone] = measure_search(TINY, 12, [4], 2, max_population=1)
    assert alone["quality"] == pytest.approx(four["quality"], abs=0.03)


def test_searches_side_by_side_do_not_prune_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def train(trainer: Trainer, work: Work) -> list[Outcome]:
        assert trainer.study.pruner is None
        trained.append(len(work.slots))
        return [Outcome(slot.id, slot.attempt, 0.5) for slot in work.slots]

    monkeypatch.setattr(Trainer, "__call__", train)
    measure_search(dataclasses.replace(TINY, pruner=SuccessiveHalving(1, 2)), 2, [1])
    assert trained == [3, 3, 3]


def test_repetitions_share_no_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial of several models has consecutive ones."""
    seeds: dict[str, set[int]] = {"tune": set(), "rerun": set()}

    def train(trainer: Trainer, work: Work) -> list[Outcome]:
        assert trainer.study.seeds_per_trial == 4
        seeds[work.phase] |= {slot.seed for slot in work.slots}
        return [Outcome(slot.id, slot.attempt, 0.5) for slot in work.slots]

    monkeypatch.setattr(Trainer, "__call__", train)
    measure_search(dataclasses.replace(TINY, seeds_per_trial=4), 2, [1])
    assert seeds["tune"] == {0, 4, 8} and len(seeds["rerun"]) == 3


def test_a_search_learns_from_its_finished_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    real = search.sample

    def sample(ranges: Any, finished: Any, others: Any, count: int, *rest: Any) -> list[Any]:
        calls.append((len(finished), count))
        return real(ranges, finished, others, count, *rest)

    monkeypatch.setattr(search, "sample", sample)
    measure_search(TINY, 5, [2])
    assert calls == [(0, 2)] * 3 + [(2, 2)] * 3 + [(4, 1)] * 3


def test_what_pruning_saves_is_counted() -> None:
    rows: list[Any] = []
    study = dataclasses.replace(TINY, epochs=4)
    result = pruning.measure(study, "A", CPU, SuccessiveHalving(1, 2), 14, 2, 2, rows.append)
    assert result["rows"] == rows
    check_table(pruning, result, rows[0])
    unpruned, pruned = ([row[arm] for row in rows] for arm in pruning.ARMS)
    assert [(row["epochs"], row["pruned"]) for row in unpruned] == [(56, 0)] * 2
    for row in pruned:
        # After one and two epochs at least half are pruned, though never the best.
        assert 7 <= row["pruned"] < 14 and 14 + 4 <= row["epochs"] <= 4 * 14 - 3 * row["pruned"] + 7
    saved = 1 - sum(row["epochs"] for row in pruned) / 112
    assert result["saved"]["epochs"] == pytest.approx(saved) and 0.2 < saved < 0.75
    means = [sum(row["quality"] for row in arm) / 2 for arm in (unpruned, pruned)]
    assert result["difference"] == pytest.approx(means[1] - means[0])
    first, second = (after["quality"] - before["quality"] for before, after in zip(unpruned, pruned, strict=True))
    width = 12.7062 * abs(first - second) / 2  # Student's t with one degree of freedom, times the standard error
    interval = [result["low"], result["high"]]
    if width > 1e-6:
        assert interval == pytest.approx([result["difference"] - width, result["difference"] + width], rel=1e-4)
    else:  # equal differences have no interval
        assert all(map(math.isnan, interval))


def test_tuning_runs_of_a_seed_begin_with_the_same_settings() -> None:
    source = TINY.data.load()
    runs = [pruning.TuningRun(TINY, "A", CPU, source, seed) for seed in (3, 3, 4)]
    for run in runs:
        run.measure(STARTUP_TRIALS + 1, 1)
    first, second, other = ([trial.setting for trial in run.finished] for run in runs)
    assert first == second and first[0] != other[0] and len(first) == STARTUP_TRIALS + 1
