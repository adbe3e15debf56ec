"""The worker's loop: failures, memory, signals, and a mirror that fails."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from storage_study import known_for_long, make, outcomes
from waiting import wait_for

from hpo.errors import HpoError, UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.lease_heartbeat import LeaseHeartbeat
from hpo.worker.loop import run_worker
from hpo.worker.signals import Stop, Stopped, stop_after


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(connect(f"sqlite:///{tmp_path}/t.db"))


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's."""


def test_a_worker_completes_a_study(url: str) -> None:
    ledger, events = make(connect(url)), list[str]()
    run_worker(ledger, outcomes, new_worker_id(), population=5, on_event=lambda kind, _: events.append(kind))
    counts = ledger.counts()
    assert [(counts[name]["trials_done"], counts[name]["reruns_done"]) for name in "AB"] == [(12, 3)] * 2
    assert set(events) == {"leased", "finished"} and events.count("leased") == events.count("finished")


def test_settings_do_not_depend_on_the_population(tmp_path: Path) -> None:
    settings = []
    for population in (1, 4, 20):
        ledger = make(connect(f"sqlite:///{tmp_path}/{population}.db"), trials=12)
        run_worker(ledger, outcomes, new_worker_id(), population)
        rows = [row for row in ledger.export()["slots"] if row["phase"] == "tune"]
        settings.append({(row["configuration"], row["slot"]): row["setting"] for row in rows})
    assert settings[0] == settings[1] == settings[2]
    assert len({setting["learning_rate"] for setting in settings[0].values()}) == 24


def test_only_the_failing_slot_of_a_population_fails(ledger: Ledger) -> None:
    def train(work: Work) -> list[Outcome]:
        if any(slot.slot == 3 and slot.tuning_run == 0 and slot.replacements == 0 for slot in work.slots):
            raise ValueError("slot 3 is bad")
        return outcomes(work)

    tune_only = make(ledger.engine, "t", seeds=1)
    run_worker(tune_only, train, new_worker_id(), population=5)
    failures = tune_only.export()["failures"]
    slots = {row["id"]: row for row in tune_only.export()["slots"]}
    assert {slots[entry["slot_id"]]["slot"] for entry in failures} == {3}
    assert [entry["attempt"] for entry in failures] == [1, 2, 1, 2]  # both configurations, two attempts each
    assert all("ValueError: slot 3 is bad" in entry["message"] for entry in failures)
    assert tune_only.counts()["A"]["trials_done"] == 12


def test_out_of_memory_halves_the_population_of_a_configuration(ledger: Ledger) -> None:
    sizes = []

    def train(work: Work) -> list[Outcome]:
        sizes.append(len(work.slots))
        if len(work.slots) > 3:
            raise OutOfMemoryError("CUDA out of memory")
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=20)
    assert sizes[:7] == [10, 5, 2, 2, 2, 2, 2]
    assert sizes[7:14] == [10, 5, 2, 2, 2, 2, 2]  # the other configuration may need less memory
    assert max(sizes[14:]) == 2
    assert ledger.export()["failures"] == [] and ledger.counts()["A"]["trials_done"] == 12


def test_a_single_slot_out_of_memory_fails_after_three_attempts(tmp_path: Path) -> None:
    ledger = make(connect(f"sqlite:///{tmp_path}/t.db"), trials=2, seeds=1)

    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A":
            raise MemoryError
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=1)
    counts = ledger.counts()
    assert counts["A"]["failures"].keys() == {"out of memory"} and counts["A"]["failed"] == 3
    assert counts["B"]["trials_done"] == 2 and counts["B"]["reruns_done"] == 1


def test_the_population_size_is_computed_once(ledger: Ledger) -> None:
    sizes: dict[str, list[int]] = {"A": [], "B": []}
    leased = []

    def train(work: Work) -> list[Outcome]:
        sizes[work.configuration].append(len(work.slots))
        return outcomes(work)

    def size() -> int:
        leased.append(ledger.counts()["A"]["leased"])
        return 3

    run_worker(ledger, train, new_worker_id(), size)
    assert leased == [0], "before the first lease"
    assert sizes == {"A": [3, 3, 2, 2, 2, 3], "B": [3, 3, 2, 2, 2, 3]}  # batches of 10 and 2, and 3 reruns
    assert {row["attempt"] for row in ledger.export()["slots"]} == {1} and ledger.state() == "done"
    run_worker(ledger, train, new_worker_id(), size)
    assert leased == [0], "a finished study needs no size"


