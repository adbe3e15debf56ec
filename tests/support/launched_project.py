"""A folder with a small study, in which `hpo launch` is run as a person runs it."""

import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine

import hpo
from hpo.storage.database import connect
from hpo.storage.ledger import load_study

ROOT = Path(hpo.__file__).parents[1]
STUDY = '''
"""A small study."""
from hpo import MLP, Configuration, Mnist1d, Study

STUDY = Study(
    data=Mnist1d(samples=400), model=MLP((40, 32, 10)), epochs={epochs}, trials={trials}, seeds=3, tuning_runs=1,
    baseline="A", configurations=(Configuration("A"), Configuration("B", regularizer="gnvr")),
)
'''


class Project:
    """A folder with a study, in which commands are run."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/hpo.db"
        cache = str(folder.parent.parent / "cache")
        self.environment = (
            os.environ | {"PYTHONPATH": str(ROOT), "HPO_CACHE": cache, "HPO_STORAGE": self.url} | environment
        )
        (folder / "studies").mkdir()

    def write(self, epochs: int, trials: int) -> None:
        (self.folder / "studies" / "small.py").write_text(STUDY.format(epochs=epochs, trials=trials))

    def hpo(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "hpo", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    @cached_property
    def engine(self) -> Engine:
        return connect(self.url)

    def slots(self) -> list[dict[str, Any]]:
        return load_study(self.engine, "small").export()["slots"]

    def counts(self) -> dict[str, int]:
        """Slots of the study by state."""
        found: dict[str, int] = {}
        for slot in self.slots():
            found[slot["state"]] = found.get(slot["state"], 0) + 1
        return found

    def states(self) -> list[str]:
        return re.findall(r"^ +\d+  (\w+)", self.hpo("launch", "--list"), re.MULTILINE)

    def assert_complete(self, trials: int) -> None:
        assert [slot["state"] for slot in self.slots()] == ["done"] * 2 * (trials + 3)
