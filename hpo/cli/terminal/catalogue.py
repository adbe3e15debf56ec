"""The catalogue of studies and built-in parts, and settings as they are typed."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.errors import UsageError, did_you_mean
from hpo.search_space import Range
from hpo.study import loading


def catalogue() -> dict[str, Any]:
    """Studies and built-in parts by kind: name → a line about it, or its hyperparameters."""
    from hpo.data import DATASETS
    from hpo.models import MODELS
    from hpo.optim.optimizers import OPTIMIZERS
    from hpo.optim.regularizers import REGULARIZERS
    from hpo.optim.schedules import SCHEDULES

    parts: dict[str, Any] = {
        "studies": {path.stem: _first_line(path.read_text(encoding="utf-8")) for path in loading.study_files()}
    }
    for kind, registry in (("regularizers", REGULARIZERS), ("optimizers", OPTIMIZERS)):
        parts[kind] = {
            name: {key: _default(value) for key, value in part.hyperparameters.items()}
            for name, part in registry.items()
        }
    for kind, classes in (("models", MODELS), ("data", DATASETS), ("schedules", SCHEDULES)):
        parts[kind] = {name: (part.__doc__ or "").partition("\n")[0] for name, part in classes.items()}
    return parts


def catalogue_text(catalogue: Mapping[str, Any]) -> str:
    """The catalogue for a terminal."""
    lines = []
    for kind, parts in catalogue.items():
        lines.append(kind)
        width = max((len(name) for name in parts), default=0)
        for name, about in parts.items():
            text = ", ".join(f"{key} {value}" for key, value in about.items()) if isinstance(about, dict) else about
            lines.append(f"  {name:<{width}}  {text}".rstrip())
    return "\n".join(lines)


def parse_settings(pairs: Sequence[str], configuration: Any) -> dict[str, float]:
    """Converts `name=value` pairs to numbers by name.

    Raises:
        UsageError: a pair is malformed or names no hyperparameter of the configuration.
    """
    from hpo.study.definition import full_space

    known = full_space(configuration)
    setting = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise UsageError(
                f"{configuration.name!r} has no hyperparameter {name!r}; choose from {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
        try:
            setting[name] = float(value)
        except ValueError:
            raise UsageError(f"{pair!r} gives {name} no number; write for example {name}=0.1, without spaces") from None
    return setting


def _default(value: Range | float) -> str:
    if isinstance(value, Range):
        return f"{value.low:g}–{value.high:g}" + (" (log)" if value.log else "")
    return f"{value:g}"


def _first_line(source: str) -> str:
    """The first line of a file's docstring, read without running the file."""
    try:
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    except SyntaxError as error:
        return f"(syntax error in line {error.lineno})"
