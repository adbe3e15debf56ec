"""Python and the packages against the ranges that hpo declares."""

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hpo.cli.doctor.check import Check

TOLD = ("torch", "optuna")


def check_packages() -> list[Check]:
    """One line if all fits, else one for each that does not."""
    try:
        declared, python = requires("hpo-studies") or [], metadata("hpo-studies")["Requires-Python"]
    except PackageNotFoundError:
        return [
            Check("packages", "warning", "hpo is not installed, so its ranges are unknown: pip install hpo-studies")
        ]
    needed = [entry for entry in map(Requirement, declared) if not entry.marker or entry.marker.evaluate({"extra": ""})]
    problems = [problem for entry in needed if (problem := _problem(entry))]
    if not SpecifierSet(python).contains(platform.python_version()):
        problems.insert(0, f"this is Python {platform.python_version()} and hpo needs {python}; use another Python")
    if problems:
        return [Check("packages", "fails", problem) for problem in problems]
    told = ", ".join(f"{name} {version(name)}" for name in TOLD)
    return [Check("packages", "ok", f"Python {platform.python_version()}, {told}; all {len(needed)} in their ranges")]


def _problem(needed: Requirement) -> str | None:
    """What is wrong with one package, if anything."""
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is not installed: pip install '{needed}'"
    if needed.specifier.contains(found, prereleases=True):
        return None
    return f"{needed.name} {found} is outside of what hpo is made for: pip install '{needed}'"
