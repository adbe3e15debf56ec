"""The trials of every configuration, as the frames that figures 6 to 8 are drawn from."""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from hpo.analysis import descriptors
from hpo.analysis.paired_tests import Direction
from hpo.analysis.record import Record
from hpo.analysis.selection import Row, ranked, tuning_slots
from hpo.report.figures.slice_plot import SearchedRange
from hpo.report.wording import plain_name, setting
from hpo.search_space import Range, split_space
from hpo.trials import PRUNED, STARTUP_TRIALS

ENOUGH_TRIALS = 50  # importances from fewer finished trials are noise

ScoredTrials = dict[str, list[Row]]


def scored_trials(record: Record) -> ScoredTrials:
    """The full-length trials that have a score, by configuration, in the order of tuning run and slot."""
    scored = {}
    for entry in _configurations(record):
        trials = ranked(tuning_slots(record, entry["name"]), record.study["definition"]["direction"])
        full_length = [row for row in trials if row["cause"] != PRUNED]
        scored[entry["name"]] = sorted(full_length, key=lambda row: (row["tuning_run"], row["slot"]))
    return scored


def history_frame(scored: ScoredTrials) -> pd.DataFrame:
    """Columns configuration, tuning_run, trial (from 1), score, setting (in words)."""
    rows = [
        (name, row["tuning_run"], row["slot"] + 1, row["value"], setting(row["setting"]))
        for name, trials in scored.items()
        for row in trials
    ]
    return pd.DataFrame(rows, columns=["configuration", "tuning_run", "trial", "score", "setting"])


def best_lines(history: pd.DataFrame, record: Record) -> pd.DataFrame:
    """Columns configuration, tuning_run, trial, best: the best so far, or for a random search the expected best."""
    random = all_random(record)
    compute = descriptors.expected_best if random else descriptors.best_so_far
    parts = []
    for (name, tuning_run), run in history.groupby(["configuration", "tuning_run"], sort=False):
        best = compute(run["score"], record.study["definition"]["direction"])
        trials = range(1, len(run) + 1) if random else run["trial"]
        columns = {"configuration": name, "tuning_run": tuning_run, "trial": list(trials), "best": best}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def all_random(record: Record) -> bool:
    """Whether the sampler drew all trials at random, and all are of full length.

    The trials that a pruner leaves are no random choice.
    """
    if "pruner" in record.study["definition"]:
        return False
    planned = [entry.get("trials") or record.study["trials"] for entry in _configurations(record)]
    return max(planned) <= STARTUP_TRIALS


def slice_frame(scored: ScoredTrials) -> pd.DataFrame:
    """Columns configuration, trial (from 1), hyperparameter (in words), value, score."""
    rows = [
        (name, row["slot"] + 1, plain_name(hyperparameter), value, row["value"])
        for name, trials in scored.items()
        for row in trials
        for hyperparameter, value in row["setting"].items()
    ]
    return pd.DataFrame(rows, columns=["configuration", "trial", "hyperparameter", "value", "score"])


def searched_ranges(record: Record) -> dict[str, SearchedRange]:
    """Every hyperparameter that a configuration tunes, in words, with the ends of all its ranges together."""
    searched: dict[str, SearchedRange] = {}
    for entry in _configurations(record):
        for name, bounds in split_space(entry["space"])[0].items():
            other = searched.get(plain_name(name), bounds)
            low, high = min(other.low, bounds.low), max(other.high, bounds.high)
            searched[plain_name(name)] = SearchedRange(low, high, other.log and bounds.log)
    return searched


def importance_frame(record: Record, scored: ScoredTrials) -> pd.DataFrame:
    """Columns configuration, hyperparameter (in words), importance, trials.

    Only configurations that tune at least two hyperparameters and have enough trials.
    """
    direction = record.study["definition"]["direction"]
    rows = []
    for entry in _configurations(record):
        ranges, _ = split_space(entry["space"])
        trials = [row for row in scored[entry["name"]] if ranges.keys() <= row["setting"].keys()]
        if len(trials) >= ENOUGH_TRIALS and len(ranges) > 1:  # the relative importance of a single one is always 1
            shares = importances(_rank_within_runs(trials), ranges, direction) or {}
            rows += [(entry["name"], plain_name(name), share, len(trials)) for name, share in shares.items()]
    return pd.DataFrame(rows, columns=["configuration", "hyperparameter", "importance", "trials"])


def tuning_one(record: Record) -> list[str]:
    """The configurations that tune only one hyperparameter."""
    return [entry["name"] for entry in _configurations(record) if len(split_space(entry["space"])[0]) == 1]


def _rank_within_runs(trials: list[Row]) -> list[Row]:
    """The trials of several tuning runs with their rank in their own run as value; those of one run unchanged.

    Runs have different seeds, and a run with easier ones would alone fill the best tenth of all trials.
    """
    frame = pd.DataFrame(trials, columns=["tuning_run", "value"])
    if frame["tuning_run"].nunique() == 1:
        return trials
    ranks = frame.groupby("tuning_run")["value"].rank(pct=True)
    return [{**row, "value": rank} for row, rank in zip(trials, ranks.tolist(), strict=True)]


def importances(trials: list[Row], ranges: Mapping[str, Range], direction: Direction) -> dict[str, float] | None:
    """Relative importances by PED-ANOVA; None where the scores do not separate the best tenth of the trials."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = _optuna_study(trials, ranges, direction)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if any("same set of trials" in str(warning.message) for warning in caught):
        return None
    return {name: float(shares[name]) for name in ranges}


def _optuna_study(trials: list[Row], ranges: Mapping[str, Range], direction: Direction) -> Any:
    """The trials as an Optuna study in memory."""
    import optuna

    class SharedTrial(optuna.trial.FrozenTrial):
        """A trial that Optuna need not copy, which would take longer than all that is computed from it."""

        def __deepcopy__(self, _: Any) -> "SharedTrial":
            return self

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {name: bounds.distribution() for name, bounds in ranges.items()}
    finished = datetime.fromtimestamp(0, UTC)
    study = optuna.create_study(direction=direction)
    for number, row in enumerate(trials):
        params = {name: row["setting"][name] for name in ranges}
        study.add_trial(
            SharedTrial(
                number, optuna.trial.TrialState.COMPLETE, row["value"], finished, finished, params, distributions,
                {}, {}, {}, number,
            )
        )  # fmt: skip
    return study


def _configurations(record: Record) -> list[dict[str, Any]]:
    configurations: list[dict[str, Any]] = record.study["definition"]["configurations"]
    return configurations
