"""A process without hpo that runs scripts, and the comparison of a script with hpo."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_scripts import Runner
from script_curves import Check, assert_same_curves


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    process = Runner()
    yield process
    process.close()


@pytest.fixture
def check(runner: Runner, tmp_path: Path) -> Check:
    return functools.partial(assert_same_curves, runner, tmp_path)
