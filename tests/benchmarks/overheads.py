"""Seconds of what happens around the training: 256 settings suggested, their results, curves of 1,000 runs
(30 epochs of 6 metrics), a report.

    python tests/benchmarks/overheads.py --storage postgresql://user@host/database

Settings are suggested where 1,000 trials are finished, stored and shown in Optuna's tables. The report is `hpo report`
on 10,000 trials and 1,000 reruns with curves, with its peak memory. `hpo bench startup` measures the start of a
process. It leaves nothing behind in the database.
"""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from temporary_study import EPOCHS, METRICS, NAME, OWNER, enlarge, finish, lease, outcomes, run_program, temporary_study

from hpo.bench.startup import time_command
from hpo.storage import curves
from hpo.storage.optuna.mirror import Mirror
from hpo.trials import Outcome, Work
from hpo.worker.suggestions import Suggestions

CURVES = (*METRICS, "noisy_labels_recovered")
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
            points = [(slot, {metric: [0.5] * EPOCHS for metric in CURVES}) for slot in ids]

            def write(ledger: Any = ledger, points: Any = points) -> None:
                with ledger.engine.begin() as connection:
                    curves.insert(connection, points)

            written.append(timed(write)[0])
            taken, values = timed(lambda ledger=ledger: curves.read(ledger.engine, NAME)["value"])
            assert len(values) == runs * EPOCHS * len(CURVES), "curves were lost"
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


def measure(
    url: str, repetitions: int, finished: int, suggested: int, runs: int, trials: int, reruns: int
) -> dict[str, Any]:
    seconds = measure_suggestions(url, finished, suggested, repetitions) | measure_curves(url, runs, repetitions)
    report = measure_report(url, trials, reruns, repetitions)
    return {"seconds": {**seconds, "report": report["seconds"]}, "report_mib": report["mib"]}


def print_result(result: dict[str, Any]) -> None:
    for part, taken in result["seconds"].items():
        print(f"{part:16} {taken:8.3f} s" + (f", goal {GOALS[part]:g} s" if part in GOALS else ""))
    print(f"{'memory of report':16} {result['report_mib']:8.0f} MiB")


if __name__ == "__main__":
    sizes = {"finished": 1000, "suggested": 256, "runs": 1000, "trials": 10_000, "reruns": 1000}
    run_program(__doc__, measure, print_result, repetitions=3, **sizes)
