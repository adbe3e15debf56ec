"""Where study files are, and what their studies are called; nothing is loaded."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.errors import UsageError, did_you_mean

STUDIES = Path("studies")
PACKAGE = Path(__file__).parents[1]
# The built-in studies: inside an installed package, next to it in a checkout.
BUILT_IN = next((folder for folder in (PACKAGE / "studies", PACKAGE.parent / "studies") if folder.is_dir()), STUDIES)


def study_files() -> list[Path]:
    """The study files by name: those in ./studies, and the built-in ones of other names.

    Files that start with "_" are shared by studies, those with "." are an editor's or the system's.
    """
    paths = [path for folder in (BUILT_IN, STUDIES) for path in folder.glob("*.py") if path.name[0] not in "_."]
    return sorted({path.stem: path for path in paths}.values(), key=lambda path: path.stem)


def study_name(reference: str) -> str:
    """The name of a referenced study in the database, without loading anything: `rogc:noisy` is rogc-noisy."""
    target, _, variant = reference.partition(":")
    stem = Path(target).stem if target.endswith(".py") else target
    return f"{stem}-{variant}" if variant else stem


def command_reference(command: str) -> str:
    """The study as `hpo run STUDY …` names it; empty if the command is another one."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unbalanced quotation mark
        return ""
    return words[2] if words[:2] == ["hpo", "run"] and len(words) > 2 else ""


def run_command(study: str, flags: Mapping[str, Any]) -> str:
    """The `hpo run` that reproduces a study, for its report."""
    return shlex.join(["hpo", "run", study, *flag_words(flags)])


def flag_words(flags: Mapping[str, Any]) -> list[str]:
    """The words of a command line for flags by name; None and False leave a flag out, True has it stand alone."""
    given = {flag: value for flag, value in flags.items() if value is not None and value is not False}
    return [word for flag, value in given.items() for word in ([flag] if value is True else [flag, str(value)])]


def renamed_command(command: str, new: str) -> str:
    """The command that runs a renamed study: with its new file if there is one, else with `--name`."""
    if not (reference := command_reference(command)):
        return command
    words = shlex.split(command)
    if "--name" in words[:-1]:
        words[words.index("--name") + 1] = new
    elif new in {path.stem for path in study_files()}:
        words[2] = new
    elif study_name(reference) != new:
        words += ["--name", new]
    return shlex.join(words)


def is_orphaned(command: str) -> bool:
    """Whether the study that a command created has its name from a file that does not exist."""
    try:
        study_path(command_reference(command))
    except UsageError:
        return "--name" not in command.split()
    return False


def study_path(reference: str) -> Path:
    """The file that a reference names: a path, a name in ./studies, or the name of a built-in study.

    Raises:
        UsageError: there is no such file.
    """
    target = reference.partition(":")[0]
    files = {path.stem: path for path in study_files()}
    path = Path(target) if target.endswith(".py") else files.get(target, STUDIES / f"{target}.py")
    if path.is_file():
        return path
    raise UsageError(f"no study file {path}; studies are: {', '.join(files)}{did_you_mean(path.stem, files)}")
