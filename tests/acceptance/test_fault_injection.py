"""A few schedules of faults; `python tests/support/fault_injection.py` runs any number of them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fault_injection
import pytest
from failing_storages import KINDS, FailingPostgres, FailingSqlite, failing_storage
from fault_run import carry_out
from fault_schedules import draw
from fork_server import ForkServer

SEEDS = {"sqlite": [6, 19], "postgresql": [1, 9], "pgbouncer": [5, 8]}
OF_WORKERS = {"kill", "pause", "stop", "start"}


@pytest.fixture(scope="module", params=KINDS)
def failing(request: pytest.FixtureRequest) -> Iterator[tuple[str, FailingSqlite | FailingPostgres]]:
    """A kind of database, and databases of this kind that fail in every way."""
    databases = failing_storage(request.param, lambda: request.getfixturevalue("stoppable_postgresql"))
    yield request.param, databases
    databases.close()


def test_the_schedules_have_every_fault_and_number_of_workers() -> None:
    schedules = {kind: [draw(seed, KINDS[kind]) for seed in seeds] for kind, seeds in SEEDS.items()}
    faults = {
        kind: {fault.kind for schedule in drawn for fault in schedule.faults} for kind, drawn in schedules.items()
    }
    assert set().union(*faults.values()) == OF_WORKERS.union(*KINDS.values())
    assert all(len(found - OF_WORKERS) >= 3 for found in faults.values())
    assert {schedule.workers for drawn in schedules.values() for schedule in drawn} == {1, 2, 8}


@pytest.mark.parametrize("number", [0, 1])
def test_every_trial_is_finished_once(
    failing: tuple[str, FailingSqlite | FailingPostgres], number: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    kind, databases = failing
    carry_out(draw(SEEDS[kind][number], KINDS[kind]), fork_server, databases, tmp_path)


def test_a_failed_schedule_names_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    folders: list[Path] = []

    def fail(*arguments: object) -> Counter[str]:
        folders.append(Path(str(arguments[-1])))
        raise AssertionError("budget")

    with pytest.raises(SystemExit, match="1"):
        fault_injection.run_experiment("--schedules 1 --seed 20", fail, None, None, "sqlite")  # type: ignore[arg-type]
    text = capsys.readouterr().err
    assert "AssertionError: budget" in text and str(folders[0]) in text and folders[0].is_dir()
    assert "python tests/support/fault_injection.py --storage sqlite --schedules 1 --seed 20" in text
    folders[0].rmdir()
