"""The tables of a record that people take away: trials and reruns, a row each, and their curves by epoch."""

import pandas as pd

from hpo.analysis.record import Record
from hpo.analysis.selection import superseded

KEYS = ["configuration", "phase", "tuning_run", "round", "slot", "seed"]


def record_tables(record: Record) -> dict[str, pd.DataFrame]:
    """The tables "trials", "reruns", "trial_curves" and "curves" (of the reruns), each under the name of its CSV file.

    The curves of trials have their own table: they are ten times as long as the rest, and no figure shows them.
    """
    by_metric = record.curves.pivot(index=["slot_id", "epoch"], columns="metric", values="value").reset_index("epoch")
    by_metric.columns.name = None
    tables = {}
    for phase, name, curves in (("tune", "trials", "trial_curves"), ("rerun", "reruns", "curves")):
        slots = record.slots[record.slots.phase == phase]
        tables[name] = _slot_table(slots)
        if phase == "rerun":
            tables[name].insert(list(tables[name]).index("round") + 1, "superseded", superseded(slots))
        table = slots.set_index("id")[KEYS].join(by_metric, how="inner")
        unknown = [metric for metric in by_metric if len(table) and table[metric].isna().all()]
        tables[curves] = table.drop(columns=unknown)
    return {name: table.reset_index(drop=True) for name, table in tables.items()}


def _slot_table(slots: pd.DataFrame) -> pd.DataFrame:
    """Slots with a column for each entry of their settings and results.

    Except for their seconds these follow from the plan: not from lost workers, nor from which worker came first.
    """
    plain = slots[["configuration", "tuning_run", "round", "slot", "seed", "state", "cause", "value", "seconds"]]
    spread = []
    for column, kind in (("setting", object), ("result", None)):  # whole numbers and texts of settings stay as they are
        rows = [entry if isinstance(entry, dict) else {} for entry in slots[column]]
        spread.append(pd.DataFrame(rows, index=slots.index, dtype=kind).add_prefix(f"{column}/"))
    return pd.concat([plain, *spread], axis="columns")
