"""Across studies: the same configurations on several data sets or networks, each judged by its own study."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hpo.analysis.compute import compute_numbers
from hpo.analysis.performance_profiles import Profile, TimeToTarget, profile, time_to_target
from hpo.analysis.record import Record
from hpo.analysis.results import StudyNumbers

ALPHA = 0.05
WORDS = (
    *(f"{certainty}{word}" for word in ("better", "equivalent", "no detectable difference", "worse")
      for certainty in ("", "tentatively ")),
    *("identical", "no verdict"),
)  # fmt: skip
PARTS = ("optimizer", "regularizer", "space")


class Overall(NamedTuple):
    """One configuration over all studies that it is compared in.

    Attributes:
        studies: those that have it. missing: those that do not. baseline_of: those that it is the baseline of.
        words: verdict in words (`Verdict.label`) → number of studies.
        differs: the parts of its definition that are not the same in all studies that have it.
    """

    name: str
    studies: list[str]
    missing: list[str]
    baseline_of: list[str]
    words: dict[str, int]
    differs: list[str]


class StudyComparison(NamedTuple):
    """Several studies side by side.

    Attributes:
        shared: configurations that every study has, in the first one's order.
        error_bound: the most that the chance of any wrong "better" or "worse" over all studies can be, by adding up
            the 5% of each.
        same_definition: groups of studies that share one definition, so that they are no evidence of more than it.
        same_data: groups that differ only in their configurations: one that two of them have was compared twice on the
            same data and seeds.
        times_to_target: the studies that the profiles are made from. left_out: those that they are not, with a reason.
    """

    studies: list[StudyNumbers]
    overall: list[Overall]
    shared: list[str]
    error_bound: float
    same_definition: list[list[str]]
    same_data: list[list[str]]
    times_to_target: list[TimeToTarget]
    left_out: dict[str, str]
    profiles: list[Profile]


def compare_studies(records: Sequence[Record]) -> StudyComparison:
    """Puts studies side by side, at any moment of each; nothing is pooled over them."""
    studies = [compute_numbers(record) for record in records]
    names = list(dict.fromkeys(entry.name for numbers in studies for entry in numbers.configurations))
    overall = [_overall(name, studies) for name in names]
    shared = [entry.name for entry in overall if not entry.missing]
    times_to_target, left_out = [], {}
    for record, numbers in zip(records, studies, strict=True):
        time = time_to_target(record, numbers, shared) if len(shared) > 1 else None
        if time is not None:
            times_to_target.append(time)
        elif len(shared) > 1:
            left_out[numbers.study["name"]] = _why_left_out(numbers, shared)
    return StudyComparison(
        studies=studies,
        overall=overall,
        shared=shared,
        error_bound=min(1.0, ALPHA * len(studies)),
        same_definition=_groups(studies, lambda numbers: numbers.study["digest"]),
        same_data=_groups(studies, _setting),
        times_to_target=times_to_target,
        left_out=left_out,
        profiles=profile(times_to_target, shared) if times_to_target else [],
    )


def _groups(studies: Sequence[StudyNumbers], key: Callable[[StudyNumbers], str]) -> list[list[str]]:
    """The names of studies with one and the same key, where there are several."""
    names: dict[str, list[str]] = {}
    for numbers in studies:
        names.setdefault(key(numbers), []).append(numbers.study["name"])
    return [group for group in names.values() if len(group) > 1]


def _setting(numbers: StudyNumbers) -> str:
    """The definition without what is compared in it."""
    compared = ("configurations", "baseline", "margin")
    return json.dumps({key: value for key, value in numbers.definition.items() if key not in compared}, sort_keys=True)


def _overall(name: str, studies: Sequence[StudyNumbers]) -> Overall:
    having = [numbers for numbers in studies if any(entry.name == name for entry in numbers.configurations)]
    verdicts = [rival.verdict for numbers in having for rival in numbers.rivals if rival.name == name]
    words = Counter(verdict.label for verdict in verdicts)
    definitions = [_definition(name, numbers) for numbers in having]
    return Overall(
        name=name,
        studies=[numbers.study["name"] for numbers in having],
        missing=[numbers.study["name"] for numbers in studies if numbers not in having],
        baseline_of=[numbers.study["name"] for numbers in having if numbers.definition["baseline"] == name],
        words={word: words[word] for word in WORDS},
        differs=[part for part in PARTS if any(entry[part] != definitions[0][part] for entry in definitions)],
    )


def _definition(name: str, numbers: StudyNumbers) -> dict[str, Any]:
    return next(entry for entry in numbers.definition["configurations"] if entry["name"] == name)


def _why_left_out(numbers: StudyNumbers, shared: Sequence[str]) -> str:
    reruns = {entry.name: entry.reruns for entry in numbers.configurations}
    waiting = [name for name in shared if not reruns[name].finished + len(reruns[name].failed_seeds)]
    if waiting:
        return "not every configuration has been rerun there"
    return "no rerun of its baseline has a score to be reached"
