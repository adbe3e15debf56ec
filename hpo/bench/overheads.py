"""Benchmark: time and memory of what goes on around the training, from `hpo --help` to the report."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo import __version__
from hpo.bench import made_study
from hpo.bench.processes import reported, timed
from hpo.bench.transactions import server
from hpo.storage.database import connect

NAME = "hpo-bench-overheads"  # deleted before and after
GOALS = {  # part → (seconds, MiB) that it is to stay below
    "hpo --help": (0.5, None),
    "import to the first training step": (4.0, None),
    "ask": (3.0, None),
    "report": (15.0, 1024.0),
}
SIZES = {
    "finished": 1000, "asked": 256, "runs": 1000,
    "configurations": 4, "trials": 10_000, "reruns": 1000,
}  # fmt: skip
HEADER = f"{'':64} {'seconds':>8} {'least':>8} {'of a core':>9} {'goal':>6} {'peak MiB':>9} {'goal':>6}"


def measure_overheads(
    url: str | None = None,
    device: str = "auto",
    repetitions: int = 3,
    sizes: Mapping[str, int] = SIZES,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Times every part in fresh processes, on studies that were drawn instead of trained, which it deletes.

    Args:
        url: the database; by default a SQLite file in a temporary folder.
        device: of the first training step.
        sizes: as `SIZES`: trials that are finished and settings asked for; runs whose curves are written; and
            configurations, trials and reruns in all of the study that is reported.
        show: told a line of a table as each figure is known.

    Returns:
        JSON values: the database, "cores", "load" (runnable processes over the last minute, before and after), and
        "rows", each with "part", "seconds" (median), "least", "processor_seconds" (the least), "repetitions", "mib"
        (the process's peak), where only a part of a process is timed "more_mib" (the peak above what was held
        before), and "goal_seconds", "goal_mib".
    """
    with tempfile.TemporaryDirectory(prefix="hpo-bench-") as folder:
        address = url or f"sqlite:///{Path(folder) / 'bench.db'}"
        engine = connect(address)
        found: dict[str, Any] = {"hpo": __version__, **server(engine), "cores": os.cpu_count(), "load": [_load()]}
        engine.dispose()
        found["rows"] = []
        if show:
            show(f"{found['database']}, {found['cores']} cores, load {found['load'][0]:.1f}; medians of {repetitions}")
            show(HEADER)
        for row in _rows(address, device, repetitions, sizes, Path(folder)):
            goal = next((goal for part, goal in GOALS.items() if row["part"].startswith(part)), (None, None))
            found["rows"].append(row | {"goal_seconds": goal[0], "goal_mib": goal[1]})
            if show:
                show(_line(found["rows"][-1]))
    found["load"].append(_load())
    if show:
        show(f"load {found['load'][1]:.1f} at the end")
    return found


def _rows(url: str, device: str, repetitions: int, sizes: Mapping[str, int], folder: Path) -> Iterator[dict[str, Any]]:
    yield timed(["-m", "hpo", "--help"], repetitions).row("hpo --help")
    step = timed(["-m", "hpo.bench.first_training_step", device], repetitions)
    yield step.row("import to the first training step")
    asked = {key: sizes[key] for key in ("finished", "asked", "runs")}
    arguments = json.dumps({"name": NAME, "repetitions": repetitions, **asked})
    yield from reported(["-m", "hpo.bench.storage_parts", arguments], {"HPO_STORAGE": url})
    yield _report(url, repetitions, sizes, folder)


def _report(url: str, repetitions: int, sizes: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """The row of `hpo report`, as a user calls it."""
    configurations = sizes["configurations"]
    trials, seeds = sizes["trials"] // configurations, sizes["reruns"] // configurations
    with made_study.made(url, NAME, configurations, trials, seeds) as ledger:
        owner = "bench"
        ledger.register(owner, "none", {})
        made_study.finish(ledger, owner, np.random.default_rng(0), trials, configurations * seeds)
        ledger.engine.dispose()
        command = ["-m", "hpo", "report", NAME, "--reports", str(folder)]
        cost = timed(command, repetitions, {"HPO_STORAGE": url})
    return cost.row(f"report: {configurations * trials} trials, curves of {configurations * seeds} reruns")


def _load() -> float:
    return os.getloadavg()[0]


def _line(row: Mapping[str, Any]) -> str:
    seconds = f"{row['seconds']:8.3f} {row['least']:8.3f} {row['processor_seconds']:9.3f}"
    seconds += f" {_or_blank(row['goal_seconds'], 6)}"
    more = f" ({row['more_mib']:.0f} more)" if "more_mib" in row else ""
    return f"{row['part']:64} {seconds} {row['mib']:9.0f} {_or_blank(row['goal_mib'], 6)}{more}".rstrip()


def _or_blank(value: float | None, width: int) -> str:
    return f"{'' if value is None else f'{value:g}':>{width}}"
