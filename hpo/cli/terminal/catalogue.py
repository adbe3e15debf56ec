"""The catalogue of studies and built-in parts, and settings as they are typed."""

import ast
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpo.errors import UsageError
from hpo.search_space import Choice, Entry, Range, Value, When, is_plain
from hpo.space import Setting, describe_bounds, show_value, split_space
from hpo.study import study_files
from hpo.study.sampler import SAMPLERS
from hpo.study.study import Configuration, Study

BUILT_IN = Path(__file__).parent / "built_in_parts.json"  # stored, because importing PyTorch takes seconds
TRAINING = {
    "batch_size, accumulate, label_smoothing": "fields of the study, for one configuration",
    "model.ARGUMENT": "an argument of the model function or a field of a built-in network; dropout is model.dropout",
    "schedule.ARGUMENT": "a field of the schedule, such as schedule.warmup_epochs",
}


def catalogue() -> dict[str, Any]:
    """Studies and built-in parts by kind: name → a line about it, or its hyperparameters."""
    studies = {path.stem: _first_line(path) for path in study_files.study_files()}
    return {"studies": studies, **json.loads(BUILT_IN.read_text(encoding="utf-8"))}


def write_built_in_parts() -> None:
    """Stores the built-in parts, which a test compares with the stored ones; call it when they have changed."""
    BUILT_IN.write_text(
        json.dumps(built_in_parts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )


def built_in_parts() -> dict[str, Any]:
    """The built-in parts by kind, from the modules that define them."""
    from hpo.data import DATASETS
    from hpo.models import MODELS
    from hpo.optim.averages import AVERAGES
    from hpo.optim.optimizers import OPTIMIZERS
    from hpo.optim.regularizers import REGULARIZERS
    from hpo.optim.schedules import SCHEDULES

    parts: dict[str, Any] = {}
    for kind, registry in (("regularizers", REGULARIZERS), ("optimizers", OPTIMIZERS)):
        parts[kind] = {
            name: {key: _default(value) for key, value in part.hyperparameters.items()}
            for name, part in registry.items()
        }
    parts["optimizers"]["hpo.from_torch(...)"] = "any optimizer written for PyTorch; studies/README.md has examples"
    parts["optimizers"]["hpo.wrap(...)"] = "a built-in optimizer with changes before and after its update"
    kinds = (("models", MODELS), ("data", DATASETS), ("schedules", SCHEDULES), ("averages", AVERAGES))
    for kind, classes in kinds:
        parts[kind] = {name: (part.__doc__ or "").partition("\n")[0] for name, part in classes.items()}
    parts["samplers"] = dict(SAMPLERS)
    parts["training hyperparameters"] = dict(TRAINING)
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


def parse_settings(pairs: Sequence[str], study: Study, configuration: Configuration) -> Setting:
    """Converts `name=value` pairs to values by name.

    Raises:
        UsageError: a pair is malformed or names no hyperparameter of the configuration.
    """
    from hpo.study.components import full_space, static_names
    from hpo.study.training_space import full_names, known_names, training_names

    space = split_space(full_space(configuration))
    training = training_names(study)
    known = list(dict.fromkeys([*space.tuned, *space.fixed, *training]))
    texts_allowed = {*static_names(configuration), *training}
    setting: Setting = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in known:
            raise UsageError(f"{configuration.name!r} has no hyperparameter {name!r}; {known_names(name, known)}")
        if not equals:
            raise UsageError(f"{name} is given without a value; write {name}=VALUE")
        [name] = full_names({name: None}, [*space.tuned, *space.fixed])
        bounds = space.tuned.get(name)
        choices = {show_value(each): each for each in bounds.values} if isinstance(bounds, Choice) else {}
        parsed = choices.get(value, _parse(value))
        if name in texts_allowed or isinstance(parsed, bool):
            setting[name] = parsed
        elif isinstance(parsed, str | None):
            raise UsageError(f"{pair!r} gives {name} no number; write for example {name}=0.1, without spaces")
        else:
            setting[name] = float(parsed)
    return setting


def _parse(text: str) -> Value:
    """What a person typed: a number, True, False or None as in Python, else the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        with suppress(ValueError):
            return float(text)  # nan and inf
        return text
    return value if is_plain(value) else text


def _default(entry: Entry) -> str:
    if isinstance(entry, When):
        return f"{_default(entry.entry)} where {entry.name} is {' or '.join(map(show_value, entry.values))}"
    return describe_bounds(entry) if isinstance(entry, Range | Choice) else show_value(entry)


def _first_line(path: Path) -> str:
    """The first line of a file's docstring, read without running the file."""
    try:
        return (ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n")[0]
    except SyntaxError as error:
        return f"(syntax error in line {error.lineno})" if error.lineno else "(cannot be read)"
    except (OSError, ValueError):
        return "(cannot be read)"
