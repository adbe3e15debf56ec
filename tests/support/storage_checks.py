"""What must hold for a finished study's tables, its workers' logs and Optuna's tables, whatever was killed."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from storage_study import best, kept

from hpo.storage import curves, schema
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.studies import study_name

POINTS = 2 * 2  # metrics and epochs of `storage_study.outcomes`
Row = Mapping[str, Any]


def check(ledger: Ledger, url: str, log: Sequence[Row]) -> None:
    """Raises AssertionError if a finished study breaks a promise.

    Args:
        log: the lines of all its workers (`storage_worker.read_logs`).
    """
    slots, failures = read(ledger, schema.slots), read(ledger, schema.failures)
    assert ledger.state() == "done"
    check_numbers(ledger, slots)
    for slot in slots:
        check_attempts(slot, [failure for failure in failures if failure["slot_id"] == slot["id"]])
    check_log(slots, log)
    stored = Counter(curves.read(ledger.engine, ledger.study)["slot_id"].tolist())
    assert stored == {slot["id"]: POINTS for slot in slots if slot["state"] == "done"}, "curves are lost or repeated"
    check_optuna(ledger, url, slots)


def read(ledger: Ledger, table: sa.Table) -> list[Row]:
    with ledger.engine.begin() as connection:
        query = sa.select(table).where(table.c.study_id == ledger.id).order_by(table.c.id)
        return [dict(row) for row in connection.execute(query).mappings()]


def check_numbers(ledger: Ledger, slots: Sequence[Row]) -> None:
    """Every configuration has its trials and reruns, each slot and seed once; a rerun may be out of attempts."""
    study = ledger.export()["study"]
    for configuration in ledger.configurations:
        trials = [slot for slot in slots if (slot["configuration"], slot["phase"]) == (configuration, "tune")]
        reruns = [slot for slot in slots if (slot["configuration"], slot["phase"]) == (configuration, "rerun")]
        assert {slot["state"] for slot in trials} == {"done"}, "trials are missing"
        for tuning_run in range(study["tuning_runs"]):
            numbers = sorted(slot["slot"] for slot in trials if slot["tuning_run"] == tuning_run)
            assert numbers == list(range(study["trials"]))
            chosen = best(ledger, configuration, tuning_run)
            settings = [slot["setting"] for slot in reruns if slot["tuning_run"] == tuning_run]
            assert chosen and all(setting == chosen["setting"] for setting in settings), f"not the best: {settings}"
        assert sorted(slot["seed"] for slot in reruns) == [1000 + seed for seed in range(study["seeds"])]
        assert {slot["state"] for slot in reruns} <= {"done", "failed"}, "reruns are missing"


def check_attempts(slot: Row, failures: Sequence[Row]) -> None:
    """Lost workers cost no setting, unless the last failure at it says that it is set aside."""
    attempt = replacements = 0
    settings: list[Any] = []
    over = False
    for failure in failures:
        attempt += 1
        assert (failure["attempt"], failure["cause"]) == (attempt, "lost worker"), f"slot {slot['id']}: {failures}"
        settings.append(failure["setting"])
        over = False
        if "set aside" in failure["message"]:
            assert attempt >= 5 and _is_one_setting(settings), f"slot {slot['id']} had several settings: {settings}"
            over = slot["phase"] == "rerun"
            attempt, settings, replacements = 0, [], replacements + (not over)
    assert slot["replacements"] == replacements and slot["lease_until"] is None
    assert slot["state"] == ("failed" if over else "done"), f"slot {slot['id']} is {slot['state']}"
    if slot["state"] == "done":
        assert slot["attempt"] == attempt + 1, f"slot {slot['id']}: attempt {slot['attempt']} after {attempt} failed"
        assert _is_one_setting([*settings, slot["setting"]]), f"slot {slot['id']} was finished with another setting"


def _is_one_setting(settings: Sequence[Any]) -> bool:
    """An attempt may have ended before it had a setting, but not after one that had."""
    first = next((index for index, setting in enumerate(settings) if setting is not None), len(settings))
    return all(setting == settings[first] for setting in settings[first:])


def check_log(slots: Sequence[Row], log: Sequence[Row]) -> None:
    """No slot is finished twice; each has one setting and the result of the worker for which it counted."""
    counted = [line for line in log if line["what"] == "counted"]
    assert len({line["slot"] for line in counted}) == len(counted), "a slot was finished twice"
    by_id = {slot["id"]: slot for slot in slots}
    for line in counted:
        slot = by_id[line["slot"]]
        assert slot["state"] == "done" and slot["result"]["worker"] == line["name"], "a result was overwritten"
        assert (slot["attempt"], slot["setting"]) == (line["attempt"], line["setting"])
        assert slot["value"] == 1.0 - line["setting"]["learning_rate"]
    settings: dict[tuple[int, int], set[str]] = {}
    for line in log:
        settings.setdefault((line["slot"], line["replacements"]), set()).add(
            json.dumps(line["setting"], sort_keys=True)
        )
    changed = {key: found for key, found in settings.items() if len(found) > 1}
    assert not changed, f"another setting after a takeover: {changed}"


def check_optuna(ledger: Ledger, url: str, slots: Sequence[Row]) -> None:
    """One COMPLETE trial for every finished slot, equal to it; the others are FAIL with a cause."""
    storage = kept(url)
    expected: dict[str, dict[int, Row]] = {}
    for slot in slots:
        name = study_name(ledger.study, slot["configuration"], slot["phase"], slot["tuning_run"])
        expected.setdefault(name, {})[slot["id"]] = slot
    for name, by_id in expected.items():
        trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
        assert {trial.state.name for trial in trials} <= {"COMPLETE", "FAIL"}, f"{name} has running trials"
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        done = [id for id, slot in by_id.items() if slot["state"] == "done"]
        assert sorted(trial.user_attrs["slot_id"] for trial in complete) == sorted(done), f"{name} shows other slots"
        for trial in complete:
            slot = by_id[trial.user_attrs["slot_id"]]
            assert (trial.params, trial.value) == (slot["setting"], slot["value"])
            assert (slot["trial"], slot["seed"]) == (trial._trial_id, trial.user_attrs["seed"])
            assert trial.intermediate_values == {1: 0.1, 2: 0.2}, "values of another attempt, or none"
        causes = {trial.user_attrs.get("cause") for trial in trials if trial.state.name == "FAIL"}
        assert causes <= {"lost worker"}
