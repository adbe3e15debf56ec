"""What the dashboard costs beside 1,000 trials and 100 reruns: its first page, its memory, and the workers' pace.

    python tests/benchmarks/dashboard_load.py --storage sqlite --turns 6 --seconds 30

Two workers spend a fixed processor time on every population of a second study in the same database, by turns with
three pages that poll as a browser does (every 10 seconds; the list of studies every 5) and without; the dashboard
writes its summaries in both, and every other pair of turns is in the other order. The first page is timed in Chromium,
from the request until what was asked for is seen. `--turns 0` times the pages alone.
"""

import argparse
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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import shown_study
from browser import Browser
from storages import KINDS, storage

from hpo.storage.database import connect
from hpo.storage.ledger import Ledger, Outcome, Work, load_study, new_worker_id
from hpo.storage.optuna.mirror import Mirror
from hpo.worker.loop import run_worker

BURNT = 0.25  # seconds of processor time that a population takes
LARGE, BUSY = "large", "busy"


def prepare(url: str) -> None:
    """A study of 1,000 trials and 100 reruns, half of the reruns finished, and one for the workers."""
    engine = connect(url)
    large = shown_study.make(engine, LARGE, trials=500, seeds=50)
    shown_study.finish(large, limit=50, runs=1050)
    Mirror(large).repair()
    shown_study.make(engine, BUSY, trials=5000, seeds=2)
    engine.dispose()


def work(url: str) -> None:
    """A worker that computes for ever."""
    ledger = load_study(connect(url), BUSY)

    def train(work: Work) -> list[Outcome]:
        end = time.process_time() + BURNT
        while time.process_time() < end:
            sum(range(10_000))
        return shown_study.outcomes(work)

    run_worker(ledger, train, new_worker_id(), 4, workers=2)


def finished(ledger: Ledger) -> int:
    return sum(entry["trials_done"] for entry in ledger.counts().values())


def get(address: str) -> float:
    """Seconds that an answer takes."""
    began = time.monotonic()
    with urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()
    return time.monotonic() - began


@contextmanager
def polled(address: str, answers: list[float]) -> Iterator[None]:
    """Three open pages: the tuning and the reruns of the large study, and the list of all studies."""
    end = threading.Event()

    def poll(path: str, pause: float) -> None:
        while not end.is_set():
            with suppress(OSError):
                answers.append(get(address + path))
            end.wait(pause)

    paths = [("/api/studies/1?after=50", 10.0), ("/api/studies/2?after=500", 10.0), ("/reports/", 5.0)]
    threads = [threading.Thread(target=poll, args=entry) for entry in paths]
    for thread in threads:
        thread.start()
    yield
    end.set()
    for thread in threads:
        thread.join()


def first_pages(address: str) -> dict[str, float]:
    """Seconds until a reader sees what was asked for; the median of five times."""
    browser = Browser()
    pages = {
        "list of studies": ("/", f"text={LARGE}/GNVR/tune"),
        "tuning of 500 trials": ("/dashboard/studies/2", "#plot-history .main-svg"),
        "list of reports": ("/reports/", f"text={LARGE}"),
    }
    found: dict[str, list[float]] = {name: [] for name in pages}
    for _ in range(5):
        for name, (path, shown) in pages.items():
            with browser.tab() as tab:
                began = time.monotonic()
                tab.open(address + path)
                tab.page.wait_for_selector(shown)
                found[name].append(time.monotonic() - began)
    browser.close()
    return {name: median(times) for name, times in found.items()}


def memory(pid: int) -> tuple[float, float, float]:
    """MB now and at most, and seconds of processor time."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return now, most, (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def dashboard(url: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Its address, once the first summaries are there, and its process id."""
    command = [sys.executable, "-m", "hpo", "dashboard", "--port", "0", "--reports", str(folder / "reports")]
    environment = os.environ | {"HPO_STORAGE": url}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdout is not None
    address = process.stdout.readline().split()[1].rstrip("/")
    time.sleep(10)
    try:
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def workers(url: str) -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, __file__, "--work", url]) for _ in range(2)]
    time.sleep(10)
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


def first(address: str, pid: int) -> None:
    for name, found in first_pages(address).items():
        print(f"{name}: {found:.2f} s")
    made, again = (get(f"{address}/reports/{LARGE}/") for _ in range(2))
    print(f"a report that is made when it is asked for: {made:.2f} s; the same again: {again:.2f} s")
    print("memory: {:.0f} MB, at most {:.0f} MB; {:.1f} s of processor time".format(*memory(pid)), flush=True)


class Turn(NamedTuple):
    """Trials a second, and the share of a core that the dashboard took."""

    pace: float
    share: float


def compare(url: str, address: str, pid: int, turns: int, seconds: float) -> None:
    ledger = load_study(connect(url), BUSY)
    answers: list[float] = []
    found: dict[bool, list[Turn]] = {True: [], False: []}
    for number in range(turns):
        for polling in (True, False) if number % 2 else (False, True):
            before, used, began = finished(ledger), memory(pid)[2], time.monotonic()
            with polled(address, answers) if polling else nullcontext():
                time.sleep(seconds)
            took = time.monotonic() - began
            turn = Turn((finished(ledger) - before) / took, (memory(pid)[2] - used) / took)
            found[polling].append(turn)
            pages, load = "three pages" if polling else "no page", os.getloadavg()[0]
            print(
                f"{pages}: {turn.pace:.2f} trials/s, dashboard {turn.share:.1%} of a core, load {load:.1f}", flush=True
            )
    (pace, share), (alone, idle) = (Turn(*map(mean, zip(*found[key], strict=True))) for key in (True, False))
    print(f"workers: {pace:.2f} trials/s with three pages, {alone:.2f} without: {pace / alone - 1:+.1%}")
    print(f"dashboard: {share:.1%} of a core with three pages, {idle:.1%} without")
    print(f"answers to pages: median {median(answers):.2f} s, at most {max(answers):.2f} s")
    print("memory: {:.0f} MB, at most {:.0f} MB; {:.1f} s of processor time".format(*memory(pid)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--storage", choices=KINDS, default="sqlite")
    options.add_argument("--turns", type=int, default=6, help="pairs of turns")
    options.add_argument("--seconds", type=float, default=30.0, help="of a turn")
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(given.work)
        return
    place = storage(given.storage)
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = place.create()
            prepare(url)
            with dashboard(url, Path(folder)) as (address, pid):
                first(address, pid)
                if given.turns:
                    with workers(url):
                        compare(url, address, pid, given.turns, given.seconds)
    finally:
        place.close()


if __name__ == "__main__":
    main()
