"""Tuning: what the trials of every configuration came to, as the frames that figures 6 to 8 are drawn from."""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from hpo.analysis import descriptors
from hpo.analysis.paired_tests import Direction
from hpo.analysis.record import Record
from hpo.analysis.selection import Row, ranked, tuning_slots
from hpo.report.figures import Searched
from hpo.report.formatting import plain_name, setting
from hpo.search_space import Range, split_space
from hpo.trials import PRUNED, STARTUP_TRIALS

ENOUGH_TRIALS = 50  # importances from fewer finished trials are noise

Scored = dict[str, list[Row]]


def scored_trials(record: Record) -> Scored:
    """The trials of full length that have a score, by configuration, in the order of tuning run and slot."""
    definition = record.study["definition"]
    return {
        entry["name"]: sorted(
            (
                row
                for row in ranked(tuning_slots(record, entry["name"]), definition["direction"])
                if row["cause"] != PRUNED
            ),
            key=lambda row: (row["tuning_run"], row["slot"]),
        )
        for entry in definition["configurations"]
    }


def history_frame(scored: Scored) -> pd.DataFrame:
    """Columns configuration, tuning_run, trial (from 1), score, setting (in words)."""
    rows = [
        (name, row["tuning_run"], row["slot"] + 1, row["value"], setting(row["setting"]))
        for name, trials in scored.items()
        for row in trials
    ]
    return pd.DataFrame(rows, columns=["configuration", "tuning_run", "trial", "score", "setting"])


def best_lines(history: pd.DataFrame, record: Record) -> pd.DataFrame:
    """Columns configuration, tuning_run, trial, best: the best so far, or of a random search the expected best."""
    random = all_random(record)
    compute = descriptors.expected_best if random else descriptors.best_so_far
    parts = []
    for (name, tuning_run), run in history.groupby(["configuration", "tuning_run"], sort=False):
        best = compute(run["score"], record.study["definition"]["direction"])
        trials = range(1, len(run) + 1) if random else run["trial"]
        parts.append(
            pd.DataFrame({"configuration": name, "tuning_run": tuning_run, "trial": list(trials), "best": best})
        )
    return pd.concat(parts, ignore_index=True)


def all_random(record: Record) -> bool:
    """Whether no configuration has more trials than the sampler draws at random before it learns, all of full length.

    Those that a pruner lets live are no random choice.
    """
    if "pruner" in record.study["definition"]:
        return False
    planned = [entry.get("trials") or record.study["trials"] for entry in _configurations(record)]
    return max(planned) <= STARTUP_TRIALS


def slice_frame(scored: Scored) -> pd.DataFrame:
    """Columns configuration, trial (from 1), hyperparameter (in words), value, score."""
    rows = [
        (name, row["slot"] + 1, plain_name(hyperparameter), value, row["value"])
        for name, trials in scored.items()
        for row in trials
        for hyperparameter, value in row["setting"].items()
    ]
    return pd.DataFrame(rows, columns=["configuration", "trial", "hyperparameter", "value", "score"])


def tuned(record: Record) -> dict[str, Searched]:
    """Every hyperparameter that a configuration tunes, in words, with the ends of all its ranges together."""
    found: dict[str, Searched] = {}
    for entry in _configurations(record):
        for name, bounds in split_space(entry["space"])[0].items():
            other = found.get(plain_name(name), bounds)
            low, high = min(other.low, bounds.low), max(other.high, bounds.high)
            found[plain_name(name)] = Searched(low, high, other.log and bounds.log)
    return found


def importance_frame(record: Record, scored: Scored) -> pd.DataFrame:
    """Columns configuration, hyperparameter (in words), importance, trials; where there are trials enough.

    Of configurations that tune two hyperparameters or more.
    """
    direction = record.study["definition"]["direction"]
    rows = []
    for entry in _configurations(record):
        ranges, _ = split_space(entry["space"])
        trials = [row for row in scored[entry["name"]] if ranges.keys() <= row["setting"].keys()]
        if len(trials) >= ENOUGH_TRIALS and len(ranges) > 1:  # relative: of one alone it is 1, whatever its scores
            found = importances(_within_runs(trials), ranges, direction) or {}
            rows += [(entry["name"], plain_name(name), found[name], len(trials)) for name in found]
    return pd.DataFrame(rows, columns=["configuration", "hyperparameter", "importance", "trials"])


def tuning_one(record: Record) -> list[str]:
    """The configurations that tune one hyperparameter alone."""
    return [entry["name"] for entry in _configurations(record) if len(split_space(entry["space"])[0]) == 1]


def _within_runs(trials: list[Row]) -> list[Row]:
    """The trials of several tuning runs with their rank in their own run as value; those of one run as they are.

    Runs have seeds of their own, and an easier one would fill the best tenth of all trials alone.
    """
    frame = pd.DataFrame(
        {"tuning_run": [row["tuning_run"] for row in trials], "value": [row["value"] for row in trials]}
    )
    if frame["tuning_run"].nunique() == 1:
        return trials
    ranks = frame.groupby("tuning_run")["value"].rank(pct=True)
    return [{**row, "value": rank} for row, rank in zip(trials, ranks.tolist(), strict=True)]


def importances(trials: list[Row], ranges: Mapping[str, Range], direction: Direction) -> dict[str, float] | None:
    """Relative importances by PED-ANOVA; None where the scores do not tell the best tenth of the trials apart."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = _optuna_study(trials, ranges, direction)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if any("same set of trials" in str(warning.message) for warning in told):
        return None
    return {name: float(found[name]) for name in ranges}


def _optuna_study(trials: list[Row], ranges: Mapping[str, Range], direction: Direction) -> Any:
    """The trials as a study of Optuna's in memory."""
    import optuna

    class Own(optuna.trial.FrozenTrial):
        """Optuna copies every trial that it is given, which takes longer than all that is computed from them."""

        def __deepcopy__(self, _: Any) -> "Own":
            return self  # nobody else has it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {name: bounds.distribution() for name, bounds in ranges.items()}
    ended = datetime.fromtimestamp(0, UTC)
    study = optuna.create_study(direction=direction)
    for number, row in enumerate(trials):
        study.add_trial(
            Own(
                number, optuna.trial.TrialState.COMPLETE, row["value"], ended, ended,
                {name: row["setting"][name] for name in ranges}, distributions, {}, {}, {}, number,
            )
        )  # fmt: skip
    return study


def _configurations(record: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = record.study["definition"]["configurations"]
    return found
