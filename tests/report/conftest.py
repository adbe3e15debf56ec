"""Reports that several tests read: each is written once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hpo.report import write_report
from tests.report.moments import record_of


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Moment → the folder of its report."""

    @cache
    def write(moment: str) -> Path:
        folder = tmp_path_factory.mktemp("moment") / "synthetic"
        return write_report(record_of(moment), folder, "synthetic", ["hpo run synthetic"]).parent

    return write
