"""What a trial costs in sampling and storage, without training, and how many workers a database supports.

    python tests/benchmarks/storage.py --storage postgresql://user@host/database

1. Milliseconds a trial of each of a worker's steps, where 1,000 trials are finished: lease, sample, assign, begin (the
   trials appear in Optuna's tables), extend (a heartbeat), finish, finish in Optuna's tables.
2. Seconds and SQL statements of the same steps for one population of 1,000.
3. Calculated from these, and from a lease in a study of 20,000 slots: which part of the database is used up first by 1,
   10, 100 and 1,000 workers whose populations train for `--training` seconds.

It leaves nothing behind in the database.
"""

import os
import time
from collections.abc import Callable
from statistics import fmean, median
from typing import Any, NamedTuple

import sqlalchemy as sa
from temporary_study import OWNER, enlarge, finish, lease, outcomes, run_program, spread_settings, temporary_study

from hpo.space import split_space
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.ledger.stored_study import LEASE
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import STARTUP_TRIALS
from hpo.worker.loop import POLL, POLLING_SHARE
from hpo.worker.sampler import sample
from hpo.worker.suggestions import Suggestions

STEPS = ("lease", "sample", "assign", "begin", "finish", "finish in Optuna")  # what every trial needs
REPETITIONS = 8  # populations that are timed
SUGGESTED = 256
WORKERS = (1, 10, 100, 1000)
LIMITS = {  # part of the database → what to do when it is used up
    "writer": "SQLite lets one client write at a time; use PostgreSQL",
    "study lock": "a study's leases are given one at a time; divide the trials among several studies",
    "trial numbers": "Optuna's trials are numbered one at a time; divide the trials among several studies",
    "server": "give the server more processors",
    "connections": "each worker keeps one; raise max_connections to the number of workers and 20 more",
    "polling": "workers that wait for others' trials slow each other down; start only as many as have work",
}


