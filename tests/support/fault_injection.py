"""Workers killed, paused, started late and cut off from their database, at moments drawn from a seed.

    python tests/support/fault_injection.py --schedules 100                 # on SQLite, PostgreSQL, pgbouncer by turns
    python tests/support/fault_injection.py --schedules 50 --storage postgresql --seed 1

Every schedule runs 1, 2 or 8 worker processes (their training is a short sleep) on a small study. Workers are killed,
paused, stopped by signals and started; the database is stopped, frozen, locked, damaged, cut off or slow
(`failing_storages`). A stopped worker must end within 5 s. Then the tables, the workers' logs and Optuna's tables are
checked: exact budgets, no trial finished twice, the same setting after a takeover, the right number of attempts. The
first schedule that fails ends the program with exit code 1 and names the command that repeats it; its folder is kept.

    python tests/support/fault_injection.py --outage 20             # one outage, with 1, 2 and 8 workers
    python tests/support/fault_injection.py --statements 1 400      # a worker killed at each of its SQL statements
    python tests/support/fault_injection.py --cut 90                # hosts cut off from PostgreSQL: both ways, one way
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path

import network_faults
from failing_storages import KINDS, failing_storage
from fault_run import carry_out
from fault_schedules import draw, outage
from fork_server import ForkServer
from network_faults import Fault, Run, three_hosts
from storage_checks import check, read
from storage_study import make
from storage_worker import read_logs
from storages import PostgresStorage, Storage
from worker_processes import STUDY, start_worker

from hpo.storage import schema
from hpo.storage.database import connect

Experiment = Callable[[ForkServer, Storage, Path], Counter[str]]  # in a folder; returns counts of what happened


def killed_at(statement: int, fork_server: ForkServer, databases: Storage, folder: Path) -> Counter[str]:
    """Kills a worker at its n-th SQL statement, if it has so many; a second worker finishes the study."""
    url = databases.create()
    ledger = make(connect(url), STUDY, trials=4, seeds=2)
    died = 0
    for name, die in enumerate((f"statement {statement}", "")):
        child = start_worker(fork_server, url, folder, name, seconds=(0, 0), die=die)
        code = child.wait()
        died += code == -signal.SIGKILL
        assert code in ((0, -signal.SIGKILL) if die else (0,)) and not child.text(), f"{code}\n{child.text()}"
    check(ledger, url, read_logs(folder))
    lost = len(read(ledger, schema.failures))
    ledger.engine.dispose()
    databases.drop(url)
    return Counter({"kill": died, "lost": lost})


def cut_off(fault: Fault, fork_server: ForkServer, _: Storage, folder: Path) -> Counter[str]:
    """Cuts the links between two workers' hosts and the database's host."""
    with three_hosts() as (network, server):
        return network_faults.carry_out(fault, Run(network, server, fork_server, folder))


def experiments(options: argparse.Namespace) -> Iterator[tuple[str, str, Experiment]]:
    """The storage and the other options that repeat an experiment, and the experiment."""
    kinds = tuple(KINDS) if options.storage == "all" else (options.storage,)
    if options.statements:
        for statement in range(options.statements[0], options.statements[1] + 1):
            for kind in kinds:
                yield kind, f"--statements {statement} {statement}", partial(killed_at, statement)
    elif options.outage is not None:
        for workers in (1, 2, 8):
            for kind in kinds:
                yield kind, f"--outage {options.outage:g}", partial(carry_out, outage(options.outage, workers))
    elif options.cut is not None:
        for requests, replies in ((True, True), (True, False), (False, True)):
            yield "postgresql", f"--cut {options.cut:g}", partial(cut_off, Fault(options.cut, requests, replies))
    else:
        for seed in range(options.seed, options.seed + options.schedules):
            kind = kinds[seed % len(kinds)]
            yield kind, f"--schedules 1 --seed {seed}", partial(carry_out, draw(seed, KINDS[kind]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--storage", choices=("all", *KINDS), default="all", help="default all, by turns")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; each next one's is one more")
    parser.add_argument("--outage", type=float, metavar="SECONDS", help="instead of schedules")
    parser.add_argument("--cut", type=float, metavar="SECONDS", help="instead of schedules; needs root")
    parser.add_argument("--statements", type=int, nargs=2, metavar=("FIRST", "LAST"), help="instead of schedules")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing is left behind
    start, total, count = time.monotonic(), Counter[str](), 0
    with ExitStack() as stack:
        fork_server = stack.enter_context(closing(ForkServer()))
        server = cache(lambda: stack.enter_context(closing(PostgresStorage())))
        databases = cache(lambda kind: stack.enter_context(closing(failing_storage(kind, server))))
        for kind, repetition, experiment in experiments(options):
            total += run_experiment(repetition, experiment, fork_server, databases(kind), kind)
            count += 1
    print(f"{count} on {options.storage} in {time.monotonic() - start:.0f} s: {_line(total)}")


def run_experiment(
    repetition: str, experiment: Experiment, fork_server: ForkServer, databases: Storage, kind: str
) -> Counter[str]:
    """Runs one experiment in a temporary folder; `repetition`: the options of this program that repeat it."""
    folder, before = Path(tempfile.mkdtemp(prefix="hpo-faults-")), time.monotonic()
    try:
        counts = experiment(fork_server, databases, folder)
    except Exception:
        traceback.print_exc()
        command = f"python tests/support/fault_injection.py --storage {kind} {repetition}"
        print(f"logs: {folder}\nto repeat: {command}", file=sys.stderr)
        raise SystemExit(1) from None
    shutil.rmtree(folder)
    print(f"{kind} {repetition} [{time.monotonic() - before:.1f} s]: {_line(counts)}", flush=True)
    return counts


def _line(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


if __name__ == "__main__":
    main()
