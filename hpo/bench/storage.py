"""Benchmark: what a trial costs in sampling and storage, without training, and how many workers a database bears."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sqlalchemy.engine import Engine

from hpo.bench.capacity import Costs, advice, table
from hpo.bench.clients import race
from hpo.bench.storage_text import lines_of_parts, lines_of_race, lines_of_whole, lines_of_workers
from hpo.bench.transactions import (
    EPOCHS,
    METRICS,
    SPACE,
    Stopwatch,
    enlarged,
    finish,
    leased,
    outcomes,
    ranges,
    server,
    spread,
    study,
)
from hpo.storage.database import connect
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import STARTUP_TRIALS
from hpo.worker.sampler import sample
from hpo.worker.suggestions import Suggestions

TRIAL = ("lease", "sample", "assign", "show", "finish", "show result")  # what every trial needs
OWNER = "bench"
BATCHES = 8  # populations that are timed; their median counts
ASKED = 256  # settings asked of TPE at once


def measure_storage(
    url: str | None = None,
    population: int = 32,
    finished: int = 1000,
    whole: int = 1000,
    crowd: int = 20_000,
    clients: int = 8,
    populations: int = 4,
    training: float = 30.0,
    show: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measures on a study of its own, which it deletes.

    Args:
        url: the database; by default a SQLite file in a temporary folder.
        finished: trials that are known when the measuring begins.
        whole: size of the one population that must not cost a statement a trial.
        crowd: slots of the study that shows what a large study costs.
        clients, populations: of the race; each client gets so many populations on average.
        training: seconds that a population trains, for the table of many workers.
        show: told the lines of a report as they are known.

    Returns:
        JSON values: the database; "parts" (step → milliseconds a trial), the sum "ms_a_trial" of those that every
        trial needs, and "ask_seconds" for 256 settings; "whole" (step → "seconds", "statements" of one large
        population); "race" (see `clients.race`); "workers" (see `capacity.table`) and "advice".
    """
    if url is None:
        with tempfile.TemporaryDirectory(prefix="hpo-bench-") as folder:
            address = f"sqlite:///{Path(folder) / 'bench.db'}"
            return measure_storage(address, population, finished, whole, crowd, clients, populations, training, show)

    def tell(lines: list[str]) -> None:
        for line in lines if show else ():
            show(line)  # type: ignore[misc]

    engine = connect(url)
    try:
        found: dict[str, Any] = {
            **server(engine), "cores": os.cpu_count(), "population": population, "finished": finished,
            "tuned": len(SPACE), "epochs": EPOCHS, "metrics": len(METRICS), "training": training,
        }  # fmt: skip
        seconds = _trials(engine, population, finished)
        found |= {
            "parts": {step: 1e3 * took / population for step, took in seconds.items() if step not in ("read", "ask")},
            "ms_a_trial": 1e3 * sum(seconds[step] for step in TRIAL) / population,
            "ask_seconds": seconds["ask"],
        }
        tell(lines_of_parts(found))
        found["whole"] = _population(engine, whole)
        tell(lines_of_whole(found["whole"], whole))
        crowded = _crowd(engine, population, crowd)
        found["race"] = race(url, clients, population, populations)
        tell(lines_of_race(found["race"]))
        found["workers"] = table(_costs(found, seconds, crowded, crowd), population, training)
        found["advice"] = advice(found["workers"])
        tell(lines_of_workers(found))
    finally:
        engine.dispose()
    return found


