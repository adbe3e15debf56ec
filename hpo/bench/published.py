"""Benchmark: `hpo run` of the published GNVR protocol by turns with a plain script of it, or with another hpo."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import hpo
from hpo.bench.startup import time_command
from hpo.bench.table import OnRow, Row
from hpo.errors import UsageError

COLUMNS = {
    "round": (5, "{round}"),
    "other s": (8, "{other:.2f}"),
    "hpo s": (8, "{hpo:.2f}"),
    "times as fast": (13, "{ratio:.2f}"),
    "largest process MiB": (19, "{mib:.0f}"),
}
STUDY = """
from hpo import MLP, Configuration, Mnist1d, Study, log_range

SPACE = {{"learning_rate": log_range(1e-4, 1e-2), "weight_decay": log_range(1e-6, 1e-1)}}
STUDY = Study(
    data=Mnist1d(samples=4000, label_noise=0.2, validation=0.2, split="last"),
    model=MLP((40, 256, 256, 10)),
    batch_size=64,
    tuning_epochs={tuning_epochs},
    epochs={epochs},
    score="validation_accuracy",
    score_epoch="best",
    trials={trials},
    seeds={seeds},
    margin=0.01,
    baseline="Baseline",
    configurations=(
        Configuration("Baseline", space=SPACE),
        Configuration("GNVR", regularizer="gnvr", space=SPACE | {{"lambda": log_range(1e-3, 10)}}),
    ),
)
"""


class Protocol(NamedTuple):
    """The numbers of the published protocol, or smaller ones to try the benchmark."""

    trials: int = 20
    seeds: int = 5
    tuning_epochs: int = 15
    epochs: int = 30


def measure(protocol: Protocol, tuning_runs: int, against: Path | None, rounds: int, on_row: OnRow) -> Row:
    """Times both by turns, each on all cores as they use them by default.

    Args:
        tuning_runs: of `hpo run`, each with `protocol.seeds` seeds. The script makes one; its time is multiplied.
        against: a folder with another checkout of hpo, to be run instead of the script.

    Returns:
        JSON values: "protocol", "tuning_runs", "cores", "rows" of seconds, ratio and the peak of hpo's largest process
        (MiB), and the median "ratio".

    Raises:
        UsageError: there is no hpo in the folder, or a command failed.
    """
    if against and not (against / "hpo" / "__init__.py").is_file():
        raise UsageError(f"{against} has no folder hpo; give --against another checkout of hpo's repository")
    rows = []
    for number in range(1, rounds + 1):
        if against:
            other = _hpo_run(protocol, tuning_runs, against.resolve())[0]
        else:
            script = ["-m", "hpo.bench.plain_script", *map(str, protocol)]
            other = tuning_runs * _timed(script, Path.cwd())[0]
        seconds, mib = _hpo_run(protocol, tuning_runs, Path(hpo.__file__).parents[1])
        rows.append({"round": number, "other": other, "hpo": seconds, "ratio": other / seconds, "mib": mib})
        on_row(rows[-1])
    numbers = {"protocol": protocol._asdict(), "tuning_runs": tuning_runs, "against": str(against or "script")}
    ratio = statistics.median(row["ratio"] for row in rows)
    return {**numbers, "cores": os.cpu_count(), "rows": rows, "ratio": ratio}


def summary(result: Row) -> str:
    runs = result["tuning_runs"]
    other = "the plain script" + (f", whose time counts {runs} times" if runs > 1 else "")
    if result["against"] != "script":
        other = f"hpo in {result['against']}"
    return f"{result['cores']} cores; hpo is {result['ratio']:.2f} times as fast as {other} (median)"


def _hpo_run(protocol: Protocol, tuning_runs: int, root: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "studies").mkdir()
        planned = protocol._replace(seeds=protocol.seeds * tuning_runs)
        (folder / "studies/published.py").write_text(STUDY.format(**planned._asdict()))
        command = ["-m", "hpo", "run", "published", "--storage", "sqlite:///published.db"]
        words = [_tuning_runs_flag(root, folder), str(tuning_runs)]
        return _timed([*command, *words], folder, {"PYTHONPATH": str(root)})


def _tuning_runs_flag(root: Path, folder: Path) -> str:
    """The flag's name in this checkout: it was another one before."""
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    words = [sys.executable, "-m", "hpo", "run", "--help"]
    text = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    return next(flag for flag in ("--tuning-runs", "--tuning-repeats") if flag in text)


def _timed(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Seconds and the largest process (MiB) of a Python command that must succeed."""
    cost = time_command(command, 1, environment, folder)
    return cost["seconds"], cost["mib"]
