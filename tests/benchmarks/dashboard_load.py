"""What the dashboard costs with 1,000 trials and 100 reruns: its first pages, its memory, and the workers' throughput.

    python tests/benchmarks/dashboard_load.py --turns 6 --seconds 30

Two workers spend a fixed processor time on every population of a second study in the same database, alternately with
three pages that poll as a browser does (every 10 seconds; the list of studies every 5) and without. The first pages are
timed in Chromium, from the request until the content is visible. `--turns 0` times only the pages.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import shown_study
from browser import Browser
from temporary_study import run_program

from hpo.storage.database import connect
from hpo.storage.ledger import Outcome, Work, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.loop import run_worker

PROCESSOR_SECONDS = 0.25  # of a population
LARGE, BUSY = "large", "busy"
PAGES = {  # what is timed → address and what becomes visible
    "list of studies": ("/", f"text={LARGE}"),
    "Optuna's list of studies": ("/dashboard", f"text={LARGE}/GNVR/tune"),
    "tuning": ("/dashboard/studies/2", "#plot-history .main-svg"),
}
POLLED = (("/api/studies/1?after=50", 10.0), ("/api/studies/2?after=500", 10.0), ("/reports/", 5.0))


def prepare(url: str, trials: int, reruns: int) -> None:
    """A study with half of its reruns finished, and one for the workers."""
    engine = connect(url)
    large = shown_study.make(engine, LARGE, trials=trials // 2, seeds=reruns // 2)
    shown_study.finish(large, limit=50, runs=trials + reruns // 2)
    Mirror(large).repair()
    shown_study.make(engine, BUSY, trials=10, seeds=5000)  # reruns, for which nothing is sampled
    engine.dispose()


def work(url: str) -> None:
    """A worker that computes until it is killed."""

    def train(work: Work) -> list[Outcome]:
        end = time.process_time() + PROCESSOR_SECONDS
        while time.process_time() < end:
            sum(range(10_000))
        return shown_study.outcomes(work)

    run_worker(load_study(connect(url), BUSY), train, new_worker_id(), 4)


def get(address: str) -> float:
    """Seconds until the response."""
    start = time.monotonic()
    with urllib.request.urlopen(address, timeout=60) as response:
        response.read()
    return time.monotonic() - start


@contextmanager
def polled(address: str, responses: list[float]) -> Iterator[None]:
    """Three open pages: the tuning and the reruns of the large study, and the list of all studies."""
    end = threading.Event()

    def poll(path: str, pause: float) -> None:
        while not end.is_set():
            with suppress(OSError):
                responses.append(get(address + path))
            end.wait(pause)

    threads = [threading.Thread(target=poll, args=entry) for entry in POLLED]
    for thread in threads:
        thread.start()
    yield
    end.set()
    for thread in threads:
        thread.join()


def time_pages(address: str, repetitions: int) -> dict[str, float]:
    """Median seconds until a reader sees the content, and seconds of a report that is written on request."""
    browser = Browser()
    seconds: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(repetitions):
        for name, (path, content) in PAGES.items():
            with browser.tab() as tab:
                start = time.monotonic()
                tab.open(address + path)
                tab.page.wait_for_selector(content)
                seconds[name].append(time.monotonic() - start)
    browser.close()
    first, second = (get(f"{address}/reports/{LARGE}/") for _ in range(2))
    return {name: median(times) for name, times in seconds.items()} | {"new report": first, "same report": second}


def peak_mb(pid: int) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1000


@contextmanager
def dashboard(url: str, folder: str, warmup: float) -> Iterator[tuple[str, int]]:
    """Its address after it has written its first summaries, and its process id."""
    command = [sys.executable, "-m", "hpo", "dashboard", "--port", "0", "--reports", f"{folder}/reports"]
    environment = os.environ | {"HPO_STORAGE": url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1].rstrip("/")
        time.sleep(warmup)
        try:
            yield address, process.pid
        finally:
            process.terminate()


def compare(url: str, address: str, turns: int, seconds: float) -> dict[str, float]:
    """The workers' reruns a second with three open pages and without, and the seconds of the responses to the pages."""
    processes = [multiprocessing.Process(target=work, args=(url,), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    ledger = load_study(connect(url), BUSY)
    while not count_finished(ledger):
        time.sleep(0.1)
    responses: list[float] = []
    rates: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns):
        for polling in (True, False) if turn % 2 else (False, True):
            before, start = count_finished(ledger), time.monotonic()
            with polled(address, responses) if polling else nullcontext():
                time.sleep(seconds)
            rates[polling].append((count_finished(ledger) - before) / (time.monotonic() - start))
    for process in processes:
        process.terminate()
    means = {"with pages": mean(rates[True]), "without pages": mean(rates[False])}
    return means | {"median response": median(responses), "slowest response": max(responses)}


def count_finished(ledger: Any) -> int:
    return sum(entry["reruns_done"] for entry in ledger.counts().values())


def measure(
    url: str, repetitions: int, turns: int, seconds: float, trials: int, reruns: int, warmup: float
) -> dict[str, Any]:
    prepare(url, trials, reruns)
    with tempfile.TemporaryDirectory() as folder, dashboard(url, folder, warmup) as (address, pid):
        pages = time_pages(address, repetitions)
        load = compare(url, address, turns, seconds) if turns else {}
        return {"pages": pages, "load": load, "peak_mb": peak_mb(pid)}


def print_result(result: dict[str, Any]) -> None:
    for page, seconds in result["pages"].items():
        print(f"{page}: {seconds:.2f} s")
    if load := result["load"]:
        change = load["with pages"] / load["without pages"] - 1
        print(f"workers: {load['with pages']:.2f} reruns/s with three pages, {change:+.1%}")
        print(f"responses: median {load['median response']:.2f} s, at most {load['slowest response']:.2f} s")
    print(f"memory: at most {result['peak_mb']:.0f} MB")


if __name__ == "__main__":
    sizes = {"repetitions": 5, "turns": 6, "trials": 1000, "reruns": 100}
    run_program(__doc__, measure, print_result, **sizes, seconds=30.0, warmup=10.0)
