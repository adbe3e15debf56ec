"""Which work comes next, on counts done by hand."""

from collections import Counter

import pytest

from hpo.storage.ledger import scheduler
from hpo.storage.ledger.scheduler import Choice, Group, Part, batch_sizes, can_begin


def tune(name: str = "A", tuning_run: int = 0, batch: int = 0, first: int = 0, **counts: int) -> Group:
    """Ten slots of one batch, all open by default, otherwise the last ones."""
    states = {"total": 10, "open": 10} | counts
    lowest = {"first_open": first + states["total"] - states["open"]} if states["open"] else {}
    if states.get("interrupted"):
        lowest["first_interrupted"] = first
    return Group(name, tuning_run, "tune", batch=batch, first=first, **(lowest | states))


def rerun(name: str, tuning_run: int, slots: list[int], open_slots: list[int], leased: int = 0) -> Group:
    first_open = min(open_slots, default=None)
    return Group(
        name, tuning_run, "rerun", 0, 0, len(slots), len(open_slots), leased, first=min(slots), first_open=first_open
    )


def choose(groups: list[Group], size: int) -> Choice | None:
    """The choice where everything planned is in `groups`, whether or not those that are not needed are given."""
    totals = Counter[tuple[str, str]]()
    for group in groups:
        totals[group.configuration, group.phase] += group.total
    choice = scheduler.choose(groups, totals, size)
    started = {(group.configuration, group.batch) for group in groups if group.unfinished}
    needed = [group for group in groups if (group.configuration, group.batch) in started]
    assert scheduler.choose(needed, totals, size) == choice and can_begin(groups) == (choice is not None)
    return choice


def part(choice: Choice | None) -> tuple[str, int, int, int]:
    """Configuration, batch and slots of a choice that has one part."""
    assert choice is not None
    [only] = choice.parts
    return choice.configuration, only.batch, only.first, only.last


@pytest.mark.parametrize(
    ("begun", "total", "sizes"),
    [
        (0, 40, [10, 10, 10, 10]),
        (0, 20, [10, 5, 5]),
        (0, 12, [10, 2]),
        (0, 10, [10]),
        (0, 4, [4]),
        (0, 80, [10, 24, 23, 23]),
        (40, 80, [20, 20]),
        (4, 12, [6, 2]),
        (40, 41, [1]),
        (40, 40, []),
    ],
)
def test_a_batch_has_ten_startup_trials_and_then_at_most_a_third_of_all(
    begun: int, total: int, sizes: list[int]
) -> None:
    assert batch_sizes(begun, total) == sizes


def test_a_batch_begins_when_those_before_it_are_finished() -> None:
    second = tune(batch=1, first=10)
    assert part(choose([tune(), second], 99)) == ("A", 0, 0, 10)
    assert choose([tune(open=0, leased=1), second], 99) is None
    assert part(choose([tune(open=0), second], 99)) == ("A", 1, 10, 20)
    other = tune(tuning_run=1, open=0, leased=1)
    assert choose([tune(open=0), second, other], 99) is None, "the tuning runs of a configuration keep step"


@pytest.mark.parametrize(("size", "cuts"), [(99, [10]), (8, [5, 5]), (4, [4, 3, 3]), (1, [1] * 10)])
def test_a_batch_is_cut_into_equal_populations(size: int, cuts: list[int]) -> None:
    ends = [sum(cuts[: number + 1]) for number in range(len(cuts))]
    for done in range(10):
        end = next(end for end in ends if done < end)
        cut = cuts[ends.index(end)]
        assert part(choose([tune(open=10 - done)], size)) == ("A", 0, end - cut, end), "whatever of it is finished"


def test_the_batches_of_all_tuning_runs_form_one_sequence() -> None:
    groups = [tune(tuning_run=0, open=0), tune(tuning_run=1, open=8), tune(tuning_run=2)]
    assert choose(groups, 99) == Choice("A", "tune", [Part(tuning_run, 0, 0, 0, 10) for tuning_run in (0, 1, 2)])
    two = choose(groups, 16)  # 15 and 15
    assert two is not None and two.parts == [Part(0, 0, 0, 0, 10), Part(1, 0, 0, 0, 5)]
    three = choose([tune(tuning_run=0, open=0), tune(tuning_run=1, open=5), tune(tuning_run=2)], 16)
    assert three is not None and three.parts == [Part(1, 0, 0, 5, 10), Part(2, 0, 0, 0, 10)]


def test_interrupted_slots_come_first_then_the_largest_open_share() -> None:
    ahead, behind = tune("A", open=5), tune("B", open=8)
    assert part(choose([ahead, behind], 1)) == ("B", 0, 2, 3)
    assert part(choose([tune("A", open=5, interrupted=1), behind], 1)) == ("A", 0, 0, 1)
    assert part(choose([tune("A", open=5), tune("B", open=5)], 1))[0] == "A"
    later = tune("A", batch=1, first=10)  # counts as well, though it cannot begin yet
    assert part(choose([ahead, later, tune("B", open=7)], 1))[0] == "A"
    assert part(choose([ahead, tune("B", total=4, open=4)], 1))[0] == "B", "fewer slots, but a larger share"


def test_of_equal_open_shares_the_one_with_more_unfinished_slots_comes_first() -> None:
    assert part(choose([tune("A", open=5), tune("B", open=5, leased=5)], 99))[0] == "B", "the slower one"
    assert part(choose([tune("A", open=10), tune("B", open=5, leased=5)], 99))[0] == "A"


def test_reruns_wait_for_the_tuning_of_their_configuration_alone() -> None:
    reruns = [rerun("A", 0, [0, 2, 4], [0, 2, 4]), rerun("A", 1, [1, 3], [3], leased=1)]
    assert choose([tune("A", open=0, leased=1), tune("B", open=0), *reruns], 99) is None
    everything = Choice("A", "rerun", [Part(0, 0, 0, 0, 5), Part(1, 0, 0, 0, 5)])
    assert choose([tune("A", open=0), tune("B", open=0, leased=1), *reruns], 99) == everything
    assert part(choose([tune("A", open=0), tune("B", open=1), *reruns], 99))[0] == "B", "whose next batch waits for it"
    done = [tune("A", open=0), tune("B", open=0)]
    assert choose([*done, *reruns], 99) == Choice("A", "rerun", [Part(0, 0, 0, 0, 5), Part(1, 0, 0, 0, 5)])
    assert choose(done, 99) is None


@pytest.mark.parametrize(("total", "cuts"), [(5, [3, 2]), (4, [2, 2]), (3, [3]), (10, [4, 3, 3])])
def test_reruns_are_cut_for_two_workers_where_each_has_two_slots(total: int, cuts: list[int]) -> None:
    totals, slots = {("A", "tune"): total, ("A", "rerun"): total}, list(range(total))
    assert part(scheduler.choose([rerun("A", 0, slots, slots)], totals, 4, populations=2))[2:] == (0, cuts[0])
    assert part(scheduler.choose([tune(total=total, open=total)], totals, 10, populations=2))[2:] == (0, total)


def test_reruns_of_all_tuning_runs_are_cut_by_seed() -> None:
    reruns = [rerun("A", 0, [0, 2, 4], [4]), rerun("A", 1, [1, 3], [3])]
    assert choose(reruns, 3) == Choice("A", "rerun", [Part(0, 0, 0, 3, 5), Part(1, 0, 0, 3, 5)])
