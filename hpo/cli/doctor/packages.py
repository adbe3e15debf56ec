"""Python and the installed packages, against the versions that hpo requires."""

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from hpo.cli.doctor.check import Check

DISTRIBUTION = "hpo-studies"


def check_packages() -> list[Check]:
    """One result if everything fits, else one for each package that does not."""
    try:
        declared = map(Requirement, requires(DISTRIBUTION) or [])
        python = Requirement(f"python{metadata(DISTRIBUTION)['Requires-Python']}")
    except PackageNotFoundError:
        text = f"hpo is not installed, so its requirements are unknown; pip install {DISTRIBUTION}"
        return [Check("packages", "warning", text)]
    needed = [entry for entry in declared if not entry.marker or entry.marker.evaluate({"extra": ""})]
    problems = [problem for entry in [python, *needed] if (problem := _problem(entry))]
    if problems:
        return [Check("packages", "fails", problem) for problem in problems]
    shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "optuna"))
    text = f"Python {platform.python_version()}, {shown}; all {len(needed)} required packages have the right version"
    return [Check("packages", "ok", text)]


def _problem(needed: Requirement) -> str | None:
    """The sentence about a package that is missing or has another version."""
    advice = "use another Python" if needed.name == "python" else f"pip install '{needed}'"
    try:
        found = platform.python_version() if needed.name == "python" else version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is not installed; {advice}"
    fits = needed.specifier.contains(found, prereleases=True)
    return None if fits else f"{needed.name} {found} is installed, but hpo needs {needed.specifier}; {advice}"
