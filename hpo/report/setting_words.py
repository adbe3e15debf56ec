"""The settings that were trained, in words: what tuning chose, and what the configurations fix."""

from hpo.analysis.results import BestTrial, ConfigurationNumbers, StudyNumbers
from hpo.report.formatting import NOTHING
from hpo.report.wording import setting, symbol, value_words
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


def setting_to_use(entry: ConfigurationNumbers, numbers: StudyNumbers) -> BestTrial | None:
    """The best trial with the best validation score of a configuration's tuning runs, the first of equal ones."""
    best_of = max if numbers.definition["direction"] == "maximize" else min
    return best_of(entry.tuning.best, key=lambda best: best.score, default=None)


def settings_to_use(numbers: StudyNumbers) -> dict[str, str]:
    """What tuning chose in `setting_to_use`, in words, by configuration; of those with several tuning runs."""
    words = {}
    for entry in numbers.configurations:
        best = setting_to_use(entry, numbers)
        if best is not None and best.setting and len(entry.tuning.best) > 1:
            words[entry.name] = f"{best_settings(entry, [best.setting])} (tuning run {best.tuning_run})"
    return words


def best_settings(entry: ConfigurationNumbers, settings: list[dict[str, float]] | str) -> str:
    """The settings that tuning chose; where no trial has a score none was chosen, although one may have been rerun."""
    trials = entry.tuning
    words = settings if isinstance(settings, str) else "; ".join(setting(each) for each in settings if each)
    if trials.finished and trials.diverged + trials.without_score == trials.finished:
        reason = "no trial has a finite score" if trials.without_score else "all trials diverged"
        return f"none: {reason}" + (f" (rerun with {words})" if words else "")
    return words or NOTHING
