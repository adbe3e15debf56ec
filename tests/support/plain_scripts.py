"""Scripts that are run in a process without hpo, and the curves that they print."""

import json
import re
import subprocess
import sys
from pathlib import Path


class Runner:
    """A process that cannot import hpo and runs one script after another, each in a new namespace."""

    PROGRAM = """
import contextlib, io, json, runpy, sys, traceback
for name in [name for name in sys.modules if name.partition(".")[0] == "hpo"]:
    raise SystemExit("hpo is imported already")
sys.modules["hpo"] = None  # so that an import of it fails
for line in sys.stdin:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(line.strip(), run_name="__main__")
        print(json.dumps({"output": output.getvalue()}), flush=True)
    except BaseException:
        print(json.dumps({"error": traceback.format_exc()}), flush=True)
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def output(self, path: Path) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["output"]

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def read_curves(output: str) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    for name, value in re.findall(r"((?:train|validation|test)_\w+) (\S+)", output):
        curves.setdefault(name, []).append(float(value))
    return curves
