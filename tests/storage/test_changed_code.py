"""A correction of code that has no result: the study continues, and no worker goes on with the wrong code."""

from collections import Counter
from typing import Any

import pytest
from storage_study import definition, finish_all, known_for_long, outcomes

from hpo.errors import UsageError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Work, open_study
from hpo.worker.loop import run_worker

PLANNED = {"trials": 12, "seeds": 3, "tuning_runs": 1}
CODE = {"net": "n", "a": "typo", "b": "b", "both": "c"}
USERS = {"a": ["A"], "b": ["B"], "both": ["A", "B"], "new": ["A"]}


def opened(engine: Any, users: dict[str, list[str]] | None = None, accept: bool = False, **changes: str) -> Ledger:
    text = {"code": {"users": USERS if users is None else users}}
    code = {name: digest for name, digest in {**CODE, **changes}.items() if digest}
    return known_for_long(open_study(engine, "s", definition(), "d", PLANNED, text, code, accept_changed_code=accept))


def fails_for_a(work: Work) -> Any:
    if work.configuration == "A":
        raise ValueError("a typo")
    return outcomes(work)


def states(ledger: Ledger) -> Counter[tuple[str, str]]:
    return Counter((row["configuration"], row["state"]) for row in ledger.export()["slots"])


@pytest.fixture
def failed(url: str) -> Ledger:
    """A study whose configuration A has failed, and whose B is finished."""
    ledger = opened(connect(url))
    run_worker(ledger, fails_for_a, "w", 12)
    assert states(ledger) == {("A", "failed"): 15, ("B", "done"): 15}
    return ledger


@pytest.mark.parametrize("changes", [{"a": "right"}, {"a": "right", "new": "x"}, {"a": ""}])
def test_code_without_results_may_be_corrected(changes: dict[str, str], failed: Ledger) -> None:
    before = [row for row in failed.export()["slots"] if row["configuration"] == "B"]
    ledger = opened(failed.engine, **changes)
    assert ledger.warnings == [] and ledger.export()["study"]["notes"] == []
    assert states(ledger) == {("A", "open"): 15, ("B", "done"): 15}
    finish_all(ledger)
    assert states(ledger) == {("A", "done"): 15, ("B", "done"): 15}
    assert [row for row in ledger.export()["slots"] if row["configuration"] == "B"] == before
    with pytest.raises(UsageError, match="--accept-changed-code"):  # now it has results
        opened(failed.engine, **{**changes, "a": "other"})


@pytest.mark.parametrize("changes", [{"b": "x"}, {"both": "x"}, {"net": "x"}, {"a": "x", "net": "x"}, {"unknown": "x"}])
def test_code_that_others_may_use_is_refused(changes: dict[str, str], failed: Ledger) -> None:
    with pytest.raises(UsageError, match="--accept-changed-code"):
        opened(failed.engine, **changes)
    assert states(failed) == {("A", "failed"): 15, ("B", "done"): 15}


def test_users_before_the_change_count_and_so_do_those_after(failed: Ledger) -> None:
    """A function that was everybody's may become the function of one configuration, and the other way round."""
    with pytest.raises(UsageError):
        opened(failed.engine, {**USERS, "both": ["A"]}, both="x")
    with pytest.raises(UsageError):
        opened(failed.engine, {**USERS, "a": ["A", "B"]}, a="x")
    with pytest.raises(UsageError):
        opened(failed.engine, {}, a="x")


def test_one_result_is_enough_to_refuse(url: str) -> None:
    ledger = opened(connect(url))
    while (work := ledger.lease("w", 1)) and work.configuration != "A":
        ledger.finish("w", outcomes(work))
    assert work
    with pytest.raises(UsageError, match="--accept-changed-code"):  # it is being trained
        opened(ledger.engine, a="right")
    work = ledger.assign("w", work, [{"learning_rate": 0.01, "lambda": 0.0, "momentum": 0.9}])
    ledger.finish("w", outcomes(work))
    with pytest.raises(UsageError, match="--accept-changed-code"):
        opened(ledger.engine, a="right")


def test_attempts_at_open_slots_count_no_more(url: str) -> None:
    ledger = opened(connect(url))
    while (work := ledger.lease("w", 1)) and work.configuration != "A":
        ledger.finish("w", outcomes(work))
    assert work
    work = ledger.assign("w", work, [{"learning_rate": 0.01, "lambda": 0.0, "momentum": 0.9}])
    ledger.fail("w", work.slots, "exception", "typo")
    corrected = opened(ledger.engine, a="right")
    assert {row["attempt"] for row in corrected.export()["slots"] if row["configuration"] == "A"} == {0}


def test_a_worker_with_the_wrong_code_takes_no_more_work(failed: Ledger) -> None:
    """It has trained already, and is idle when the code is corrected; it may continue when that is undone."""
    assert failed.lease("w", 1) is None
    opened(failed.engine, a="right")
    with pytest.raises(UsageError, match="other code"):
        failed.lease("w", 1)
    assert states(failed)["A", "open"] == 15
    opened(failed.engine)
    assert failed.lease("w", 1)


def test_a_worker_continues_where_both_codes_were_accepted(failed: Ledger) -> None:
    opened(failed.engine, accept=True, net="x")
    assert failed.lease("w", 1)
