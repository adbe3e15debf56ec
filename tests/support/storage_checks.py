"""What must hold of a study's tables, its workers' logs and Optuna's tables, whatever was killed on the way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import storage_study
from optuna.storages import RDBStorage
from storage_study import kept

from hpo.storage import curves, schema
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.studies import study_name

METRICS, EPOCHS = 2, 2  # of `storage_study.outcomes`
ATTEMPTS = 3  # with one setting, for lost workers
Row = Mapping[str, Any]


def check(ledger: Ledger, url: str, log: Sequence[Row]) -> None:
    """Raises AssertionError where a finished study breaks a promise.

    Args:
        log: the lines of all its workers (`storage_worker.read_logs`).
    """
    slots, failures = read(ledger, schema.slots), read(ledger, schema.failures)
    assert ledger.state() == "done"
    check_budgets(ledger, slots)
    for slot in slots:
        check_attempts(slot, [entry for entry in failures if entry["slot_id"] == slot["id"]])
    check_log(slots, log)
    check_curves(ledger, slots)
    check_mirror(ledger, url, slots)


def read(ledger: Ledger, table: sa.Table) -> list[Row]:
    with ledger.engine.begin() as connection:
        query = sa.select(table).where(table.c.study_id == ledger.id).order_by(table.c.id)
        return [dict(row) for row in connection.execute(query).mappings()]


def check_budgets(ledger: Ledger, slots: Sequence[Row]) -> None:
    """N trials and S reruns a configuration, every slot and seed once; a rerun may have run out of attempts."""
    study = ledger.export()["study"]
    for configuration in ledger.configurations:
        mine = [slot for slot in slots if slot["configuration"] == configuration]
        for tuning_run in range(study["tuning_runs"]):
            tuned = [slot for slot in mine if slot["phase"] == "tune" and slot["tuning_run"] == tuning_run]
            assert sorted(slot["slot"] for slot in tuned) == list(range(study["trials"]))
            assert {slot["state"] for slot in tuned} == {"done"}, "trials are missing"
            best = storage_study.best(ledger, configuration, tuning_run)
            reruns = [slot for slot in mine if slot["phase"] == "rerun" and slot["tuning_run"] == tuning_run]
            others = [slot for slot in reruns if best is None or slot["setting"] != best["setting"]]
            assert not others, f"reruns have another setting than the best, {best}: {others}"
        reruns = [slot for slot in mine if slot["phase"] == "rerun"]
        assert sorted(slot["seed"] for slot in reruns) == [1000 + seed for seed in range(study["seeds"])]
        assert {slot["state"] for slot in reruns} <= {"done", "failed"}, "reruns are missing"


def check_attempts(slot: Row, failures: Sequence[Row]) -> None:
    """Three attempts with one setting for lost workers; then another setting, or for a rerun the end."""
    attempt = replacements = 0
    settings: list[Any] = []
    over = False
    for failure in failures:
        assert not over, f"slot {slot['id']} was tried again after its last attempt"
        attempt += 1
        assert (failure["attempt"], failure["cause"]) == (attempt, "lost worker"), f"slot {slot['id']}: {failures}"
        settings.append(failure["setting"])
        if attempt == ATTEMPTS:
            assert _one(settings), f"slot {slot['id']} was tried with several settings: {settings}"
            over = slot["phase"] == "rerun"
            attempt, settings, replacements = 0, [], replacements + (not over)
    assert slot["replacements"] == replacements and slot["lease_until"] is None
    assert slot["state"] == ("failed" if over else "done"), f"slot {slot['id']} is {slot['state']}"
    if slot["state"] == "done":
        assert slot["attempt"] == attempt + 1, f"slot {slot['id']}: attempt {slot['attempt']} after {attempt} failed"
        assert _one([*settings, slot["setting"]]), f"slot {slot['id']} was finished with another setting"


def _one(settings: Sequence[Any]) -> bool:
    """Whether all are one setting; an attempt may have ended before it had one, but not after one that had."""
    first = next((place for place, setting in enumerate(settings) if setting is not None), len(settings))
    return all(setting == settings[first] for setting in settings[first:])


def check_log(slots: Sequence[Row], log: Sequence[Row]) -> None:
    """No slot counted twice, each with the result of the worker that was told so and one setting."""
    counted = Counter(line["slot"] for line in log if line["what"] == "counted")
    assert max(counted.values(), default=0) <= 1, f"finished twice: {counted.most_common(3)}"
    by_id = {slot["id"]: slot for slot in slots}
    for line in log:
        slot = by_id[line["slot"]]
        if line["what"] == "counted":
            assert slot["state"] == "done" and slot["result"]["worker"] == line["name"], "a result was overwritten"
            assert (slot["attempt"], slot["setting"]) == (line["attempt"], line["setting"])
            assert slot["value"] == 1.0 - line["setting"]["learning_rate"]
    tried: dict[tuple[int, int], set[str]] = {}
    for line in log:
        tried.setdefault((line["slot"], line["replacements"]), set()).add(json.dumps(line["setting"], sort_keys=True))
    changed = {key: settings for key, settings in tried.items() if len(settings) > 1}
    assert not changed, f"another setting after a takeover: {changed}"


def check_curves(ledger: Ledger, slots: Sequence[Row]) -> None:
    """Each finished slot's curves once and whole, and no others."""
    found = Counter(curves.read(ledger.engine, ledger.study)["slot_id"].tolist())
    assert found == {slot["id"]: METRICS * EPOCHS for slot in slots if slot["state"] == "done"}


def check_mirror(ledger: Ledger, url: str, slots: Sequence[Row]) -> None:
    """One COMPLETE trial for every finished slot, equal to it; the rest is FAIL with a cause, nothing runs."""
    storage: RDBStorage = kept(url)
    expected: dict[str, dict[int, Row]] = {}
    for slot in slots:
        name = study_name(ledger.study, slot["configuration"], slot["phase"], slot["tuning_run"])
        expected.setdefault(name, {})[slot["id"]] = slot
    for name, mine in expected.items():
        trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
        assert {trial.state.name for trial in trials} <= {"COMPLETE", "FAIL"}, f"{name} has trials that still run"
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        done = {slot for slot, row in mine.items() if row["state"] == "done"}
        assert sorted(trial.user_attrs["slot_id"] for trial in complete) == sorted(done), f"{name} shows other slots"
        for trial in complete:
            row = mine[trial.user_attrs["slot_id"]]
            assert (trial.params, trial.value) == (row["setting"], row["value"])
            assert (row["trial"], row["seed"]) == (trial._trial_id, trial.user_attrs["seed"])
        failed = [trial for trial in trials if trial.state.name == "FAIL"]
        assert {trial.user_attrs.get("cause") for trial in failed} <= {"lost worker", "released"}
