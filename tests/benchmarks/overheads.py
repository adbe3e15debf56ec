"""Seconds of what happens around the training: 256 settings suggested, their results, curves of 1,000 runs, a report.

    python tests/benchmarks/overheads.py --storage postgresql://user@host/database

Settings are suggested where 1,000 trials are finished, stored and shown in Optuna's tables. The report is `hpo report`
on 10,000 trials and 1,000 reruns with curves, with its peak memory. `hpo bench startup` measures the start of a
process. It leaves nothing behind in the database.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from temporary_study import EPOCHS, METRICS, NAME, OWNER, enlarge, finish, lease, outcomes, temporary_study

from hpo.bench.startup import time_command
from hpo.storage import curves
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import Outcome, Work
from hpo.worker.suggestions import Suggestions

GOALS = {"suggest": 3.0, "report": 15.0}  # seconds


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def measure_suggestions(url: str, finished: int, count: int, repetitions: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"suggest": [], "finish": []}
    # One configuration more than are timed: the first loads modules.
    with temporary_study(url, finished, configurations=repetitions + 1) as ledger:
        finish(ledger, finished * (repetitions + 1), with_curves=False)
        ledger = enlarge(ledger, finished + count)
        mirror = Mirror(ledger)

        def suggest() -> Work:
            work = lease(ledger, count)
            return mirror.begin(OWNER, ledger.assign(OWNER, work, Suggestions(ledger).settings(work)))

        def store(work: Work, results: list[Outcome]) -> None:
            ledger.finish(OWNER, results)
            mirror.finish(work, results)

        for _ in range(repetitions + 1):
            taken, work = timed(suggest)
            seconds["suggest"].append(taken)
            results = outcomes(work)
            seconds["finish"].append(timed(lambda work=work, results=results: store(work, results))[0])
    return {part: median(taken[1:]) for part, taken in seconds.items()}


def measure_curves(url: str, runs: int, repetitions: int) -> dict[str, float]:
    written, read = [], []
    for _ in range(repetitions):
        with temporary_study(url, runs) as ledger:
            finish(ledger, runs, with_curves=False)
            ids = [slot["id"] for slot in ledger.export()["slots"] if slot["state"] == "done"]
            points = [(slot, {metric: [0.5] * EPOCHS for metric in METRICS}) for slot in ids]

            def write(ledger: Any = ledger, points: Any = points) -> None:
                with ledger.engine.begin() as connection:
                    curves.insert(connection, points)

            written.append(timed(write)[0])
            taken, values = timed(lambda ledger=ledger: curves.read(ledger.engine, NAME)["value"])
            assert len(values) == runs * EPOCHS * len(METRICS), "curves were lost"
            read.append(taken)
    return {"curves written": median(written), "curves read": median(read)}


def measure_report(url: str, trials: int, reruns: int, repetitions: int) -> dict[str, float]:
    configurations = 4
    with (
        temporary_study(url, trials // configurations, reruns // configurations, configurations) as ledger,
        tempfile.TemporaryDirectory() as folder,
    ):
        ledger.register(OWNER, "none", {})
        finish(ledger, trials, with_curves=False)
        finish(ledger, reruns)
        ledger.engine.dispose()
        return time_command(["-m", "hpo", "report", NAME, "--reports", folder], repetitions, {"HPO_STORAGE": url})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="database URL; by default a SQLite file in a temporary folder")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--finished", type=int, default=1000, help="finished trials when settings are suggested")
    parser.add_argument("--suggested", type=int, default=256)
    parser.add_argument("--runs", type=int, default=1000, help="runs whose curves are written")
    parser.add_argument("--trials", type=int, default=10_000, help="trials of the study that is reported")
    parser.add_argument("--reruns", type=int, default=1000, help="reruns of the study that is reported")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.storage or f"sqlite:///{Path(folder) / 'benchmark.db'}"
        seconds = measure_suggestions(url, given.finished, given.suggested, given.repetitions)
        seconds |= measure_curves(url, given.runs, given.repetitions)
        report = measure_report(url, given.trials, given.reruns, given.repetitions)
    result = {"seconds": {**seconds, "report": report["seconds"]}, "report_mib": report["mib"]}
    if given.json:
        print(json.dumps(result))
        return
    for part, taken in result["seconds"].items():
        print(f"{part:16} {taken:8.3f} s" + (f", goal {GOALS[part]:g} s" if part in GOALS else ""))
    print(f"{'memory of report':16} {report['mib']:8.0f} MiB")


if __name__ == "__main__":
    main()
