"""The benchmark of pruning compares the same tuning run with and without."""

import pytest
import torch

from hpo import MLP, Configuration, Mnist1d, Study, SuccessiveHalving
from hpo.bench.pruning import _Tuning, measure_pruning
from hpo.trials import STARTUP_TRIALS


def tiny() -> Study:
    return Study(
        data=Mnist1d(samples=120, label_noise=0.2),
        model=MLP((40, 8, 10)),
        baseline="A",
        configurations=(Configuration("A"), Configuration("B")),
        epochs=4,
        batch_size=20,
        score="validation_loss",
        name="tiny",
    )


@pytest.mark.usefixtures("one_thread")
def test_what_pruning_saves_is_counted() -> None:
    lines: list[str] = []
    found = measure_pruning(tiny(), "A", torch.device("cpu"), SuccessiveHalving(1, 2), 14, 2, 2, lines.append)
    whole, pruned = ([row[name] for row in found["rows"]] for name in ("whole", "pruned"))
    assert [(row["epochs"], row["pruned"]) for row in whole] == [(56, 0)] * 2
    for row in pruned:
        # At the rungs of one and two epochs at least half are stopped, though never the best.
        assert 7 <= row["pruned"] < 14 and 14 + 4 <= row["epochs"] <= 4 * 14 - 3 * row["pruned"] + 7
    saved = 1 - sum(row["epochs"] for row in pruned) / 112
    assert found["saved"]["epochs"] == pytest.approx(saved) and 0.2 < saved < 0.75
    means = [sum(row["quality"] for row in rows) / 2 for rows in (whole, pruned)]
    assert found["difference"] == pytest.approx(means[1] - means[0])
    assert found["low"] <= found["difference"] <= found["high"]
    assert len(lines) == 5 and lines[-1].startswith(f"saved {saved:.1%} of the epochs")


@pytest.mark.usefixtures("one_thread")
def test_both_runs_begin_with_the_same_settings() -> None:
    source = tiny().data.load()
    runs = [_Tuning(tiny(), "A", torch.device("cpu"), source, seed) for seed in (3, 3, 4)]
    for run in runs:
        run.measure(STARTUP_TRIALS + 1, 1)
    first, again, other = ([entry.setting for entry in run.tried] for run in runs)
    assert first == again and first[0] != other[0] and len(first) == STARTUP_TRIALS + 1
