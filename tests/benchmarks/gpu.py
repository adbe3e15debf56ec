"""Everything that needs an NVIDIA GPU, within ten minutes, as one JSON file: tests, steps, and a study end to end.

    python tests/benchmarks/gpu.py --to gpu.json

The goals: at population 512 or more 150 (plain) and 600 times (GNVR) the naive loop, and at least 25% of what the copy
bandwidth allows; ResNet-18 within 1.3 times of an eager bfloat16 channels-last loop; a study of 1,000 trials and 100
reruns under 20 s. `--device cpu --small` tries the script itself where there is no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STUDY = '''
"""1,000 trials and 100 reruns."""

from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(label_noise=0.2),
    model=MLP((40, 256, 256, 10)),
    epochs=EPOCHS,
    trials=TRIALS,
    seeds=SEEDS,
    tuning_runs=1,
    baseline="AdamW",
    configurations=[Configuration("AdamW"), Configuration("GNVR", regularizer="gnvr")],
)
'''


def run(words: list[str], seconds: float, folder: Path = ROOT) -> tuple[str, float, int]:
    """What a command printed, its wall time and its exit status; 124 where it took longer than `seconds`."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "", time.monotonic() - start, 124
    return done.stdout + done.stderr, time.monotonic() - start, done.returncode


def bench(device: str, *words: str) -> Any:
    """The JSON of `hpo bench`; what it printed where it failed."""
    printed, _, status = run([sys.executable, "-m", "hpo", "bench", "--device", device, "--json", *words], 150)
    return json.loads(printed[printed.index("{") :]) if not status else {"failed": printed[-2000:], "status": status}


def study(device: str, small: bool) -> dict[str, Any]:
    """Wall time of a study from its file to its report."""
    numbers = {"EPOCHS": 2, "TRIALS": 4, "SEEDS": 2} if small else {"EPOCHS": 15, "TRIALS": 500, "SEEDS": 50}
    text = STUDY
    for name, value in numbers.items():
        text = text.replace(name, str(value))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "studies").mkdir()
        (Path(name) / "studies" / "large.py").write_text(text)
        words = [sys.executable, "-m", "hpo", "run", "large", "--device", device]
        printed, seconds, status = run(words, 120, Path(name))
    return {"seconds": seconds, "status": status, "printed": printed[-1500:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    sizes = ["2"] if given.small else ["64", "512", "2048"]
    populations = [word for size in sizes for word in ("--population", size)]
    resnet = ["--model", "resnet18", "--bfloat16", "--batch-size", "2" if given.small else "128", "--population", "1"]
    results: dict[str, Any] = {}

    def note(name: str, value: Any) -> None:
        """Writes what is known so far: the machine may be taken away."""
        results[name] = value
        given.to.write_text(json.dumps(results, indent=1) + "\n")

    note("mlp", bench(given.device, *populations))
    note("resnet18", bench(given.device, "--regularizer", "none", *resnet))
    note("study", study(given.device, given.small))
    tests = ["tests/optim/test_adam_kernel.py"] if given.small else ["tests"]
    printed, seconds, status = run([sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-n", "0", *tests], 300)
    note("tests", {"seconds": seconds, "status": status, "printed": printed[-3000:]})
    print(given.to.resolve())


if __name__ == "__main__":
    main()
