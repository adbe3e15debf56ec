"""Trials a second of several workers without training, compared with clients that only make the same transactions.

    python tests/benchmarks/throughput.py --storage postgresql://user@host/database --clients 8

In each of the rounds every client finishes `--populations` populations of `--population` trials.
A baseline client leases, assigns, begins and finishes trials, and does nothing else; a worker is `run_worker` with a
training that returns at once. Both draw settings at random, which is cheap. Both kinds run in turns. It leaves
nothing behind in the database.
"""

import multiprocessing
import signal
import time
from contextlib import suppress
from typing import Any

from temporary_study import NAME, finish, outcomes, run_program, temporary_study

from hpo.storage.database import connect
from hpo.storage.ledger import load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import STARTUP_TRIALS
from hpo.worker.loop import POLL, run_worker
from hpo.worker.signals import Stop, Stopped
from hpo.worker.suggestions import Suggestions

START_TIMEOUT = 120.0  # seconds within which all clients must have started


def measure(url: str, clients: int, population: int, populations: int, rounds: int) -> dict[str, Any]:
    """Trials a second of `clients` processes together, each of which finishes `populations` populations a round."""
    kinds = ["workers", *["baseline", "workers", "workers", "baseline"] * rounds]  # the first warms up
    trials = STARTUP_TRIALS + clients * population * max(3, populations * len(kinds))
    context = multiprocessing.get_context("spawn")
    with temporary_study(url, trials, sampler="random") as ledger, context.Manager() as manager:
        finish(ledger, STARTUP_TRIALS, mirror=Mirror(ledger))
        barrier = manager.Barrier(clients)
        with context.Pool(clients) as pool:
            arguments = [(url, population, populations, kinds, barrier)] * clients
            ends = pool.starmap(run_client, arguments, chunksize=1)
    rates: dict[str, list[float]] = {"baseline": [], "workers": []}
    for kind, of_clients in list(zip(kinds, zip(*ends, strict=True), strict=True))[1:]:
        times = sorted(end for client in of_clients for end in client)
        rates[kind].append((len(times) - 1) * population / (times[-1] - times[0]))
    means = {kind: sum(values) / len(values) for kind, values in rates.items()}
    return {"clients": clients, **means, "ratio": means["workers"] / means["baseline"]}


def run_client(url: str, population: int, populations: int, kinds: list[str], barrier: Any) -> list[list[float]]:
    """The times at which this process finished its populations, for each kind."""
    ends = []
    for kind in kinds:
        barrier.wait(START_TIMEOUT)
        ends.append((run_baseline if kind == "baseline" else run_one_worker)(url, population, populations))
    return ends


def run_baseline(url: str, population: int, populations: int) -> list[float]:
    ledger, worker_id = load_study(connect(url), NAME), new_worker_id()
    mirror, suggestions, ends = Mirror(ledger), Suggestions(ledger), list[float]()
    mirror.repair()
    while len(ends) < populations:
        work = ledger.lease(worker_id, population)
        if work is None:  # until the others finish the batch
            time.sleep(POLL[0])
            continue
        work = mirror.begin(worker_id, ledger.assign(worker_id, work, suggestions.settings(work)))
        results = outcomes(work)
        ledger.finish(worker_id, results)
        mirror.finish(work, results)
        ends.append(time.monotonic())
    return ends


def run_one_worker(url: str, population: int, populations: int) -> list[float]:
    stop, ends = Stop(), list[float]()

    def note(kind: str, _details: dict[str, Any]) -> None:
        if kind == "finished":
            ends.append(time.monotonic())
            if len(ends) == populations:
                stop.number = signal.SIGTERM

    with suppress(Stopped):
        run_worker(load_study(connect(url), NAME), outcomes, new_worker_id(), population, on_event=note, stop=stop)
    return ends


def print_result(result: dict[str, Any]) -> None:
    text = "{clients} workers: {workers:.0f} trials/s; baseline clients: {baseline:.0f} trials/s; ratio {ratio:.2f}"
    print(text.format(**result))


if __name__ == "__main__":
    run_program(__doc__, measure, print_result, clients=8, population=32, populations=4, rounds=2)
