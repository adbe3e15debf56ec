"""The settings of a batch follow from the study and earlier batches, not from the worker or the number of slots."""

import pytest
from storage_study import definition, known_for_long, make, outcomes

from hpo.space import split_space
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Setting, Work, open_study
from hpo.worker.sampler import sample
from hpo.worker.suggestions import Suggestions

RANGES = split_space(definition()["configurations"][0]["space"]).tuned


@pytest.fixture
def ledger(url: str) -> Ledger:
    return make(connect(url), trials=20, seeds=2, tuning_runs=2)


def lease(ledger: Ledger, size: int, configuration: str = "A") -> Work:
    """The next work of a configuration."""
    work = ledger.lease("x", size)
    while work is not None and work.configuration != configuration:
        work = ledger.lease("x", size)
    assert work is not None
    return work


def advance(ledger: Ledger) -> None:
    """Finishes the start-up trials of both tuning runs of A."""
    suggestions = Suggestions(ledger)
    for _ in range(2):
        work = lease(ledger, 10)
        ledger.finish("x", outcomes(ledger.assign("x", work, suggestions.settings(work))))


def by_slot(work: Work, settings: list[Setting]) -> dict[tuple[int, int], Setting]:
    return {(slot.tuning_run, slot.slot): setting for slot, setting in zip(work.slots, settings, strict=True)}


@pytest.mark.parametrize("begun", [False, True])
def test_parts_of_a_batch_get_the_settings_of_the_whole_batch(ledger: Ledger, begun: bool) -> None:
    if begun:
        advance(ledger)
    batch = lease(ledger, 99)
    together = by_slot(batch, Suggestions(ledger).settings(batch))
    assert len(together) == (10 if begun else 20)
    parts = [
        by_slot(part, Suggestions(ledger).settings(part)) for slot in batch.slots for part in [batch.with_slots([slot])]
    ]
    assert {key: setting for part in parts for key, setting in part.items()} == together
    assert len({tuple(setting.values()) for setting in together.values()}) == len(together)


def test_a_batch_depends_on_earlier_batches_only(ledger: Ledger) -> None:
    advance(ledger)
    work = lease(ledger, 3)
    expected = by_slot(work, Suggestions(ledger).settings(work))
    suggestions = Suggestions(ledger)
    rest = lease(ledger, 3)
    ledger.finish("x", outcomes(ledger.assign("x", rest, suggestions.settings(rest))))  # of the same batch
    assert by_slot(work, Suggestions(ledger).settings(work)) == expected
    finished, slots = ledger.finished_trials("A", {0}, 1)[0]
    assert len(finished) == 10 and slots == range(10, 15)
    other = open_study(ledger.engine, "other", ledger.definition, "another digest", {"trials": 20}, {}, {})
    assert Suggestions(other).settings(lease(other, 3)) != Suggestions(ledger).settings(lease(ledger, 3))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_trials_and_tuning_runs_raised_together_get_the_settings_of_each_tuning_run(url: str, sampler: str) -> None:
    """Batch 1 is then slots 5 to 9 of the first tuning run and slots 10 and more of the others."""

    def settings(name: str, *plans: dict[str, int]) -> tuple[dict[tuple[int, int], Setting], list[set[int]]]:
        found, runs = {}, []
        for plan in plans:
            described = definition(sampler=sampler)
            ledger = known_for_long(open_study(engine, name, described, "d", {"seeds": 3} | plan, {}, {}))
            suggestions = Suggestions(ledger)
            while (work := ledger.lease("x", 32)) and work.phase == "tune":
                given = suggestions.settings(work)
                found |= by_slot(work, given) if work.configuration == "A" else {}
                runs.append({slot.tuning_run for slot in work.slots})
                ledger.finish("x", outcomes(ledger.assign("x", work, given)))
            ledger.release("x")
        return found, runs

    engine = connect(url)
    raised, runs = settings("raised", {"trials": 5, "tuning_runs": 1}, {"trials": 20, "tuning_runs": 3, "seeds": 5})
    assert raised.keys() == {(run, slot) for run in range(3) for slot in range(20)}
    assert sampler != "tpe" or {0, 1, 2} in runs, "a population has trials of all tuning runs"
    at_once, _ = settings("at once", {"trials": 20, "tuning_runs": 3, "seeds": 5})
    alike = [key for key in at_once if key[0] or key[1] < 10 or sampler == "random"]
    assert {key: raised[key] for key in alike} == {key: at_once[key] for key in alike}


def test_each_batch_is_sampled_once_as_a_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    advance(ledger)
    asked: list[tuple[int, int, int]] = []

    def counted(*arguments: object) -> list[Setting]:
        _, finished, pending, count, *_ = arguments
        asked.append((len(finished), len(pending), count))  # type: ignore[arg-type]
        return sample(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("hpo.worker.suggestions.sample", counted)
    suggestions = Suggestions(ledger)
    works = [lease(ledger, 5), lease(ledger, 5)]
    for work in works:
        suggestions.settings(work)
    assert asked == [(10, 0, 5), (10, 0, 5)], "each tuning run's batch is sampled once"


@pytest.mark.parametrize("begun", [False, True])
def test_a_replacement_follows_from_the_number_of_replacements(ledger: Ledger, begun: bool) -> None:
    if begun:
        advance(ledger)
    work = lease(ledger, 4)
    first, *others = work.slots
    renewed = [first._replace(replacements=replacements) for replacements in (0, 1, 2)]
    settings = [Suggestions(ledger).settings(work.with_slots([slot]))[0] for slot in renewed]
    assert len({tuple(setting.values()) for setting in settings}) == 3
    mixed = work.with_slots([renewed[1], *others])
    assert Suggestions(ledger).settings(mixed)[0] == settings[1]
    assert Suggestions(ledger).settings(mixed)[1:] == Suggestions(ledger).settings(work)[1:]
    for setting in settings:
        assert all(RANGES[name].contains(value) for name, value in setting.items())


def test_slots_with_a_setting_keep_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    work = lease(ledger, 4)
    held = ledger.assign("x", work, Suggestions(ledger).settings(work))
    monkeypatch.setattr("hpo.worker.suggestions.sample", None)
    assert Suggestions(ledger).settings(held) == []
