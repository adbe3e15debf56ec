"""The trials of every configuration, as the frames that figures 6 to 8 are drawn from."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from hpo.analysis import descriptors
from hpo.analysis.paired_tests import Direction
from hpo.analysis.record import Record
from hpo.errors import is_number
from hpo.report.figures.slice_plot import SearchedRange
from hpo.report.wording import plain_name, setting, value_words
from hpo.search_space import Bounds, Choice, Range
from hpo.space import split_space
from hpo.trials import DIVERGED, PRUNED, STARTUP_TRIALS, sampler_of, trials_per_run, tunes

ENOUGH_TRIALS = 50  # importances from fewer finished trials are noise


def scored_trials(record: Record) -> pd.DataFrame:
    """The full-length trials that have a score: columns configuration, tuning_run, trial (from 1), score, setting.

    Without configurations that have nothing to tune.
    """
    names = [entry["name"] for entry in _configurations(record) if tunes(entry)]
    slots = record.slots.sort_values(["tuning_run", "slot"])
    scored = (slots.phase == "tune") & (slots.state == "done") & slots.value.notna()
    trials = slots[scored & slots.configuration.isin(names) & ~slots.cause.isin([DIVERGED, PRUNED])]
    trials = trials.assign(trial=trials.slot + 1).rename(columns={"value": "score"})
    return trials[["configuration", "tuning_run", "trial", "score", "setting"]]


def history_frame(trials: pd.DataFrame) -> pd.DataFrame:
    """`scored_trials` with their settings in words."""
    return trials.assign(setting=trials["setting"].map(setting))


def best_lines(trials: pd.DataFrame, record: Record) -> pd.DataFrame:
    """Columns configuration, tuning_run, trial, best: the best so far of every tuning run."""
    parts = []
    for _, run in trials.groupby(["configuration", "tuning_run"], sort=False):
        best = descriptors.best_so_far(run["score"], record.study["definition"]["direction"])
        parts.append(run[["configuration", "tuning_run", "trial"]].assign(best=best))
    return pd.concat(parts, ignore_index=True)


def random_lines(record: Record) -> pd.DataFrame:
    """Columns configuration, trial, best, low, high: the best of so many random trials; see `best_of_random`."""
    direction = record.study["definition"]["direction"]
    parts = [pd.DataFrame(columns=["configuration", "trial", "best", "low", "high"])]
    for entry in filter(tunes, _configurations(record)):
        runs = _random_scores(record, entry["name"], len(entry.get("first", ())))
        if runs:
            best, low, high = descriptors.best_of_random(runs, direction)
            columns = {"trial": range(1, len(best) + 1), "best": best, "low": low, "high": high}
            parts.append(pd.DataFrame({"configuration": entry["name"], **columns}))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _random_scores(record: Record, configuration: str, given: int) -> list[list[float]]:
    """The scores of the random trials of every tuning run; one without a score counts as the worst.

    Args:
        given: how many of the first trials have a setting that the study gives.
    """
    slots = record.slots[(record.slots.configuration == configuration) & (record.slots.phase == "tune")]
    done = slots[(slots.state == "done") & (slots.slot >= given)]
    worst = done["value"].min() if record.study["definition"]["direction"] == "maximize" else done["value"].max()
    runs = [run["value"].fillna(worst).tolist() for _, run in done.groupby("tuning_run")]
    return [] if pd.isna(worst) else runs


def all_random(record: Record) -> bool:
    """Whether the sampler drew its trials at random, and all are of full length.

    The trials that a pruner leaves are no random choice.
    """
    definition = record.study["definition"]
    if "pruner" in definition or sampler_of(definition) not in ("random", "tpe", "gp"):
        return False
    if sampler_of(definition) == "random":
        return True
    planned = [trials_per_run(entry, record.study["trials"]) for entry in _configurations(record)]
    return max(planned) <= STARTUP_TRIALS


def slice_frame(trials: pd.DataFrame, ranges: Mapping[str, SearchedRange]) -> pd.DataFrame:
    """Columns configuration, trial (from 1), score, hyperparameter (in words), value, words (those of the value).

    Args:
        ranges: from `searched_ranges`. Only hyperparameters with an axis have rows, and only values that it shows.
    """
    rows = [
        (name, trial, score, plain_name(hyperparameter), value, value_words(value))
        for name, _, trial, score, values in trials.itertuples(index=False)
        for hyperparameter, value in values.items()
        if (axis := ranges.get(plain_name(hyperparameter))) and (axis.choices or is_number(value))
    ]
    return pd.DataFrame(rows, columns=["configuration", "trial", "score", "hyperparameter", "value", "words"])


def searched_ranges(record: Record) -> dict[str, SearchedRange]:
    """Every hyperparameter that a configuration tunes, in words, with all its ranges or choices together."""
    bounds: dict[str, list[Bounds]] = {}
    for entry in _configurations(record):
        for name, searched in split_space(entry["space"]).tuned.items():
            bounds.setdefault(plain_name(name), []).append(searched)
    return {name: _searched(entries) for name, entries in bounds.items()}


def fixed_elsewhere(record: Record) -> list[str]:
    """What a configuration fixes and another one tunes, in words: "learning rate 0.01, weight decay 0 of SAM"."""
    spaces = {entry["name"]: split_space(entry["space"]) for entry in _configurations(record)}
    tuned = {name for space in spaces.values() for name in space.tuned}
    texts = []
    for configuration, space in spaces.items():
        words = [f"{plain_name(name)} {value_words(value)}" for name, value in space.fixed.items() if name in tuned]
        texts += [f"{', '.join(words)} of {configuration}"] if words else []
    return texts


def not_on_axis(record: Record) -> list[str]:
    """Choices that are no numbers, of hyperparameters with a range elsewhere, in words: "gamma scale of SVM"."""
    ranges, texts = searched_ranges(record), []
    for entry in _configurations(record):
        for name, bounds in split_space(entry["space"]).tuned.items():
            if isinstance(bounds, Choice) and not ranges[plain_name(name)].choices:
                words = [value_words(value) for value in bounds.values if not is_number(value)]
                texts += [f"{plain_name(name)} {', '.join(words)} of {entry['name']}"] if words else []
    return texts


def _searched(entries: list[Bounds]) -> SearchedRange:
    """One axis for all of them: a range if there is one, which then covers the numbers of the choices too."""
    ranges = [entry for entry in entries if isinstance(entry, Range)]
    choices = dict.fromkeys(value for entry in entries if isinstance(entry, Choice) for value in entry.values)
    numbers = [value for value in choices if is_number(value)]
    if not ranges:
        values = sorted(numbers) if len(numbers) == len(choices) else list(choices)
        return SearchedRange(0, len(values) - 1, False, tuple(map(value_words, values)))
    low = min([*(entry.low for entry in ranges), *numbers])
    high = max([*(entry.high for entry in ranges), *numbers])
    return SearchedRange(low, high, low > 0 and all(entry.log for entry in ranges))


def importance_frame(record: Record, trials: pd.DataFrame) -> pd.DataFrame:
    """Columns configuration, hyperparameter (in words), importance, trials.

    Only configurations that tune at least two hyperparameters and have enough trials; without hyperparameters that
    exist in some settings only.
    """
    direction = record.study["definition"]["direction"]
    rows = []
    for entry in _configurations(record):
        space = split_space(entry["space"])
        ranges = {name: bounds for name, bounds in space.tuned.items() if name not in space.conditions}
        subset = trials[trials["configuration"] == entry["name"]]
        subset = subset[[ranges.keys() <= values.keys() for values in subset["setting"]]]
        if len(subset) < ENOUGH_TRIALS or len(ranges) < 2:  # the relative importance of a single one is always 1
            continue
        if subset["tuning_run"].nunique() > 1:
            # Runs have different seeds, and the run with the easiest one would fill the best tenth of all trials.
            subset = subset.assign(score=subset.groupby("tuning_run")["score"].rank(pct=True))
        shares = importances(subset, ranges, direction) or {}
        rows += [(entry["name"], plain_name(name), share, len(subset)) for name, share in shares.items()]
    return pd.DataFrame(rows, columns=["configuration", "hyperparameter", "importance", "trials"])


def has_conditions(record: Record) -> bool:
    """Whether a configuration tunes a hyperparameter that exists in some settings only."""
    return any(split_space(entry["space"]).conditions for entry in _configurations(record))


def tuning_one(record: Record) -> list[str]:
    """The configurations that tune only one hyperparameter."""
    return [entry["name"] for entry in _configurations(record) if len(split_space(entry["space"]).tuned) == 1]


def importances(trials: pd.DataFrame, ranges: Mapping[str, Bounds], direction: Direction) -> dict[str, float] | None:
    """Relative importances by PED-ANOVA; None where the scores do not separate the best tenth of the trials.

    Args:
        trials: columns setting and score.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {name: bounds.distribution() for name, bounds in ranges.items()}
    time, complete = datetime.now(), optuna.trial.TrialState.COMPLETE
    finished = []
    for number, (values, score) in enumerate(zip(trials["setting"], trials["score"], strict=True)):
        params = {name: values[name] for name in ranges}
        shared: Any = (time, time, params, distributions, {}, {}, {}, number)
        finished.append(optuna.trial.FrozenTrial(number, complete, score, *shared))

    class Finished(optuna.Study):
        """A study of these trials: a storage would check and copy each of them, which takes most of the time."""

        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[optuna.trial.FrozenTrial]:  # noqa: ARG002
            return finished

    study = optuna.create_study(direction=direction)
    study.__class__ = Finished
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if any("same set of trials" in str(warning.message) for warning in caught):
        return None
    return {name: float(shares[name]) for name in ranges}


def _configurations(record: Record) -> list[dict[str, Any]]:
    configurations: list[dict[str, Any]] = record.study["definition"]["configurations"]
    return configurations