class Stopwatch:
    """Seconds and statements of named steps; outside SQLite a list of rows counts as a statement a row."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.statements: dict[str, int] = {}
        self._count, self._one_a_row = 0, engine.dialect.name != "sqlite"
        sa.event.listen(engine, "before_cursor_execute", self._counted)

    def __call__(self, step: str, action: Callable[..., Any], *arguments: Any) -> Any:
        before, start = self._count, time.perf_counter()
        result = action(*arguments)
        self.seconds.setdefault(step, []).append(time.perf_counter() - start)
        self.statements[step] = self._count - before
        return result

    def _counted(self, *arguments: Any) -> None:
        self._count += len(arguments[3]) if arguments[5] and self._one_a_row else 1


def measure_steps(url: str, population: int, finished: int) -> dict[str, float]:
    """Median seconds of each step of a population; "read" is a part of "sample", "suggest" is for 256 settings.

    For "sample" the mean: one worker samples all settings of a batch, and the next finds them sampled.
    """
    with temporary_study(url, finished) as ledger:
        mirror, watch = Mirror(ledger), Stopwatch(ledger.engine)
        finish(ledger, finished, mirror=mirror)
        ledger = enlarge(ledger, finished + population * (REPETITIONS + 1))
        suggestions = Suggestions(ledger)
        for _ in range(REPETITIONS):
            work = watch("lease", lease, ledger, population)
            work = watch("assign", ledger.assign, OWNER, work, watch("sample", suggestions.settings, work))
            time_results(watch, ledger, mirror, work)
        known, _ = watch("read", ledger.finished_trials, "A0", {0}, work.slots[0].batch)[0]
        space = split_space(ledger.definition["configurations"][0]["space"])
        watch("suggest", sample, space, known[:finished], [], SUGGESTED, "maximize", 0)
        lease(ledger, population)
        watch("release", ledger.release, OWNER)
    return {step: (fmean if step == "sample" else median)(taken) for step, taken in watch.seconds.items()}


def time_results(watch: Stopwatch, ledger: Ledger, mirror: Mirror, work: Any) -> None:
    work = watch("begin", mirror.begin, OWNER, work)
    watch("extend", ledger.extend_lease, OWNER, [slot.id for slot in work.slots])
    results = outcomes(work)
    watch("finish", ledger.finish, OWNER, results)
    watch("finish in Optuna", mirror.finish, work, results)


def measure_population(url: str, size: int) -> dict[str, dict[str, float]]:
    """Seconds and statements of each step of one population of `size`."""
    with temporary_study(url, trials=1, seeds=size) as ledger:
        mirror, watch = Mirror(ledger), Stopwatch(ledger.engine)
        finish(ledger, 1, mirror=mirror)
        lease(ledger, 1)  # assigns the settings of all reruns
        ledger.release(OWNER)
        work = watch("lease", lease, ledger, size)
        assert len(work.slots) == size, "not all slots were leased at once"
        watch("release", ledger.release, OWNER)
        work = lease(ledger, size)
        unassigned = work.with_slots([slot._replace(setting=None) for slot in work.slots])
        work = watch("assign", ledger.assign, OWNER, unassigned, spread_settings(unassigned))
        time_results(watch, ledger, mirror, work)
    return {step: {"seconds": taken[0], "statements": watch.statements[step]} for step, taken in watch.seconds.items()}


def measure_large_study(url: str, population: int, slots: int) -> dict[str, float]:
    """Median seconds of a lease and of a poll in a study of this number of slots."""
    with temporary_study(url, slots) as ledger:
        watch = Stopwatch(ledger.engine)
        finish(ledger, STARTUP_TRIALS)
        for _ in range(REPETITIONS):
            watch("lease", lease, ledger, population)
            watch("poll", ledger.state)
            ledger.release(OWNER)
    return {step: median(taken) for step, taken in watch.seconds.items()}


class Costs(NamedTuple):
    """Seconds of one worker's transactions, measured with one client.

    Attributes:
        lease, poll: in a study of `slots` slots; `slot` is what every further slot adds to either.
        begin: of a population. others: all other transactions of a population. sample: without any transaction.
        extend: one heartbeat.
        connections: the server's maximum, and its cores; None for SQLite.
    """

    lease: float
    poll: float
    slot: float
    begin: float
    others: float
    sample: float
    extend: float
    slots: int
    connections: int | None
    cores: int | None


def capacity(costs: Costs, population: int, training: float, count: int) -> dict[str, Any]:
    """What `count` workers use of each part of the database (1: all of it), and the trials that they finish.

    The study is as large as it must be for all to have work. Polling is that of the worst case: all workers but one
    wait. Those without a connection do not work, and those who wait for a part that is used up are slower by its use.
    """
    use, _ = _use(costs, population, training, count)
    connected = min(count, costs.connections or count)
    served, cycle = _use(costs, population, training, connected)
    slowdown = max(1.0, *(share for part, share in served.items() if part not in ("connections", "polling")))
    rate = connected * population / cycle / slowdown
    return {"workers": count, "trials_per_second": rate, "use": use, "first": max(use, key=lambda part: use[part])}


def _use(costs: Costs, population: int, training: float, count: int) -> tuple[dict[str, float], float]:
    """(part → share used, seconds from one lease of a worker to its next)."""
    further = max(costs.slots, 3 * count * population) - costs.slots  # tuning trains at most a third of the trials
    lease_seconds, poll = costs.lease + costs.slot * further, costs.poll + costs.slot * further
    transactions = lease_seconds + costs.begin + costs.others
    cycle = training + costs.sample + transactions
    busy = count * (transactions / cycle + 4 / LEASE * costs.extend)
    polling = (count - 1) * min(poll / POLL[1], POLLING_SHARE)
    if costs.connections is None or costs.cores is None:
        return {"writer": busy, "polling": polling}, cycle
    serial = {"study lock": count * lease_seconds / cycle, "trial numbers": count * costs.begin / cycle}
    shared = {"server": busy / costs.cores, "polling": polling / costs.cores}
    return {**serial, **shared, "connections": count / costs.connections}, cycle


def measure(
    url: str, population: int, finished: int, large_population: int, large_study: int, training: float
) -> dict[str, Any]:
    steps = measure_steps(url, population, finished)
    whole = measure_population(url, large_population)
    large = measure_large_study(url, population, large_study)
    database, connections = describe_server(url)
    slots = finished + population * (REPETITIONS + 1) + STARTUP_TRIALS
    slot = max(0.0, (large["lease"] - steps["lease"]) / max(1, large_study - slots))
    others = sum(steps[step] for step in ("read", "assign", "finish", "finish in Optuna"))
    costs = Costs(
        steps["lease"], max(0.0, large["poll"] - slot * (large_study - slots)), slot, steps["begin"], others,
        steps["sample"] - steps["read"], steps["extend"], slots, connections, os.cpu_count() if connections else None,
    )  # fmt: skip
    return {
        "database": database, "cores": os.cpu_count(), "population": population, "finished": finished,
        "steps": {step: 1e3 * taken / population for step, taken in steps.items() if step not in ("read", "suggest")},
        "ms_a_trial": 1e3 * sum(steps[step] for step in STEPS) / population, "suggest_seconds": steps["suggest"],
        "large_population": {"size": large_population, "steps": whole}, "training": training,
        "workers": [capacity(costs, population, training, count) for count in WORKERS],
    }  # fmt: skip


def describe_server(url: str) -> tuple[str, int | None]:
    """The database with its version, and the most connections it takes (None for SQLite)."""
    engine = connect(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return f"SQLite {connection.scalar(sa.text('select sqlite_version()'))}", None
        version = str(connection.scalar(sa.text("show server_version"))).split()[0]
        return f"PostgreSQL {version}", int(str(connection.scalar(sa.text("show max_connections"))))


def print_result(result: dict[str, Any]) -> None:
    population, large, last = result["population"], result["large_population"], result["workers"][-1]
    print(f"{result['database']}, {result['finished']} finished trials, populations of {population}: ms a trial")
    for step, milliseconds in {**result["steps"], "sum of a trial": result["ms_a_trial"]}.items():
        print(f"  {step:16} {milliseconds:8.3f}")
    print(f"{SUGGESTED} settings suggested at once: {result['suggest_seconds']:.2f} s")
    print(f"one population of {large['size']}: SQL statements, seconds")
    for step, cost in large["steps"].items():
        print(f"  {step:16} {cost['statements']:6d} {cost['seconds']:8.3f}")
    print(f"calculated, populations of {population} that train for {result['training']:g} s: share used of each part")
    for row in result["workers"]:
        use = ", ".join(f"{part} {share:.1%}" for part, share in row["use"].items())
        print(f"  {row['workers']:5d} workers, {row['trials_per_second']:6.0f} trials/s: {use}")
    for share, part in sorted(((share, part) for part, share in last["use"].items() if share > 1), reverse=True):
        print(f"{last['workers'] / share:.0f} workers use up the {part}: {LIMITS[part]}")


if __name__ == "__main__":
    sizes = {"population": 32, "finished": 1000, "large_population": 1000, "large_study": 20_000}
    run_program(__doc__, measure, print_result, **sizes, training=30.0)