def _trials(engine: Engine, population: int, finished: int) -> dict[str, float]:
    """Median seconds of each step of a population; "read" is a part of "sample", "ask" is for 256 settings.

    Of "sample" the mean: whoever comes to a batch first asks for all of its settings, and finds them there afterwards.
    """
    with study(engine, finished) as ledger:
        mirror = Mirror(ledger)
        finish(ledger, mirror, OWNER, finished)
        ledger = enlarged(ledger, finished + population * (BATCHES + 1))
        suggestions = Suggestions(ledger)
        with Stopwatch(engine) as watch:
            for _ in range(BATCHES):
                work = watch.time("lease", leased, ledger, OWNER, population)
                settings = watch.time("sample", suggestions.settings, work)
                work = watch.time("assign", ledger.assign, OWNER, work, settings)
                work = watch.time("show", mirror.begin, OWNER, work)
                results = outcomes(work)
                watch.time("renew", ledger.extend_lease, OWNER, [slot.id for slot in work.slots])
                watch.time("finish", ledger.finish, OWNER, results)
                watch.time("show result", mirror.finish, work, results)
            known = watch.time("read", ledger.finished_trials, "A", {0}, work.slots[0].batch)
            watch.time("ask", sample, ranges(ledger), known[0][0][:finished], [], ASKED, "maximize", 0)
            leased(ledger, OWNER, population)
            watch.time("release", ledger.release, OWNER)
        mirror.close()
    return {step: (fmean if step == "sample" else median)(took) for step, took in watch.seconds.items()}


def _population(engine: Engine, size: int) -> dict[str, dict[str, float]]:
    """Seconds and statements of each step of one population of `size`."""
    with study(engine, trials=1, seeds=2 * size) as ledger:
        mirror = Mirror(ledger)
        mirror.repair()
        finish(ledger, mirror, OWNER, 1)
        leased(ledger, OWNER, 1)  # chooses the settings of all reruns
        ledger.release(OWNER)
        with Stopwatch(engine) as watch:
            watch.time("lease", leased, ledger, OWNER, size)
            watch.time("release", ledger.release, OWNER)
            work = leased(ledger, OWNER, size)
            bare = work.only([slot._replace(setting=None) for slot in work.slots])
            work = watch.time("assign", ledger.assign, OWNER, bare, spread(ledger, bare))
            work = watch.time("show", mirror.begin, OWNER, work)
            watch.time("renew", ledger.extend_lease, OWNER, [slot.id for slot in work.slots])
            results = outcomes(work)
            watch.time("finish", ledger.finish, OWNER, results)
            watch.time("show result", mirror.finish, work, results)
            plain = [replace(entry, curves={}) for entry in outcomes(leased(ledger, OWNER, size))]
            watch.time("without curves", ledger.finish, OWNER, plain)
        assert len(work.slots) == len(plain) == size, "not all slots were leased at once"
        mirror.close()
    return {step: {"seconds": took[0], "statements": watch.statements[step][0]} for step, took in watch.seconds.items()}


def _crowd(engine: Engine, population: int, slots: int) -> dict[str, float]:
    """Median seconds of a lease and of a look for work in a study of so many slots."""
    with study(engine, slots) as ledger, Stopwatch(engine) as watch:
        finish(ledger, Mirror(ledger), OWNER, STARTUP_TRIALS)
        for _ in range(BATCHES):
            watch.time("lease", leased, ledger, OWNER, population)
            watch.time("look", ledger.state)
            ledger.release(OWNER)
    return {step: median(took) for step, took in watch.seconds.items()}


def _costs(found: dict[str, Any], seconds: dict[str, float], crowded: dict[str, float], crowd: int) -> Costs:
    """What the table of many workers is worked out from; a look is as dear as a lease, less what leasing adds."""
    slots = found["finished"] + found["population"] * (BATCHES + 1) + STARTUP_TRIALS
    growth = max(0.0, (crowded["lease"] - seconds["lease"]) / max(1, crowd - slots))
    return Costs(
        lease=seconds["lease"],
        look=max(0.0, crowded["look"] - growth * (crowd - slots)),
        slot=growth,
        show=seconds["show"],
        others=sum(seconds[step] for step in ("read", "assign", "finish", "show result")),
        sample=seconds["sample"] - seconds["read"],
        renew=seconds["renew"],
        slots=slots,
        connections=found["connections"],
        cores=found["cores"] if found["connections"] else None,
    )
