"""Commands in fresh processes: how long they take and how much memory they hold at most."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpo.bench.memory import of_usage
from hpo.errors import HpoError

# Between this process and the command stands a small one: a child is credited with the peak of who started it.
_TIMED = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
taken = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([taken, used.ru_utime + used.ru_stime, used.ru_maxrss, done.returncode, done.stderr]))
"""


class Cost(NamedTuple):
    """Of every repetition its seconds, and those of a processor; and the most memory in MiB that a process held."""

    seconds: list[float]
    processor: list[float]
    mib: float

    def row(self, part: str, **further: Any) -> dict[str, Any]:
        """JSON values: the part's name, the median and least seconds, how often it was timed, and the peak.

        "processor_seconds", of which the least counts, hardly depend on what else the machine does.
        """
        return {
            "part": part, "seconds": statistics.median(self.seconds), "least": min(self.seconds),
            "processor_seconds": min(self.processor), "repetitions": len(self.seconds), "mib": self.mib, **further,
        }  # fmt: skip


def timed(command: Sequence[str], repetitions: int, environment: Mapping[str, str] | None = None) -> Cost:
    """The whole life of a command's process, from its start to its end.

    Args:
        command: arguments of this Python. environment: variables to be added for it.

    Raises:
        HpoError: the command failed.
    """
    found = [_once(command, {**os.environ, **(environment or {})}) for _ in range(repetitions)]
    seconds, processor, mib = zip(*found, strict=True)
    return Cost(list(seconds), list(processor), max(mib))


def _once(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, float]:
    whole = [sys.executable, "-I", "-S", "-c", _TIMED, sys.executable, *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=True, env=dict(environment))
    taken, used, peak, code, errors = json.loads(done.stdout)
    if code:
        last = errors.strip().splitlines()[-1:] or ["it says nothing"]
        raise HpoError(f"python {' '.join(command)} ended with exit code {code}: {last[0]}")
    return taken, used, peak / of_usage()


def reported(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """The JSON that a command of this Python prints.

    Raises:
        HpoError: the command failed.
    """
    whole = [sys.executable, *command]
    done = subprocess.run(whole, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise HpoError(f"python {' '.join(command)} ended with exit code {done.returncode}: {last[0]}")
    return json.loads(done.stdout)
