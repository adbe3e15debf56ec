"""The storage benchmark as lines for a terminal."""

from collections.abc import Mapping
from typing import Any


def lines_of_parts(found: Mapping[str, Any]) -> list[str]:
    head = (
        f"{found['database']}; {found['finished']} finished trials, populations of {found['population']}, "
        f"{found['tuned']} tuned hyperparameters, curves of {found['epochs']} epochs × {found['metrics']} metrics"
    )
    rows = [f"  {step:14} {took:8.3f}" for step, took in found["parts"].items()]
    total = f"  {'a trial':14} {found['ms_a_trial']:8.3f}   (renewals and releases not counted)"
    return [
        head,
        "",
        f"  {'step':14} {'ms/trial':>8}",
        *rows,
        total,
        f"256 settings at once: {found['ask_seconds']:.2f} s",
    ]


def lines_of_whole(steps: Mapping[str, Mapping[str, float]], size: int) -> list[str]:
    rows = [f"  {step:14} {entry['statements']:10d} {entry['seconds']:8.3f}" for step, entry in steps.items()]
    return ["", f"one population of {size}:", f"  {'step':14} {'statements':>10} {'seconds':>8}", *rows]


def lines_of_race(found: Mapping[str, Any]) -> list[str]:
    return [
        "",
        f"{found['clients']} workers without training: {found['workers']:.0f} trials/s; as many clients that only make "
        f"the same transactions: {found['bare']:.0f} trials/s; ratio {found['ratio']:.2f}",
    ]


def lines_of_workers(found: Mapping[str, Any]) -> list[str]:
    """Worked out, not measured: the share of each part of the database that many workers use."""
    parts = list(found["workers"][0]["use"])
    place = "" if found["connections"] is None else f", a server of {found['cores']} cores"
    widths = [max(8, len(part)) for part in parts]
    head = f"  {'workers':>7} {'trials/s':>8} " + " ".join(
        f"{part:>{width}}" for part, width in zip(parts, widths, strict=True)
    )
    rows = [
        f"  {row['workers']:7d} {row['trials_per_second']:8.0f} "
        + " ".join(f"{row['use'][part]:{width}.1%}" for part, width in zip(parts, widths, strict=True))
        + f"  {row['first']}"
        for row in found["workers"]
    ]
    return [
        "",
        f"many workers, worked out from the above, where a population trains {found['training']:g} s{place}:",
        f"{head}  used up first",
        *rows,
        *found["advice"],
    ]
