"""Command lines of hpo, put together from flags."""

import shlex
from collections.abc import Mapping
from typing import Any


def run_command(study: str, flags: Mapping[str, Any]) -> str:
    """The `hpo run` that reproduces a study, for its report."""
    return shlex.join(["hpo", "run", study, *words(flags)])


def words(flags: Mapping[str, Any]) -> list[str]:
    """The words of a command line for the flags that have a value; a flag whose value is empty stands alone."""
    return [word for flag, value in flags.items() if value is not None for word in (flag, str(value)) if word]
