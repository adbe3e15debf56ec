"""All workers of a study train on the same samples: a worker with others is refused."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpo import Configuration, Study
from hpo.analysis.compute import compute_numbers
from hpo.data import Source, check_source, identify
from hpo.errors import UsageError
from hpo.notebooks import run
from hpo.report import read_record
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study
from hpo.trials import Outcome
from hpo.worker.processes import start_process
from tests.data.test_data_loading import Clouds, plain
from tests.report.golden_studies import opened

pytestmark = pytest.mark.usefixtures("one_thread")


def shuffled(seed: int) -> Source:
    source = plain()
    order = torch.randperm(len(source.labels), generator=torch.Generator().manual_seed(seed))
    return source._replace(inputs=source.inputs[order], labels=source.labels[order])


def noisy(field: str) -> Source:
    """With noise on the inputs of a part."""
    inputs = getattr(plain(), field)
    return plain()._replace(**{field: inputs + torch.linspace(0, 1, inputs.numel()).view(inputs.shape)})


SAME = {
    "the same": plain,
    "rounded otherwise": lambda: plain()._replace(inputs=plain().inputs * (1 + 2e-7)),
    "checked": lambda: check_source(plain()),
}
OTHER = {
    "shuffled": (lambda: shuffled(1), "labels"),
    "fewer": (lambda: plain()._replace(inputs=plain().inputs[:39], labels=plain().labels[:39]), "shapes"),
    "other test labels": (lambda: plain()._replace(test_labels=plain().test_labels.flip(0)), "labels"),
    "with noise": (lambda: noisy("inputs"), "inputs"),
    "features exchanged": (lambda: plain()._replace(inputs=plain().inputs.flip(1)), "inputs"),
    "noise in the test set": (lambda: noisy("test_inputs"), "inputs"),
}
FIRST, SECOND = "h+1:1:1:a", "h+1:2:1:b"


@pytest.fixture
def ledger(url: str) -> Ledger:
    """A study with two registered workers."""
    new_ledger = opened(connect(url), "s", ("A", "B"), trials=4, seeds=1)
    for worker_id in (FIRST, SECOND):
        new_ledger.register(worker_id, "cpu", {"torch": "2"})
    return new_ledger


@pytest.mark.parametrize("case", [*SAME, *OTHER])
def test_a_second_worker_needs_the_same_samples(case: str, ledger: Ledger) -> None:
    assert ledger.lease(FIRST, 1, 60)
    ledger.note_data(FIRST, identify(plain()))
    if case in SAME:
        ledger.note_data(SECOND, identify(SAME[case]()))
    else:
        make, field = OTHER[case]
        with pytest.raises(UsageError, match=f"different {field}"):
            ledger.note_data(SECOND, identify(make()))
    stored = {row["worker_id"]: "data" in row["environment"] for row in ledger.export()["workers"]}
    assert stored[FIRST] and stored[SECOND] == (case in SAME)


def test_samples_count_once_a_result_was_computed_from_them(ledger: Ledger) -> None:
    """Those of a worker that only released its slots do not count."""
    assert ledger.lease(FIRST, 1, 60)
    ledger.note_data(FIRST, identify(shuffled(1)))
    ledger.release(FIRST)
    ledger.note_data(SECOND, identify(plain()))
    work = ledger.lease(SECOND, 1, 60)
    assert work is not None
    [slot] = ledger.assign(SECOND, work, [{"learning_rate": 0.1}]).slots
    ledger.finish(SECOND, [Outcome(slot.id, slot.attempt, 0.5)])
    with pytest.raises(UsageError, match="different labels"):
        ledger.note_data(FIRST, identify(shuffled(1)))


def test_reports_show_no_samples_among_the_versions(ledger: Ledger) -> None:
    before = compute_numbers(read_record(ledger)).environments
    ledger.note_data(FIRST, identify(plain()))
    assert compute_numbers(read_record(ledger)).environments == before
    assert "data" not in before[0]


@dataclass(frozen=True)
class Unordered(Clouds):
    """Its order depends on the process."""

    def load(self) -> Source:
        return shuffled(int(os.environ["ORDER"]))


@pytest.mark.parametrize(("data", "refused"), [(Clouds(), False), (Unordered(), True)], ids=["same", "other"])
def test_a_study_is_not_resumed_with_other_samples(
    data: Any, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(
        name="s", data=data, model=lambda: nn.Linear(4, 3), epochs=1, trials=1, seeds=1, batch_size=8, baseline="A",
        configurations=(Configuration("A"), Configuration("B", optimizer="sgd")),
    )  # fmt: skip
    storage, reports = f"sqlite:///{tmp_path}/t.db", tmp_path / "reports"
    monkeypatch.setenv("ORDER", "0")
    run(study, storage, "cpu", population=1, reports=reports)
    monkeypatch.setenv("ORDER", "1")
    if refused:
        with pytest.raises(UsageError, match="different labels"):
            run(study, storage, "cpu", population=1, trials=2, reports=reports)
    else:
        run(study, storage, "cpu", population=1, trials=2, reports=reports)
    counts = load_study(connect(storage), "s").counts()
    assert [entry["trials_done"] for entry in counts.values()] == [1 if refused else 2] * 2


def test_a_short_summary_identifies_a_large_source() -> None:
    torch.manual_seed(0)
    labels = torch.arange(5000) % 3
    large = Source(torch.rand(5000, 3, 8, 8), labels, torch.rand(100, 3, 8, 8), labels[:100], 3)
    summary = identify(large)
    assert len(summary["inputs"]) == 128
    assert summary == identify(copy.deepcopy(large))
    assert summary["inputs"] != identify(large._replace(inputs=large.inputs.flip(3)))["inputs"]
    assert len(identify(large._replace(inputs=torch.complex(large.inputs, large.inputs)))["inputs"]) == 128
    assert identify(large._replace(inputs=large.inputs[:, 0, 0, 0]))["shapes"][0] == [5000]


@pytest.mark.parametrize(("given", "expected"), [(None, "0"), ("7", "7")])
def test_workers_have_the_same_order_of_sets(given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if given:
        monkeypatch.setenv("PYTHONHASHSEED", given)
    process = start_process(["python", "-c", "import os; print(os.environ['PYTHONHASHSEED'])"], {})
    assert process.communicate()[0].strip() == expected
