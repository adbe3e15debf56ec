"""Settings that are enqueued with plain Optuna are tried as the next ones, once, or refused aloud."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from storage_study import definition, finish_all, known_for_long, make, outcomes, plain_study

from hpo.search_space import choice, integers, when
from hpo.space import as_json
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Work, load_study, new_worker_id, open_study
from hpo.storage.optuna.enqueued import find_enqueued
from hpo.storage.optuna.enqueued_settings import EnqueuedSettings, refuse_enqueued
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.loop import run_worker

CHOICES = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True, "off": None}, "width": as_json(choice(32, 64)),
    "kind": as_json(choice("a", "b")), "size": as_json(when("kind", "a", integers(1, 9), otherwise=0)), "beta": 0.9,
}  # fmt: skip


def enqueue(url: str, name: str, **values: Any) -> optuna.Study:
    study = plain_study(url, name)
    study.enqueue_trial(values)
    return study


def opened(url: str, first: Sequence[Mapping[str, Any]] = (), **changes: Any) -> Ledger:
    """A study of one configuration with choices, whose Optuna studies exist."""
    entry = {"name": "A", "trials": None, "first": list(first), "space": CHOICES}
    described = definition(configurations=[entry], **changes)
    numbers = {"trials": 12, "seeds": 2, "tuning_runs": 2}
    ledger = known_for_long(open_study(connect(url), "s", described, "d", numbers, {}, {}))
    Mirror(ledger).repair()
    return ledger


def work_on(ledger: Ledger, size: int = 5, events: list[Any] | None = None, limit: int = 999) -> list[Work]:
    """Runs a worker in this process, which stops after `limit` populations; what it trained."""
    trained: list[Work] = []

    def train(work: Work) -> Any:
        trained.append(work)
        return outcomes(work)

    def on_event(kind: str, details: Any) -> None:
        if events is not None and kind == "refused":
            events.append(details["text"])
        if kind == "finished" and len(trained) == limit:
            os.kill(os.getpid(), signal.SIGUSR1)

    try:
        run_worker(ledger, train, new_worker_id(), size, on_event=on_event)
    except SystemExit:
        assert limit < 999
    return trained


def with_rate(works: list[Work], rate: float) -> list[tuple[str, int, int]]:
    """(phase, tuning run, slot) of the slots that train with a learning rate."""
    return [
        (work.phase, slot.tuning_run, slot.slot)
        for work in works for slot in work.slots if (slot.setting or {})["learning_rate"] == rate
    ]  # fmt: skip


def test_an_enqueued_setting_is_the_next_one_once(url: str) -> None:
    ledger = opened(url)
    enqueue(url, "s/A/tune", learning_rate=0.003, width=64, kind="a", size=7)
    enqueue(url, "s/A/tune", learning_rate=0.004)
    enqueue(url, "s/A/tune/r2", learning_rate=0.005, kind="b")
    works = work_on(ledger)
    assert with_rate(works, 0.003)[0] == ("tune", 0, 0) and with_rate(works, 0.004)[0] == ("tune", 0, 1)
    assert [key for key in with_rate(works, 0.005) if key[0] == "tune"] == [("tune", 1, 0)]
    assert len([key for rate in (0.003, 0.004) for key in with_rate(works, rate) if key[0] == "tune"]) == 2
    tuning = [slot for work in works if work.phase == "tune" for slot in work.slots]
    settings = {(slot.tuning_run, slot.slot): slot.setting or {} for slot in tuning}
    assert settings[0, 0] == {"learning_rate": 0.003, "width": 64, "kind": "a", "size": 7}
    assert settings[0, 1].keys() >= {"learning_rate", "width", "kind"} and "size" not in settings[1, 0]
    trials = plain_study(url, "s/A/tune").trials
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 12}
    first = trials[0]
    assert first.params == {"learning_rate": 0.003, "width": 64, "kind": "a", "size": 7}
    assert first.user_attrs["number"] == 1 and first.value == pytest.approx(0.997)
    notes = [note["event"] for note in load_study(ledger.engine, "s").export()["study"]["notes"]]
    assert notes == [
        "A: settings enqueued in Optuna were tried as trial 1 (Optuna's number 0), trial 2 (Optuna's number 1)",
        "A: settings enqueued in Optuna were tried as trial 1 of tuning run 2 (Optuna's number 0)",
    ]


def test_an_enqueued_setting_leaves_the_first_settings_their_trials(url: str) -> None:
    ledger = opened(url, first=[{"learning_rate": 0.001}, {"learning_rate": 0.002}])
    for rate in (0.003, 0.004):
        enqueue(url, "s/A/tune", learning_rate=rate)
    works = work_on(ledger, size=1)
    tuning = [slot for work in works for slot in work.slots if work.phase == "tune" and slot.tuning_run == 0]
    rates = {slot.slot: (slot.setting or {})["learning_rate"] for slot in tuning}
    assert [rates[slot] for slot in range(4)] == [0.001, 0.002, 0.003, 0.004]


def test_a_setting_enqueued_in_the_middle_is_tried_next(url: str) -> None:
    ledger = opened(url)
    begun = work_on(ledger, limit=2)
    tried = sum(len(work.slots) for work in begun if work.phase == "tune")
    enqueue(url, "s/A/tune", learning_rate=0.003)
    enqueue(url, "s/A/tune/r2", learning_rate=0.004)
    works = work_on(ledger)
    tuning = [slot for work in works if work.phase == "tune" for slot in work.slots]
    assert tried + len(tuning) == 24
    for rate, run in ((0.003, 0), (0.004, 1)):
        [key] = [key for key in with_rate(works, rate) if key[0] == "tune"]
        assert key[2] == min(slot.slot for slot in tuning if slot.tuning_run == run)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"learning_rate": 5.0}, "learning_rate is 5.0, which is outside"),
        ({"width": 48}, "width is 48, which is outside 32 or 64"),
        ({"size": 3}, "size only exists where kind is 'a'"),
        ({"momentum": 0.5}, "there is no hyperparameter 'momentum'"),
        ({"beta": 0.5}, "beta is fixed at 0.9"),
    ],
)
def test_what_cannot_be_tried_is_refused_aloud(url: str, values: dict[str, Any], reason: str) -> None:
    ledger, events = opened(url), list[str]()
    enqueue(url, "s/A/tune", **values)
    work_on(ledger, events=events)
    [sentence] = events
    assert reason in sentence and "\n" not in sentence
    [failed] = [trial for trial in plain_study(url, "s/A/tune").trials if trial.state.name == "FAIL"]
    assert failed.user_attrs["cause"] == sentence
    assert sum(trial.state.name == "COMPLETE" for trial in plain_study(url, "s/A/tune").trials) == 12


def test_what_no_trial_is_left_for_is_refused_until_trials_are_raised(url: str) -> None:
    ledger = make(connect(url), trials=4, seeds=2)
    finish_all(ledger)
    Mirror(ledger).repair()
    for name in ("s/A/tune", "s/A/rerun"):
        enqueue(url, name, learning_rate=0.003)
    events: list[str] = []
    work_on(ledger, events=events)
    assert len(events) == 2
    assert any("raise --trials" in text for text in events) and any("reruns have the best" in text for text in events)
    enqueue(url, "s/A/tune", learning_rate=0.003)
    raised = open_study(ledger.engine, "s", definition(), "d", {"trials": 6, "seeds": 2}, {}, {"loss": "aa"})
    works = work_on(known_for_long(raised), events=events)
    assert with_rate(works, 0.003)[0] == ("tune", 0, 4) and len(events) == 2


def test_a_setting_enqueued_during_the_reruns_is_refused_at_their_end(url: str) -> None:
    """The sentence names the trial as Optuna does, and its values; the report has it as well."""
    ledger, events = opened(url), list[str]()

    def train(work: Work) -> Any:
        if work.phase == "rerun" and not [t for t in plain_study(url, "s/A/tune").trials if t.state.name == "WAITING"]:
            enqueue(url, "s/A/tune", learning_rate=0.003, width=64)
        return outcomes(work)

    def on_event(kind: str, details: Any) -> None:
        if kind == "refused":
            events.append(details["text"])

    run_worker(ledger, train, new_worker_id(), 24, on_event=on_event)
    [sentence] = events
    assert all(words in sentence for words in ("A: ", "trial 12 ", "learning_rate 0.003", "width 64", "--trials"))
    assert [note["event"] for note in load_study(ledger.engine, "s").export()["study"]["notes"]] == [sentence]


def test_a_finished_study_refuses_when_it_is_opened(url: str) -> None:
    ledger = make(connect(url), trials=4, seeds=2)
    finish_all(ledger)
    Mirror(ledger).repair()
    assert refuse_enqueued(ledger) == []
    enqueue(url, "s/B/tune", learning_rate=0.003)
    [sentence] = refuse_enqueued(ledger)
    assert sentence.startswith("B: ") and "raise --trials" in sentence
    assert refuse_enqueued(ledger) == []


def test_a_grid_takes_no_other_setting(url: str) -> None:
    grid = {"grid": {"learning_rate": [0.01, 0.02], "size": [1, 2, 3]}}
    ledger, events = opened(url, sampler=grid), list[str]()
    enqueue(url, "s/A/tune", learning_rate=0.003)
    work_on(ledger, events=events)
    assert len(events) == 1 and "grid" in events[0]


def complete(_: str, __: Any, given: Any) -> Any:
    return {"learning_rate": 0.02, "width": 32, "kind": "b", **given}


def test_workers_that_claim_at_once_try_a_setting_once(url: str) -> None:
    ledger = opened(url)
    for number in range(6):
        enqueue(url, "s/A/tune", learning_rate=0.001 * (number + 1))
    works = [ledger.lease(f"worker {number}", 4) for number in range(3)]
    ready, taken = threading.Barrier(3), list[Work]()

    def take(number: int) -> None:
        mirror = Mirror(known_for_long(load_study(connect(url), "s")))
        mirror.studies.ids(["s/A/tune", "s/A/tune/r2"])
        ready.wait()
        work = works[number]
        assert work is not None
        taken.append(EnqueuedSettings(mirror, print).take(f"worker {number}", work, complete))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rates = [(slot.setting or {})["learning_rate"] for work in taken for slot in work.slots if slot.setting]
    assert len(rates) == len(set(rates)) <= 6
    assert sorted(rates)[:4] == [0.001, 0.002, 0.003, 0.004]


CLAIM = (
    "WHERE hpo_studies.id = ?",
    "UPDATE trials",
    "INSERT INTO trial_params",
    "INSERT INTO trial_user",
    "setting",
    "notes",
)


@pytest.mark.parametrize("statement", CLAIM)
def test_a_worker_killed_while_it_claims_leaves_the_setting_to_be_tried_once(tmp_path: Any, statement: str) -> None:
    """A child process is killed before one of the statements of a claim; another worker then finishes the study."""
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    ledger = opened(url)
    enqueue(url, "s/A/tune", learning_rate=0.003)
    enqueue(url, "s/A/tune", learning_rate=0.004)
    work = ledger.lease("child", 4, seconds=0.0)
    assert work is not None
    ledger.engine.dispose()
    child = os.fork()
    if child == 0:
        own = load_study(connect(url), "s")
        enqueued = EnqueuedSettings(Mirror(own), print)
        enqueued.mirror.studies.ids(["s/A/tune", "s/A/tune/r2"])
        claimed = {"UPDATE hpo_slots SET": "setting", "UPDATE hpo_studies SET": "notes"}
        kinds = [key for key, word in claimed.items() if word == statement] or [statement]

        def die(*arguments: Any) -> None:
            if any(kind in arguments[2] for kind in kinds):
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(own.engine, "before_cursor_execute", die)
        enqueued.take("child", work, complete)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    works = work_on(known_for_long(load_study(connect(url), "s")), size=4)
    exported = load_study(connect(url), "s").export()["slots"]
    tuned = [row for row in exported if row["phase"] == "tune"]
    assert [row["state"] for row in tuned] == ["done"] * 24
    rates = Counter(row["setting"]["learning_rate"] for row in tuned)
    assert rates[0.003] == rates[0.004] == 1 and works
    states = Counter(trial.state.name for trial in plain_study(url, "s/A/tune").trials)
    assert states["COMPLETE"] == 12 and not states["WAITING"] and not states["RUNNING"]


def test_the_trials_of_released_slots_are_not_enqueued_settings(url: str) -> None:
    ledger = make(connect(url), trials=2, seeds=1)
    mirror, refused = Mirror(ledger), list[str]()
    work = ledger.lease("x", 2)
    assert work
    work = mirror.begin("x", ledger.assign("x", work, [{"learning_rate": 0.01}] * 2))
    mirror.release(ledger.release("x"))
    EnqueuedSettings(mirror, refused.append).refuse_rest()
    assert refused == [] and find_enqueued(ledger.engine, mirror.studies.ids(["s/A/tune"])) == []
    assert {trial.state.name for trial in plain_study(url, "s/A/tune").trials} == {"WAITING"}
