"""The two programs that say what a study costs."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo import MLP, Cifar100, Configuration, Mnist1d, ResNet, Study, log_range
from tests.benchmarks import gpu_cost, study_cost

pytestmark = pytest.mark.usefixtures("one_thread")


def test_operations_of_a_run_are_those_of_its_passes() -> None:
    network = ResNet(18, 100)
    with FlopCounterMode(display=False) as counter:
        network()(torch.zeros(2, 3, 32, 32))
    forward = counter.get_total_flops() / 2
    entries = (Configuration("SGD", "sgd"), Configuration("SAM", "sgd", "sam"))
    study = Study(Cifar100(validation=0.1), network, entries, "SGD", batch_size=128, epochs=3)
    assert gpu_cost.forward_operations(study) == forward
    for entry, gradients in zip(entries, (1, 2), strict=True):
        passes = 3 * (45_000 * 3 * gradients + 5_000)
        assert gpu_cost.operations(study, entry) == pytest.approx(passes * forward, rel=1e-12)


@pytest.mark.parametrize("name", list(gpu_cost.references()))
def test_the_page_of_studies_has_what_the_program_prints(name: str) -> None:
    page = (gpu_cost.STUDIES / "README.md").read_text(encoding="utf-8")
    command = re.search(r"gpu_cost\.py --tera (\d+) --price (\d+)", page)
    assert command
    assert gpu_cost.row(name, float(command[1]), float(command[2])) in page.splitlines()


def test_the_table_of_costs_has_no_other_studies() -> None:
    page = (gpu_cost.STUDIES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `hpo run (\S+)` \| [\d,]+ × ", page, re.MULTILINE)
    assert rows == list(gpu_cost.references())


def test_minutes_of_a_study_are_those_of_its_trials_and_reruns() -> None:
    entries = (Configuration("A", trials=5), Configuration("B", space={"learning_rate": log_range(1e-3, 1e-2)}))
    study = Study(
        Mnist1d(samples=400), MLP((40, 8, 10)), entries, "A",
        epochs=6, tuning_epochs=2, trials=10, tuning_runs=3, seeds=6,
    )  # fmt: skip
    cost = study_cost.Cost(population=4, epoch=0.5, once=2.0)
    assert study_cost.minutes(study, "A", cost) == pytest.approx(((15 * 2 + 6 * 6) * 0.5 + 6 * 2.0) / 60)
    assert study_cost.minutes(study, "B", cost) == pytest.approx(((30 * 2 + 6 * 6) * 0.5 + 9 * 2.0) / 60)
    measured = study_cost.measure(study, "B", 20)
    assert measured.epoch > 0 and measured.population > 1
