"""Failed attempts: which of them count, what is stored of them, and what is reopened when the code has changed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from storage_study import best, definition, finish_all, known_for_long, make, outcomes

from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, new_worker_id, open_study
from hpo.storage.ledger.lost_workers import LOST
from hpo.storage.ledger.retries import MAX_ATTEMPTS
from hpo.trials import CAUSES
from hpo.worker.loop import run_worker
from tests.storage.test_ledger import rows, take

Train = Callable[[Work], list[Outcome]]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(connect(f"sqlite:///{tmp_path}/t.db"))


def with_changed_code(ledger: Ledger, **planned: int) -> Ledger:
    numbers = {"trials": 12, "seeds": 3, "tuning_runs": 1} | planned
    changed = ("s", definition(), "d", numbers, {"title": "t"}, {"loss": "bb"})
    return known_for_long(open_study(ledger.engine, *changed, accept_changed_code=True))


def states(ledger: Ledger, configuration: str) -> Counter[tuple[str, str, str | None]]:
    selected = [row for row in ledger.export()["slots"] if row["configuration"] == configuration]
    return Counter((row["phase"], row["state"], row["cause"]) for row in selected)


def fails_for_a(error: Exception) -> Train:
    """Training that raises for configuration A."""

    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A":
            raise error
        return outcomes(work)

    return train


def work_through(ledger: Ledger, train: Train, population: int = 12) -> None:
    run_worker(ledger, train, new_worker_id(), population)
    assert ledger.state() == "done"


def test_every_cause_has_a_number_of_attempts() -> None:
    assert set(CAUSES) == {"diverged", LOST, *MAX_ATTEMPTS}


@pytest.mark.parametrize(("cause", "attempts"), [("exception", 2), ("timeout", 3), ("out of memory", 3)])
def test_a_trial_out_of_attempts_gets_another_setting(url: str, cause: str, attempts: int) -> None:
    ledger = make(connect(url))
    for attempt in range(1, attempts + 1):
        [slot] = take(ledger, "x", limit=1).slots
        assert (slot.slot, slot.attempt, slot.replacements) == (0, attempt, 0)
        assert ledger.fail("x", [slot], cause, "why") == [slot.id]
    first = rows(ledger)[0]
    assert (first["state"], first["setting"], first["attempt"]) == ("open", None, 0)
    assert [entry["setting"] for entry in ledger.export()["failures"]] == [slot.setting] * attempts
    assert ledger.counts()["A"]["failures"] == {cause: attempts}
    assert take(ledger, "x", limit=1).slots[0].replacements == 1


def test_attempts_are_counted_by_cause(ledger: Ledger) -> None:
    """After a lost worker and one exception a setting gets a second exception; three of any cause are the maximum."""

    def attempt(cause: str) -> tuple[int, Any, int]:
        [slot] = take(ledger, "elsewhere:1:0:x", 1).slots
        ledger.fail("elsewhere:1:0:x", [slot], cause, "words")
        row = next(row for row in ledger.export()["slots"] if row["id"] == slot.id)
        return row["slot"], row["setting"], row["attempt"]

    setting = {"learning_rate": 0.001}
    assert [attempt(cause) for cause in ("lost worker", "exception", "exception")] == [
        (0, setting, 1), (0, setting, 2), (0, None, 0),
    ]  # fmt: skip
    [first, _, last] = [attempt(cause) for cause in ("timeout", "lost worker", "out of memory")]
    assert first[0] == last[0] and last[1:] == (None, 0)


def test_a_configuration_out_of_settings_fails_alone(url: str) -> None:
    ledger = make(connect(url))
    replaced = 0
    while rows(ledger)[0]["state"] != "failed":
        work = take(ledger, "x", limit=1)
        if work.configuration == "B":
            ledger.finish("x", outcomes(work))
        else:
            ledger.fail("x", work.slots, "exception", "Traceback")
            replaced += work.slots[0].attempt == 2
    assert replaced == 6  # more than max(5, 12 / 4)
    finish_all(ledger)
    assert states(ledger, "A") == {("tune", "failed", "exception"): 12, ("rerun", "failed", "exception"): 3}
    assert states(ledger, "B") == {("tune", "done", None): 12, ("rerun", "done", None): 3}
    assert ledger.state() == "done"
    assert make(ledger.engine, trials=14).state() == "work"  # two trials of B; A stays failed
    assert states(ledger, "A")["tune", "failed", "exception"] == 14


def test_a_rerun_out_of_attempts_stays_failed(ledger: Ledger) -> None:
    finish_all(ledger, until="rerun")
    for _ in range(2):
        ledger.fail("x", take(ledger, "x", limit=1).slots, "exception", "Traceback")
    finish_all(ledger)
    reruns = [(row["state"], row["cause"]) for row in rows(ledger, "A", "rerun")]
    assert reruns == [("failed", "exception"), ("done", None), ("done", None)]
    assert ledger.state() == "done" and ledger.counts()["A"]["failed"] == 1


def test_changed_code_opens_a_failed_configuration_completely(url: str) -> None:
    ledger = make(connect(url))
    work_through(ledger, fails_for_a(ValueError("a defect")))
    assert ledger.counts()["A"]["failed"] == 15
    slot = next(row["id"] for row in rows(ledger) if row["slot"] == 11)
    with ledger.engine.begin() as connection:  # one slot was leased when the rest failed, and timed out
        connection.exec_driver_sql(f"update hpo_slots set cause = 'timeout' where id = {slot}")
    fixed = with_changed_code(ledger)
    assert states(fixed, "A") == {("tune", "open", None): 12, ("rerun", "open", None): 3}
    work_through(fixed, outcomes)
    assert states(fixed, "A") == {("tune", "done", None): 12, ("rerun", "done", None): 3}
    chosen = best(fixed, "A")
    assert chosen is not None
    assert [row["setting"] for row in rows(fixed, "A", "rerun")] == [chosen["setting"]] * 3


def test_changed_code_may_fail_as_often_as_new_code(ledger: Ledger) -> None:
    work_through(ledger, fails_for_a(ValueError("a defect")))
    fixed = with_changed_code(ledger)

    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A" and any(slot.slot == 3 and slot.replacements == 0 for slot in work.slots):
            raise ValueError("one setting still fails")
        return outcomes(work)

    work_through(fixed, train, population=1)
    assert states(fixed, "A") == {("tune", "done", None): 12, ("rerun", "done", None): 3}


def test_a_configuration_that_failed_for_memory_gets_no_reruns(ledger: Ledger) -> None:
    """It stays failed when seeds are raised and the code changes: tuning has chosen no setting."""
    work_through(ledger, fails_for_a(MemoryError()), population=1)
    changed = with_changed_code(ledger, seeds=5)
    work_through(changed, outcomes, population=5)
    assert states(changed, "A") == {("tune", "failed", "out of memory"): 12, ("rerun", "failed", "out of memory"): 5}
    assert states(changed, "B") == {("tune", "done", None): 12, ("rerun", "done", None): 5}


@pytest.mark.parametrize("text", ["a NUL \0 inside", "half a character \udce4 of a file's name"])
def test_characters_that_no_database_stores_are_replaced(url: str, text: str) -> None:
    ledger = make(connect(url))
    ledger.fail("x", take(ledger, "x", limit=1).slots, "exception", text)
    [failure] = ledger.export()["failures"]
    assert failure["message"].split()[0] == text.split()[0] and failure["message"] != text


def test_a_worker_with_other_code_is_refused_or_accepted_with_a_note(tmp_path: Path) -> None:
    from hpo import MLP, Configuration, Mnist1d, Study, api

    def study(share: float) -> Study:
        def schedule(step: int, steps: int, _: int) -> float:
            return 1 - share * step / steps

        return Study(
            data=Mnist1d(samples=100), model=MLP((40, 8, 10)), schedule=schedule, name="s", baseline="A",
            configurations=(Configuration("A"), Configuration("B")),
        )  # fmt: skip

    url = f"sqlite:///{tmp_path}/t.db"
    opened = api.open_ledger(study(1.0), url, trials=3, seeds=2, command="hpo run s --trials 3 --seeds 2")
    assert opened.lease("another worker", 1)
    assert api.join_ledger(study(1.0), url).warnings == []
    with pytest.raises(UsageError, match=r"the code of study 's' changed since its first trials \(schedule: share\)"):
        api.join_ledger(study(0.5), url)
    joined = api.join_ledger(study(0.5), url, accept_changed_code=True)
    assert any("the code changed since the last run" in warning for warning in joined.warnings)
    stored = joined.export()["study"]
    assert len(stored["notes"]) == 1 and stored["trials"] == 3
    assert stored["text"]["command"] == "hpo run s --trials 3 --seeds 2"
