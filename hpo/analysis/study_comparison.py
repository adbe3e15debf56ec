"""Several studies side by side: the same configurations on several data sets or networks, with nothing pooled."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hpo.analysis.compute import compute_numbers
from hpo.analysis.paired_tests import ALPHA
from hpo.analysis.performance_profiles import Profile, TimeToTarget, performance_profiles, time_to_target
from hpo.analysis.record import Record
from hpo.analysis.results import Rival, StudyNumbers
from hpo.analysis.same_runs import SameRuns, same_runs

WORDS = (
    *("better", "tentatively better", "equivalent", "tentatively equivalent"),
    *("no detectable difference", "tentatively no detectable difference", "worse", "tentatively worse"),
    *("identical", "no verdict"),
)
PARTS = {  # of a configuration's definition, by their names in a report
    **{part: (part,) for part in ("optimizer", "regularizer", "average", "schedules")},
    "search space": ("space",),
    "parameter groups": ("groups", "no_decay"),
}


class Overall(NamedTuple):
    """One configuration over all studies that contain it.

    Attributes:
        studies: the studies that contain it. missing: the others. baseline_of: the studies whose baseline it is.
        words: verdict (`Verdict.label`) → number of studies; of studies with the same runs only the first.
        differs: the parts of its definition that are not the same in all of its studies.
    """

    name: str
    studies: list[str]
    missing: list[str]
    baseline_of: list[str]
    words: dict[str, int]
    differs: list[str]


class OverallPlanned(NamedTuple):
    """One comparison with another configuration than the baseline, over the studies that plan it.

    Attributes:
        words: as in `Overall`.
    """

    name: str
    against: str
    studies: list[str]
    words: dict[str, int]


class StudyComparison(NamedTuple):
    """Several studies side by side.

    Attributes:
        shared: configurations that every study contains, in the first one's order.
        error_bound: an upper bound for the chance of any wrong "better" or "worse" over all studies: the sum of the 5%
            of each.
        same_definition: groups of studies with one definition, which are no more evidence than one of them.
        same_data: groups that differ only in their configurations: a configuration in two of them was compared twice
            on the same data and seeds. same_runs: the configurations whose runs are even the same, by a merge or copy.
        times_to_target: of the studies that the profiles are made from. left_out: the other studies, with a reason.
    """

    studies: list[StudyNumbers]
    overall: list[Overall]
    planned: list[OverallPlanned]
    shared: list[str]
    error_bound: float
    same_definition: list[list[str]]
    same_data: list[list[str]]
    same_runs: list[SameRuns]
    times_to_target: list[TimeToTarget]
    left_out: dict[str, str]
    profiles: list[Profile]


def compare_studies(records: Sequence[Record]) -> StudyComparison:
    """Compares studies, each at any stage of its life."""
    studies = [compute_numbers(record) for record in records]
    names = list(dict.fromkeys(entry.name for numbers in studies for entry in numbers.configurations))
    same_data = _groups(studies, _common_definition)
    same = same_runs(records, same_data)
    overall = [_overall(name, studies, same) for name in names]
    shared = [entry.name for entry in overall if not entry.missing]
    times, left_out = [], {}
    for record, numbers in zip(records, studies, strict=True) if len(shared) > 1 else ():
        time, original = time_to_target(record, numbers, shared), _original(numbers, shared, same)
        if original:
            left_out[numbers.study["name"]] = f"its runs are those of {original}"
        elif time is not None:
            times.append(time)
        else:
            left_out[numbers.study["name"]] = _why_left_out(numbers, shared)
    return StudyComparison(
        studies=studies,
        overall=overall,
        planned=list(_overall_planned(studies, same)),
        shared=shared,
        error_bound=min(1.0, ALPHA * len(studies)),
        same_definition=_groups(studies, lambda numbers: numbers.study["digest"]),
        same_data=same_data,
        same_runs=same,
        times_to_target=times,
        left_out=left_out,
        profiles=performance_profiles(times, shared) if times else [],
    )


def _groups(studies: Sequence[StudyNumbers], key: Callable[[StudyNumbers], str]) -> list[list[str]]:
    """The names of studies with the same key, in groups of two or more."""
    groups: dict[str, list[str]] = {}
    for numbers in studies:
        groups.setdefault(key(numbers), []).append(numbers.study["name"])
    return [group for group in groups.values() if len(group) > 1]


def _common_definition(numbers: StudyNumbers) -> str:
    """The definition without the configurations and how they are compared."""
    compared = ("configurations", "baseline", "margin")
    return json.dumps({key: value for key, value in numbers.definition.items() if key not in compared}, sort_keys=True)


def _overall(name: str, studies: Sequence[StudyNumbers], same: Sequence[SameRuns]) -> Overall:
    containing = [numbers for numbers in studies if any(entry.name == name for entry in numbers.configurations)]
    found = {numbers.study["name"]: rival for numbers in containing for rival in numbers.rivals if rival.name == name}
    definitions = [_definition(name, numbers) for numbers in containing]
    return Overall(
        name=name,
        studies=[numbers.study["name"] for numbers in containing],
        missing=[numbers.study["name"] for numbers in studies if numbers not in containing],
        baseline_of=[numbers.study["name"] for numbers in containing if numbers.definition["baseline"] == name],
        words=_count_words(found, same),
        differs=[part for part, keys in PARTS.items() if len({_content(entry, keys) for entry in definitions}) > 1],
    )


def _overall_planned(studies: Sequence[StudyNumbers], same: Sequence[SameRuns]) -> Iterator[OverallPlanned]:
    """Every comparison that some study plans besides those with its baseline."""
    names = dict.fromkeys((rival.name, rival.against) for numbers in studies for rival in numbers.planned)
    for name, against in names:
        found = {
            numbers.study["name"]: rival
            for numbers in studies
            for rival in numbers.planned
            if (rival.name, rival.against) == (name, against)
        }
        yield OverallPlanned(name, against, list(found), _count_words(found, same))


def _count_words(found: Mapping[str, Rival], same: Sequence[SameRuns]) -> dict[str, int]:
    """Verdict → number of studies; found: study → its comparison, of one configuration."""
    first = {
        name: next((group.studies for group in same if group.name == rival.name and name in group.studies), [name])
        for name, rival in found.items()
    }
    counted = {next(each for each in studies if each in found) for studies in first.values()}
    words = Counter(rival.verdict.label for name, rival in found.items() if name in counted)
    return {word: words[word] for word in WORDS}


def _original(numbers: StudyNumbers, shared: Sequence[str], same: Sequence[SameRuns]) -> str:
    """An earlier study that has the same runs of every shared configuration; empty if there is none."""
    name = numbers.study["name"]
    earlier = [
        {
            study
            for group in same
            if group.name == configuration and name in group.studies
            for study in group.studies[: group.studies.index(name)]
        }
        for configuration in shared
    ]
    return min(set.intersection(*earlier), default="") if earlier else ""


def _content(definition: Mapping[str, Any], keys: Sequence[str]) -> str:
    return json.dumps([definition.get(key) for key in keys], sort_keys=True)


def _definition(name: str, numbers: StudyNumbers) -> dict[str, Any]:
    return next(entry for entry in numbers.definition["configurations"] if entry["name"] == name)


def _why_left_out(numbers: StudyNumbers, shared: Sequence[str]) -> str:
    reruns = [entry.reruns for entry in numbers.configurations if entry.name in shared]
    if all(entry.finished or entry.failed_seeds for entry in reruns):
        return "no rerun of its baseline has a score to be reached"
    return "not every configuration has been rerun there"
