"""Numbers of tuning: how trials ended, the best ones, where they lie in their ranges, and which setting to use."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hpo.analysis.paired_tests import Direction
from hpo.analysis.range_position import RangePosition, range_position
from hpo.analysis.record import Record
from hpo.analysis.results import BestTrial, Reruns, Tuning
from hpo.analysis.selection import Row, failed_attempts, ranked, tuning_slots
from hpo.analysis.setting_choice import SettingChoice, choose_settings
from hpo.space import split_space
from hpo.trials import DIVERGED, NO_SCORE, PRUNED, sampler_of, trials_per_run


def tuning_numbers(record: Record, entry: Mapping[str, Any]) -> Tuning:
    """The trials of one configuration; entry: its definition."""
    trials = tuning_slots(record, entry["name"])
    best_first = ranked(trials, record.study["definition"]["direction"])
    searches: dict[int, list[Row]] = {}  # by tuning run
    for row in sorted(best_first, key=lambda row: row["tuning_run"]):
        searches.setdefault(row["tuning_run"], []).append(row)
    causes = Counter(row["cause"] for row in trials)
    return Tuning(
        planned=trials_per_run(entry, record.study["trials"]) * record.study["tuning_runs"],
        finished=sum(row["state"] == "done" for row in trials),
        diverged=causes[DIVERGED],
        pruned=causes[PRUNED],
        without_score=causes[NO_SCORE],
        epochs=sum(int(row["result"].get("epochs") or 0) for row in trials if row["state"] == "done"),
        failed=sum(row["state"] == "failed" for row in trials),
        failed_attempts=failed_attempts(record, entry["name"], "tune"),
        best=[
            BestTrial(tuning_run + 1, best["slot"] + 1, best["value"], best["setting"])
            for tuning_run, (best, *_) in searches.items()
        ],
        range_positions=_range_positions(record, entry, searches),
        substitutes=_substitutes(trials, searches, trials_per_run(entry, record.study["trials"])),
    )


def _substitutes(trials: list[Row], searches: Mapping[int, list[Row]], planned: int) -> dict[int, str]:
    """See `Tuning.substitutes`; searches: tuning run → its trials with a score, best first. planned: trials of each."""
    ended = Counter(row["tuning_run"] for row in trials if row["state"] in ("done", "failed"))
    causes: dict[int, set[str]] = {}
    for row in trials:
        if row["state"] == "done" and ended[row["tuning_run"]] == planned:
            causes.setdefault(row["tuning_run"], set()).add(row["cause"])
    substitutes = {}
    for tuning_run, present in causes.items():
        best = next(iter(searches.get(tuning_run, ())), None)
        if best is None:
            substitutes[tuning_run + 1] = NO_SCORE if NO_SCORE in present else DIVERGED
        elif best["cause"] == PRUNED:
            substitutes[tuning_run + 1] = PRUNED
    return substitutes


def setting_choices(
    tuning: Mapping[str, Tuning], reruns: Mapping[str, Reruns], direction: Direction
) -> dict[str, SettingChoice]:
    """Which setting to use; reruns count once no further trial can change the settings that they train."""
    finished = [
        name
        for name, runs in reruns.items()
        if tuning[name].finished + tuning[name].failed == tuning[name].planned and len(runs.scores) == runs.planned
    ]
    return choose_settings(
        trials={name: {best.tuning_run: best.score for best in of_trials.best} for name, of_trials in tuning.items()},
        reruns={name: reruns[name].scores for name in finished},
        tuning_run_by_seed={seed: run for runs in reruns.values() for seed, run in runs.tuning_run_by_seed.items()},
        direction=direction,
    )


def _range_positions(
    record: Record, entry: Mapping[str, Any], searches: Mapping[int, list[Row]]
) -> dict[str, RangePosition]:
    """Hyperparameter → where its best trials lie; searches: tuning run → its trials, best first."""
    definition = record.study["definition"]
    grid = definition["sampler"]["grid"] if sampler_of(definition) == "grid" else {}
    positions = {}
    for name, bounds in split_space(entry["space"]).tuned.items():
        values = [[row["setting"][name] for row in rows if name in row["setting"]] for rows in searches.values()]
        chosen = [best["setting"][name] for best, *_ in searches.values() if name in best["setting"]]
        position = range_position(bounds, values, chosen, grid.get(name, ())) if bounds.ordered else None
        if position:
            positions[name] = position
    return positions
