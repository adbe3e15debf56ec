"""The settings that were trained, in words: what tuning chose, and what the configurations fix."""

import math

from hpo.analysis.metric import score_of
from hpo.analysis.results import ConfigurationNumbers, StudyNumbers
from hpo.analysis.setting_choice import Compared
from hpo.report.formatting import NOTHING, difference, metric_value
from hpo.report.wording import escape, listed, setting, symbol, value_words
from hpo.search_space import Value
from hpo.space import split_space


def fixed_for_all(numbers: StudyNumbers) -> dict[str, Value]:
    """The hyperparameters that every configuration fixes at the same value."""
    first, *others = (split_space(entry["space"]).fixed for entry in numbers.definition["configurations"])
    return {name: value for name, value in first.items() if all(fixed.get(name) == value for fixed in others)}


def own_fixed(name: str, numbers: StudyNumbers) -> dict[str, Value]:
    """The other hyperparameters that a configuration fixes, with their values."""
    space = next(each["space"] for each in numbers.definition["configurations"] if each["name"] == name)
    shared = fixed_for_all(numbers)
    return {key: value for key, value in split_space(space).fixed.items() if key not in shared}


def trained_setting(entry: ConfigurationNumbers, numbers: StudyNumbers) -> str:
    """What the reruns of a configuration trained: the values that tuning chose, and those of `own_fixed`."""
    settings = entry.reruns.settings or [best.setting for best in entry.tuning.best]
    several = len(list(filter(None, settings))) > 1
    chosen = best_settings(entry, "one per tuning run" if several else settings)
    fixed = [f"{symbol(name)} {value_words(value)}" for name, value in own_fixed(entry.name, numbers).items()]
    parts = [*([] if chosen == NOTHING else [chosen]), *([f"fixed: {', '.join(fixed)}"] if fixed else [])]
    return "; ".join(parts) or NOTHING


def settings_to_use(numbers: StudyNumbers) -> dict[str, str]:
    """The setting to use, in words, by configuration; of those with several tuning runs."""
    words = {}
    for entry in numbers.configurations:
        best = entry.setting_to_use
        if best is not None and best.setting and len(entry.tuning.best) > 1:
            compared, metric = compared_score(entry, best.tuning_run, numbers), score_of(numbers.definition)
            points = " points" if entry.choice.relative and metric.share else ""
            run = f"tuning run {best.tuning_run}: {compared}{points}"
            words[entry.name] = f"{best_settings(entry, [best.setting])} ({run})"
    return words


def compared_score(entry: ConfigurationNumbers, tuning_run: int, numbers: StudyNumbers) -> str:
    """By what a tuning run is compared with the configuration's others: "+1.25" of a share in points, or "47.82%"."""
    score, metric = entry.choice.scores.get(tuning_run, math.nan), score_of(numbers.definition)
    words = difference(score, metric) if entry.choice.relative else metric_value(score, metric)
    return words if math.isfinite(score) else NOTHING


def choice_rule(numbers: StudyNumbers) -> str:
    """Which setting is the one to use: "that of the tuning run whose …"; empty before a trial has a score.

    Configurations whose reruns are not finished have a rule of their own.
    """
    groups: dict[tuple[Compared, bool], list[ConfigurationNumbers]] = {}
    for entry in numbers.configurations:
        if entry.choice.tuning_run is not None:
            groups.setdefault((entry.choice.compared, entry.choice.relative), []).append(entry)
    rules = []
    for (compared, relative), entries in groups.items():
        names = f"for {listed([escape(entry.name) for entry in entries])} " if len(groups) > 1 else ""
        rule = _by_reruns(numbers, relative) if compared == "reruns" else _by_trials(numbers, relative)
        lost = compared == "reruns" and any(any(entry.choice.lost.values()) for entry in entries)
        last = "; tuning runs with more reruns that diverged or failed come after those with fewer" if lost else ""
        rules.append(f"{names}that of the tuning run {rule}{last}")
    return "; ".join(rules)


def _by_reruns(numbers: StudyNumbers, relative: bool) -> str:
    mean = f"whose reruns have the best mean {escape(score_of(numbers.definition).label)}"
    if not relative:
        return (
            f"{mean}; easy seeds may decide, since fewer than two configurations have a score for every seed, whose "
            "mean could be subtracted"
        )
    complete = all(
        sum(map(math.isfinite, entry.reruns.scores.values())) == entry.reruns.planned
        for entry in numbers.configurations
    )
    which = "all configurations" if complete else "the configurations that have a score for every seed"
    return f"{mean} minus the mean over the same seeds of {which}, so that neither a lucky trial nor easy seeds decide"


def _by_trials(numbers: StudyNumbers, relative: bool) -> str:
    best = f"whose best trial has the best {escape(score_of(numbers.definition).label)}"
    mean = " minus the mean of the configurations' best trials in the same tuning run" if relative else ""
    return f"{best}{mean}; the reruns decide once all of them are finished and have scores"


def best_settings(entry: ConfigurationNumbers, settings: list[dict[str, float]] | str) -> str:
    """The settings that tuning chose; where no trial has a score none was chosen, although one may have been rerun."""
    trials = entry.tuning
    words = settings if isinstance(settings, str) else "; ".join(map(setting, settings)) if any(settings) else ""
    if trials.substitutes and not trials.best:
        reason = "no trial has a finite score" if trials.without_score else "all trials diverged"
        return f"none: {reason}" + (f" (rerun with {words})" if words else "")
    return words or NOTHING
