"""What becomes of a study whose code is another than that of its results."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hpo.errors import UsageError
from hpo.storage.ledger.definition_diff import describe_code_changes, is_in_files
from hpo.storage.schema import slots, studies


def warn(connection: Connection, row: Any, after: Mapping[str, str], accepted: bool) -> list[str]:
    """A sentence where something was trained, or is in training, with the code as it was before.

    Raises:
        UsageError: there is such a thing, and that its results stand beside new ones is not accepted.
    """
    states = sa.select(slots.c.state).where(slots.c.study_id == row.id, slots.c.state.in_(("done", "leased")))
    begun = set(connection.scalars(states.distinct()))
    if not begun:
        return []
    before = row.fingerprint
    changed = describe_code_changes(before, after)
    if accepted:
        used = "earlier results used" if "done" in begun else "what is in training uses"
        return [f"the code changed since the last run ({changed}), which was accepted; {used} the old code"]
    ways = "give this one another --name, start from scratch with --fresh, or continue with --accept-changed-code"
    if before and all("." in name and ": " not in name for name in before):
        raise UsageError(
            f"study {row.name!r} was made by a version of hpo that kept track of less code, so that nobody knows "
            f"whether it changed; {ways} if it did not"
        )
    what, undo = "the code", "undo that"
    if not is_in_files(before, after):
        what, undo = "a value in the code", "undo that, give it a seed if it is random"
    raise UsageError(
        f"{what} of study {row.name!r} changed since its first trials ({changed}); {undo}, {ways}, which lets "
        "results of the old and the new code stand side by side"
    )


def check(connection: Connection, study: int, name: str, fingerprint: Mapping[str, str]) -> None:
    """Refuses to begin with other code than the study has by now: nothing was trained when both were opened."""
    stored = connection.scalar(sa.select(studies.c.fingerprint).where(studies.c.id == study))
    if stored is not None and stored != fingerprint:
        changed = describe_code_changes(stored, fingerprint)
        raise UsageError(
            f"study {name!r} was opened with other code ({changed}) while this worker started; run all workers with "
            "the same code, or give this one another --name"
        )


def reopen_failed(connection: Connection, study: int) -> None:
    """Opens what exceptions made fail for good: the code that raised them is another one now.

    A configuration that was given up for them is opened as a whole, with all the failures allowed to it again.
    """
    mine = slots.c.study_id == study
    by_exception = sa.and_(mine, slots.c.state == "failed", slots.c.cause == "exception")
    tuning = sa.select(slots.c.configuration).where(by_exception, slots.c.phase == "tune")
    given_up = slots.c.configuration.in_(list(connection.scalars(tuning.distinct())))
    opened = {"state": "open", "cause": None, "finished": None, "started": None, "attempt": 0}
    connection.execute(sa.update(slots).where(mine, given_up, slots.c.phase == "tune").values(replacements=0))
    again = sa.update(slots).where(mine, given_up, slots.c.state == "failed")
    connection.execute(again.values(opened | {"setting": None}))
    chosen = sa.and_(by_exception, slots.c.phase == "rerun", slots.c.setting.is_not(None))
    connection.execute(sa.update(slots).where(chosen).values(opened))
    connection.execute(sa.update(studies).where(studies.c.id == study).values(settings_assigned=0))
