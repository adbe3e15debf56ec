"""All workers of a study train on the same samples: who was given others is refused."""

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
from hpo.api import run
from hpo.data import Source, check_source, identify
from hpo.errors import UsageError
from hpo.report import read_record
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, load_study
from hpo.worker.processes import _start
from tests.data.test_data_loading import Clouds, plain
from tests.report.golden_studies import opened

pytestmark = pytest.mark.usefixtures("one_thread")


def shuffled(seed: int) -> Source:
    source = plain()
    order = torch.randperm(len(source.labels), generator=torch.Generator().manual_seed(seed))
    return source._replace(inputs=source.inputs[order], labels=source.labels[order])


SAME = {
    "the same": plain,
    "rounded otherwise": lambda: plain()._replace(inputs=plain().inputs * (1 + 2e-7)),
    "checked": lambda: check_source(plain()),
}
OTHER = {
    "shuffled": (lambda: shuffled(1), "labels"),
    "fewer": (lambda: plain()._replace(inputs=plain().inputs[:39], labels=plain().labels[:39]), "shapes"),
    "other test labels": (lambda: plain()._replace(test_labels=plain().test_labels.flip(0)), "labels"),
    "with noise": (lambda: plain()._replace(inputs=plain().inputs + torch.linspace(0, 1, 160).view(40, 4)), "inputs"),
    "features exchanged": (lambda: plain()._replace(inputs=plain().inputs.flip(1)), "inputs"),
    "noise in the test set": (
        lambda: plain()._replace(test_inputs=plain().test_inputs + torch.linspace(0, 1, 80).view(20, 4)), "inputs",
    ),
}  # fmt: skip


@pytest.fixture
def ledger(url: str) -> Ledger:
    return opened(connect(url), "s", ("A", "B"), trials=4, seeds=1)


def worker(ledger: Ledger, worker_id: str) -> str:
    ledger.register(worker_id, "cpu", {"torch": "2"})
    return worker_id


@pytest.mark.parametrize("case", [*SAME, *OTHER])
def test_a_second_worker_needs_the_same_samples(case: str, ledger: Ledger) -> None:
    first, second = worker(ledger, "h+1:1:1:a"), worker(ledger, "h+1:2:1:b")
    assert ledger.lease(first, 1, 60)
    ledger.note_data(first, identify(plain()))
    if case in SAME:
        ledger.note_data(second, identify(SAME[case]()))
    else:
        make, what = OTHER[case]
        with pytest.raises(UsageError, match=f"other {what} here"):
            ledger.note_data(second, identify(make()))
    stored = {row["worker_id"]: "data" in row["environment"] for row in ledger.export()["workers"]}
    assert stored[first] and stored[second] == (case in SAME)


def test_samples_that_nothing_was_made_with_do_not_count(ledger: Ledger) -> None:
    """Of a worker that has given its work back; those of one that has finished something do, for ever."""
    first, second = worker(ledger, "h+1:1:1:a"), worker(ledger, "h+1:2:1:b")
    work = ledger.lease(first, 1, 60)
    assert work is not None
    ledger.note_data(first, identify(shuffled(1)))
    ledger.release(first)
    ledger.note_data(second, identify(plain()))
    held = ledger.lease(second, 1, 60)
    assert held is not None
    held = ledger.assign(second, held, [{"learning_rate": 0.1}])
    ledger.finish(second, [Outcome(held.slots[0].id, held.slots[0].attempt, 0.5)])
    with pytest.raises(UsageError, match="other labels here"):
        ledger.note_data(first, identify(shuffled(1)))


def test_the_report_shows_no_samples_among_the_versions(tmp_path: Path) -> None:
    ledger = opened(connect(f"sqlite:///{tmp_path}/t.db"), "s", ("A", "B"), trials=4, seeds=1)
    worker_id = worker(ledger, "h+1:1:1:a")
    before = compute_numbers(read_record(ledger)).environments
    ledger.note_data(worker_id, identify(plain()))
    assert compute_numbers(read_record(ledger)).environments == before
    assert "data" not in before[0]


@dataclass(frozen=True)
class Drawn(Clouds):
    """In an order that is each process's own."""

    def load(self) -> Source:
        return shuffled(int(os.environ["ORDER"]))


def study(data: Any) -> Study:
    return Study(
        name="s", data=data, model=lambda: nn.Linear(4, 3), epochs=1, trials=1, seeds=1, batch_size=8, baseline="A",
        configurations=(Configuration("A"), Configuration("B", optimizer="sgd")),
    )  # fmt: skip


def test_a_study_is_not_resumed_with_other_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, reports = f"sqlite:///{tmp_path}/t.db", tmp_path / "reports"
    for data, refused in ((Clouds(), False), (Drawn(), True)):
        made = study(data)
        storage = f"sqlite:///{tmp_path}/{type(data).__name__}.db"
        monkeypatch.setenv("ORDER", "0")
        run(made, storage, "cpu", population=1, reports=reports)
        monkeypatch.setenv("ORDER", "1")
        if refused:
            with pytest.raises(UsageError, match="load\\(\\) gives other labels here"):
                run(made, storage, "cpu", population=1, trials=2, reports=reports)
        else:
            run(made, storage, "cpu", population=1, trials=2, reports=reports)
        counts = load_study(connect(storage), "s").counts()
        assert [entry["trials_done"] for entry in counts.values()] == [1 if refused else 2] * 2


def test_few_numbers_tell_large_sources_apart() -> None:
    torch.manual_seed(0)
    large = Source(
        torch.rand(5000, 3, 8, 8), torch.arange(5000) % 3, torch.rand(100, 3, 8, 8), torch.arange(100) % 3, 3
    )
    found = identify(large)
    assert len(found["inputs"]) == 128
    assert found == identify(copy.deepcopy(large))
    assert found["inputs"] != identify(large._replace(inputs=large.inputs.flip(3)))["inputs"]
    complex_inputs = large._replace(inputs=torch.complex(large.inputs, large.inputs))
    assert len(identify(complex_inputs)["inputs"]) == 128
    assert identify(large._replace(inputs=large.inputs[:, 0, 0, 0]))["shapes"][0] == [5000]


@pytest.mark.parametrize(("given", "expected"), [({}, "0"), ({"PYTHONHASHSEED": "7"}, "7")])
def test_workers_have_one_order_of_sets(given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    process = _start(["python", "-c", "import os; print(os.environ['PYTHONHASHSEED'])"], {})
    assert process.communicate()[0].strip() == expected
