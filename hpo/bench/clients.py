"""How fast several workers finish trials without training, beside clients that only make the same transactions."""

import multiprocessing
import signal
import time
from contextlib import suppress
from multiprocessing.context import BaseContext
from typing import Any

from hpo.bench.transactions import NAME, finish, outcomes, study
from hpo.errors import HpoError
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import STARTUP_TRIALS
from hpo.worker.loop import POLL, run_worker
from hpo.worker.signals import Stop, Stopped
from hpo.worker.suggestions import Suggestions

PATIENCE = 120.0  # seconds within which all clients must have started a stretch


def race(url: str, clients: int, population: int, populations: int, rounds: int = 3) -> dict[str, Any]:
    """Trials a second of `clients` processes together, which are bare clients and workers in turns.

    A bare client leases, reads what is known, assigns, shows, finishes and shows again, and nothing else. A worker is
    `run_worker` with a training that returns at once. Nothing is tuned, so that sampling is in neither.

    Args:
        populations: that every client finishes in a stretch, 2 or more.
        rounds: stretches of each kind, so arranged that what else goes on in the machine meets both alike.

    Returns:
        "clients", "bare" and "workers" (trials a second), and "ratio", workers to bare.
    """
    turns = [kind for turn in range(rounds) for kind in ("bare", "workers")[:: 1 if turn % 2 == 0 else -1]]
    kinds = ["workers", *turns]  # the first warms up: it does not count
    trials = clients * populations * population * len(kinds)
    engine = connect(url)
    try:
        with study(engine, max(trials, 3 * clients * population) + STARTUP_TRIALS, tuned=False) as ledger:
            mirror = Mirror(ledger)
            finish(ledger, mirror, "start", STARTUP_TRIALS)
            mirror.close()
            rates = _run(url, clients, population, populations, kinds)
    finally:
        engine.dispose()
    bare, workers = (sum(rates[kind]) / rounds for kind in ("bare", "workers"))
    return {"clients": clients, "bare": bare, "workers": workers, "ratio": workers / bare}


def _run(url: str, clients: int, population: int, populations: int, kinds: list[str]) -> dict[str, list[float]]:
    """Kind → the rate of every stretch but the first, from the first population that was finished to the last."""
    context = _context()
    barrier, results = context.Barrier(clients), context.SimpleQueue()
    arguments = (url, population, populations, kinds, barrier, results)
    processes = [
        context.Process(target=_client, args=arguments, daemon=True)  # type: ignore[attr-defined]
        for _ in range(clients)
    ]
    for process in processes:
        process.start()
    try:
        found = _collected(processes, results)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    rates: dict[str, list[float]] = {}
    for kind, stretch in list(zip(kinds, zip(*found, strict=True), strict=True))[1:]:
        ends = sorted(end for client in stretch for end in client)
        rates.setdefault(kind, []).append((len(ends) - 1) * population / (ends[-1] - ends[0]))
    return rates


def _collected(processes: list[Any], results: Any) -> list[list[list[float]]]:
    """What every client put into `results`."""
    found: list[Any] = []
    while len(found) < len(processes):
        if not results.empty():
            found.append(results.get())
            if isinstance(found[-1], str):
                raise HpoError(f"a client of the benchmark failed: {found[-1]}")
        elif any(process.exitcode for process in processes):
            raise HpoError("a client of the benchmark was killed; give fewer --clients if memory is short")
        else:
            time.sleep(0.01)
    return found


def _context() -> BaseContext:
    """Processes that load what they need once, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _client(url: str, population: int, populations: int, kinds: list[str], barrier: Any, results: Any) -> None:
    """One process; puts into `results` when it finished its populations in every stretch, or the text of its error."""
    try:
        ledger, ends = load_study(connect(url), NAME), []
        for kind in kinds:
            barrier.wait(PATIENCE)
            ends.append((_bare if kind == "bare" else _worker)(ledger, population, populations))
        results.put(ends)
    except Exception as error:
        barrier.abort()
        results.put(f"{type(error).__name__}: {error}")


def _bare(ledger: Ledger, population: int, populations: int) -> list[float]:
    """When each population was finished, in seconds of the machine's clock."""
    worker_id, mirror, suggestions, ends = new_worker_id(), Mirror(ledger), Suggestions(ledger), []
    mirror.repair()
    for _ in range(populations):
        while (work := ledger.lease(worker_id, population)) is None and ledger.state() != "done":
            time.sleep(POLL[0])  # for the end of a batch
        if work is None or work.phase != "tune":
            ledger.release(worker_id)
            break
        work = ledger.assign(worker_id, work, suggestions.settings(work))
        work = mirror.begin(worker_id, work)
        results = outcomes(work)
        ledger.finish(worker_id, results)
        mirror.finish(work, results)
        ends.append(time.monotonic())
    return ends


def _worker(ledger: Ledger, population: int, populations: int) -> list[float]:
    """The same, by a worker that is stopped at the end."""
    stop, ends = Stop(), list[float]()

    def note(kind: str, _details: dict[str, Any]) -> None:
        if kind == "finished":
            ends.append(time.monotonic())
            if len(ends) == populations:
                stop.number = signal.SIGTERM

    with suppress(Stopped):
        run_worker(ledger, outcomes, new_worker_id(), population, on_event=note, stop=stop)
    return ends