def test_populations_do_not_depend_on_the_number_of_workers_or_on_kills(tmp_path: Path) -> None:
    def run_study(name: str, workers: int, lost: int) -> tuple[set[Any], dict[Any, Any]]:
        ledger = make(connect(f"sqlite:///{tmp_path}/{name}.db"), trials=12, seeds=4, tuning_runs=3)
        populations: list[Any] = []
        deaths = iter(range(lost))

        def train(work: Work) -> list[Outcome]:
            if next(deaths, None) is not None:
                raise Stopped(signal.SIGTERM)
            slots = sorted((slot.tuning_run, slot.slot) for slot in work.slots)
            populations.append((work.configuration, work.phase, tuple(slots)))
            return outcomes(work)

        def run() -> None:
            with suppress(Stopped):
                run_worker(known_for_long(load_study(ledger.engine, "s")), train, new_worker_id(), 8)

        while ledger.state() != "done":
            threads = [threading.Thread(target=run) for _ in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(set(populations)) == len(populations)
        rows = ledger.export()["slots"]
        settings = {(row["configuration"], row["tuning_run"], row["slot"]): row["setting"] for row in rows}
        return set(populations), settings

    populations, settings = run_study("one", 1, 0)
    assert max(len(slots) for _, _, slots in populations) == 8
    assert {len({tuning_run for tuning_run, _ in slots}) for _, _, slots in populations} >= {1, 2, 3}
    assert run_study("three", 3, 0) == run_study("lost", 1, 4) == (populations, settings)


def test_a_usage_error_stops_the_worker_and_is_no_attempt(ledger: Ledger) -> None:
    def train(_: Work) -> list[Outcome]:
        raise UsageError("the network has a BatchNorm layer; use GroupNorm")

    with pytest.raises(UsageError, match="GroupNorm"):
        run_worker(ledger, train, new_worker_id(), population=5)
    assert_released(ledger)


def assert_released(ledger: Ledger) -> None:
    assert {(row["state"], row["attempt"]) for row in ledger.export()["slots"]} == {("open", 0)}
    assert ledger.export()["failures"] == []


def test_a_slot_without_an_outcome_is_a_failure(ledger: Ledger) -> None:
    short = [True]

    def train(work: Work) -> list[Outcome]:
        return outcomes(work)[1:] if short and short.pop() else outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=5)
    assert [entry["cause"] for entry in ledger.export()["failures"]] == ["exception"]
    assert ledger.state() == "done"


def kill_and_wait(number: int) -> Callable[..., Any]:
    """A function that sends its process a signal and is then interrupted."""

    def wait(*_: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)
        pytest.fail("the signal did not interrupt")

    return wait


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_releases_the_leased_slots(ledger: Ledger, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        run_worker(ledger, kill_and_wait(number), new_worker_id(), population=5)
    assert caught.value.code == 128 + number and signal.getsignal(number) is before
    assert_released(ledger)
    assert sum(row["setting"] is not None for row in ledger.export()["slots"]) == 5, "settings are kept"
    run_worker(ledger, outcomes, new_worker_id(), population=5)
    assert ledger.state() == "done"


def test_a_signal_while_the_population_size_is_computed_stops_the_worker(ledger: Ledger) -> None:
    with pytest.raises(Stopped):
        run_worker(ledger, outcomes, new_worker_id(), kill_and_wait(signal.SIGTERM))
    assert_released(ledger)


def test_a_second_signal_does_not_interrupt_the_release(ledger: Ledger) -> None:
    release = ledger.release

    def signalled(*arguments: Any) -> list[int]:
        os.kill(os.getpid(), signal.SIGINT)
        return release(*arguments)

    ledger.release = signalled  # type: ignore[method-assign]
    with pytest.raises(Stopped) as caught:
        run_worker(ledger, kill_and_wait(signal.SIGTERM), new_worker_id(), population=5)
    assert caught.value.number == signal.SIGTERM
    assert_released(ledger)


def test_a_signal_outside_training_waits_for_the_next_safe_moment() -> None:
    stop = Stop()
    with stop.installed():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # remembered, not raised
        with pytest.raises(Stopped), stop.interruptible():
            pytest.fail("the signal came first")


def test_a_failing_mirror_stops_nothing_and_is_reported_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no disk")

    events: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for name in ("begin", "finish", "fail", "repair"):
            patch.setattr(Mirror, name, broken)
        run_worker(ledger, outcomes, new_worker_id(), 5, on_event=lambda kind, _: events.update([kind]))
    assert events["mirror"] == 1 and ledger.state() == "done"
    assert Mirror(ledger).repair() == 30


def test_leases_are_extended_while_training(ledger: Ledger) -> None:
    def lease_ends() -> list[float]:
        return [row["lease_until"] for row in ledger.export()["slots"] if row["worker_id"] == "x"]

    work = ledger.lease("x", 5, 1.0)
    assert work is not None
    end = max(lease_ends())
    heartbeat = LeaseHeartbeat(ledger, "x", 3.0)
    with heartbeat:
        heartbeat.hold(work)
        wait_for(lambda: min(lease_ends()) > end and time.time() > end)
        other = ledger.lease("y", 20)
        assert other is not None and {slot.id for slot in other.slots}.isdisjoint({slot.id for slot in work.slots})
    assert ledger.export()["failures"] == []
    assert "hpo-heartbeat" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("duration", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1d2h", 93600)]
)
def test_a_time_limit_is_read(duration: str, seconds: float) -> None:
    try:
        stop_after(duration)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(seconds, abs=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize("duration", ["", "soon", "0", "45", "0h", "-1h", "2 h", "1.5h", "h"])
def test_a_time_limit_that_cannot_be_read_is_refused(duration: str) -> None:
    with pytest.raises(UsageError, match=f"--max-time is '{duration}'"):
        stop_after(duration)


def test_the_time_limit_stops_the_worker(ledger: Ledger) -> None:
    def train(work: Work) -> list[Outcome]:
        time.sleep(20)
        return outcomes(work)

    stop_after("1s")
    with pytest.raises(Stopped) as caught:
        run_worker(ledger, train, new_worker_id(), population=5)
    assert caught.value.code == 128 + signal.SIGALRM
    assert_released(ledger)


def test_the_last_resort_knows_whether_the_main_thread_has_released_the_leases(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, answers = Stop(), list[bool]()

    def end(*_: object) -> None:
        """As the thread that ends an overdue process, while the database cannot be reached."""
        assert stop.last_resort
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "release", refuse)
            answers.append(stop.last_resort())

    def refuse(*_: object) -> None:
        raise HpoError("unavailable")

    def train(_: Work) -> list[Outcome]:
        end()
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(Mirror, "release", end)
    with pytest.raises(Stopped):
        run_worker(ledger, train, new_worker_id(), population=5, stop=stop)
    assert answers == [False, True]
