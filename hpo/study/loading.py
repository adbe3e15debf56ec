"""From what a person types (`gnvr`, `rogc:noisy`, `path/to/file.py`) to a validated `Study`."""

import dataclasses
import importlib.util
import os
import sys
import textwrap
import traceback
from pathlib import Path
from types import ModuleType

from hpo.errors import UsageError, did_you_mean
from hpo.study.python_errors import error_hint
from hpo.study.study import Study
from hpo.study.study_files import study_name, study_path


def variants(path: Path) -> list[str]:
    """The names of a study file's variants, in its order; none where it defines a single study.

    Raises:
        UsageError: the file cannot be executed.
    """
    module = _execute(path)
    studies = getattr(module, "STUDIES", None)
    return list(studies) if isinstance(studies, dict) and not isinstance(getattr(module, "STUDY", None), Study) else []


def load(reference: str | os.PathLike[str], name: str | None = None) -> Study:
    """Loads and validates a study.

    Args:
        reference: its name, NAME:VARIANT or file. name: the study's name in the database instead of its own.

    Raises:
        UsageError: there is no such file or variant, or the file does not define a valid study; the message says in
            which line, where that is known, and what to change.
    """
    from hpo.study.definition import describe

    if not isinstance(reference, str | os.PathLike):
        raise UsageError(f"a study cannot be loaded from {reference!r}; give its name or its file")
    reference = os.fspath(reference)
    path = study_path(reference)
    module = _execute(path)
    variant = reference.partition(":")[2]
    study = _choose(module, path, variant)
    defined_in = f"{module.__name__}:{variant}"
    chosen = name or study.name
    try:
        study = dataclasses.replace(study, name=chosen or study_name(reference), defined_in=defined_in)
    except UsageError as error:
        raise error if chosen else UsageError(f"{path}: {error}, as --name or in Study(name=...)") from error
    try:
        describe(study)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return study


def _execute(path: Path) -> ModuleType:
    from hpo.study.user_modules import forget_changed_modules, remember_imports

    specification = importlib.util.spec_from_file_location(f"hpo_study_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise UsageError(f"{path} cannot be read as Python; give a .py file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # where pickling and inspect.getsource look for it
    for folder in (str(path.parent.resolve()), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
    forget_changed_modules()
    try:
        specification.loader.exec_module(module)
    except UsageError as error:
        raise UsageError(f"{_location(path, error)}: {error}") from error
    except (Exception, SystemExit) as error:
        text = error.msg if isinstance(error, SyntaxError) and _is_same(path, error.filename) else str(error)
        message = f"{type(error).__name__}: {text}".strip().removesuffix(":").partition("\n")[0]
        hint = error_hint(error, vars(module)) or f"{message}; fix that line"
        raise UsageError(f"{_location(path, error)}: {hint}") from error
    finally:
        remember_imports(module)
    return module


def _choose(module: ModuleType, path: Path, variant: str) -> Study:
    if not variant and isinstance(getattr(module, "STUDY", None), Study):
        return module.STUDY
    variants = getattr(module, "STUDIES", None)
    if not isinstance(variants, dict) or not all(isinstance(study, Study) for study in variants.values()):
        if variant:
            raise UsageError(f"{path} has no variants; leave out ':{variant}'")
        raise UsageError(
            f"{path} defines no STUDY; write STUDY = hpo.Study(...), or STUDIES = {{name: hpo.Study(...)}}"
        )
    if variant not in variants:
        names = ", ".join(f"{path.stem}:{name}" for name in variants)
        raise UsageError(f"{path} has the variants {names}; choose one of them{did_you_mean(variant, variants)}")
    return variants[variant]


def _location(path: Path, error: BaseException) -> str:
    """The study file, and the number and text of the line in it that led to the error, where that is known."""
    if isinstance(error, SyntaxError) and error.lineno and _is_same(path, error.filename):
        return f"{path}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_same(path, frame.filename)]
    if not frames:
        return str(path)
    text = (frames[-1].line or "").strip().rstrip(",")
    return f"{path}, line {frames[-1].lineno}" + (f" ({textwrap.shorten(text, 80)})" if text else "")


def _is_same(path: Path, filename: str | None) -> bool:
    """Whether Python's name of a file, absolute or not, means the study file."""
    return filename is not None and Path(filename).resolve() == path.resolve()
