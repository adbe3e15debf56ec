"""What becomes of work that failed: which attempts count, what is stored of them, and what mended code opens again."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import storage_study
from storage_study import definition, known_for_long, make, outcomes

from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, new_worker_id, open_study
from hpo.worker.loop import run_worker


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url))


def mended(ledger: Ledger, **planned: int) -> Ledger:
    """The study as it is opened once the user's code has changed."""
    numbers = {"trials": 12, "seeds": 3, "tuning_runs": 1} | planned
    changed = ("s", definition(), "d", numbers, {"title": "t"}, {"loss": "bb"})
    return known_for_long(open_study(ledger.engine, *changed, accept_changed_code=True))


def states(ledger: Ledger, configuration: str) -> Counter[tuple[str, str, str | None]]:
    rows = [row for row in ledger.export()["slots"] if row["configuration"] == configuration]
    return Counter((row["phase"], row["state"], row["cause"]) for row in rows)


def broken(work: Work) -> list[Outcome]:
    """Training that raises for one configuration."""
    if work.configuration == "A":
        raise ValueError("a defect")
    return outcomes(work)


def test_a_configuration_that_was_given_up_is_opened_as_a_whole(ledger: Ledger) -> None:
    run_worker(ledger, broken, new_worker_id(), population=12)
    assert ledger.counts()["A"]["failed"] == 15
    slots = [row["id"] for row in ledger.export()["slots"] if row["configuration"] == "A" and row["slot"] == 11]
    with ledger.engine.begin() as connection:  # one slot was in hand when the rest was given up, and timed out
        connection.exec_driver_sql(f"update hpo_slots set cause = 'timeout' where id = {slots[0]}")
    again = mended(ledger)
    assert states(again, "A") == {("tune", "open", None): 12, ("rerun", "open", None): 3}
    run_worker(again, outcomes, new_worker_id(), population=12)
    assert states(again, "A") == {("tune", "done", None): 12, ("rerun", "done", None): 3}
    best = storage_study.best(again, "A")
    assert best is not None
    reruns = [row for row in again.export()["slots"] if (row["configuration"], row["phase"]) == ("A", "rerun")]
    assert [row["setting"] for row in reruns] == [best["setting"]] * 3


def test_mended_code_has_all_failures_allowed_to_it_again(ledger: Ledger) -> None:
    run_worker(ledger, broken, new_worker_id(), population=12)
    again = mended(ledger)
    first = [True]

    def train(work: Work) -> list[Outcome]:
        if (
            work.configuration == "A"
            and any(slot.slot == 3 and slot.replacements == 0 for slot in work.slots)
            and first
        ):
            raise ValueError("one setting is still bad")
        return outcomes(work)

    run_worker(again, train, new_worker_id(), population=1)
    assert states(again, "A") == {("tune", "done", None): 12, ("rerun", "done", None): 3}


def test_no_rerun_without_a_setting_that_tuning_chose(ledger: Ledger) -> None:
    """A configuration that memory made fail stays failed when seeds are raised and the code changes."""

    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A":
            raise MemoryError
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=1)
    again = mended(ledger, seeds=5)
    run_worker(again, outcomes, new_worker_id(), population=5)
    assert again.state() == "done"
    assert states(again, "A") == {("tune", "failed", "out of memory"): 12, ("rerun", "failed", "out of memory"): 5}
    assert states(again, "B") == {("tune", "done", None): 12, ("rerun", "done", None): 5}


@pytest.mark.parametrize("text", ["a NUL \0 inside", "half a character \udce4 of a file's name"])
def test_what_no_database_stores_is_replaced(ledger: Ledger, text: str) -> None:
    def train(work: Work) -> list[Outcome]:
        if work.configuration == "A":
            raise ValueError(text)
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=12)
    assert ledger.state() == "done" and ledger.counts()["A"]["failures"] == {"exception": 20}
    words = text.split()[0]
    assert all(words in entry["message"] for entry in ledger.export()["failures"])


def test_attempts_are_counted_by_their_cause(ledger: Ledger) -> None:
    """A lost worker and one exception leave a setting its second exception; three of any kind are the end."""
    worker_id = "elsewhere:1:0:x"

    def attempt(cause: str) -> dict[str, object]:
        work = ledger.lease(worker_id, 1)
        assert work is not None
        work = ledger.assign(
            worker_id, work, [{"learning_rate": 0.01}] * sum(slot.setting is None for slot in work.slots)
        )
        ledger.fail(worker_id, work.slots, cause, "words")
        return next(row for row in ledger.export()["slots"] if row["id"] == work.slots[0].id)

    first = attempt("lost worker")
    second = attempt("exception")
    assert first["id"] == second["id"] and second["setting"] == {"learning_rate": 0.01} and second["attempt"] == 2
    third = attempt("exception")
    assert third["setting"] is None and third["attempt"] == 0
    fourth = attempt("timeout")
    attempt("lost worker")
    last = attempt("out of memory")
    assert fourth["id"] == last["id"] and last["setting"] is None and last["attempt"] == 0


def test_a_worker_with_other_code_is_refused_and_the_study_notes_one_that_is_accepted(tmp_path: Path) -> None:
    from hpo import MLP, Configuration, Mnist1d, Study, api

    def study(schedule: object) -> Study:
        return Study(
            data=Mnist1d(samples=100), model=MLP((40, 8, 10)), schedule=schedule, name="s", baseline="A",
            configurations=(Configuration("A"), Configuration("B")),
        )  # fmt: skip

    def falling(share: float) -> Callable[[int, int, int], float]:
        def course(step: int, steps: int, _: int) -> float:
            return 1 - share * step / steps

        return course

    url = f"sqlite:///{tmp_path}/t.db"
    opened = api.open_ledger(study(falling(1.0)), url, trials=3, seeds=2, command="hpo run s --trials 3 --seeds 2")
    assert opened.lease("another worker", 1)
    assert api.join_ledger(study(falling(1.0)), url).warnings == []
    with pytest.raises(UsageError, match=r"the code of study 's' changed since its first trials \(schedule: share\)"):
        api.join_ledger(study(falling(0.5)), url)
    joined = api.join_ledger(study(falling(0.5)), url, accept_changed_code=True)
    assert any("the code changed since the last run" in warning for warning in joined.warnings)
    stored = joined.export()["study"]
    assert (
        len(stored["notes"]) == 1
        and stored["text"]["command"] == "hpo run s --trials 3 --seeds 2"
        and stored["trials"] == 3
    )
