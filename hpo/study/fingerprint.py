"""What the user's code in a study does, in digests: every module that it reaches, and the values that it uses."""

import dataclasses
import functools
import hashlib
import re
import sys
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType
from typing import Any

from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.content import code_content, content
from hpo.study.definition import optimizer_of, regularizer_of
from hpo.study.read_in_calls import read_in_calls
from hpo.study.study import Study
from hpo.study.study_syntax import study_digests
from hpo.study.syntax import digest, lambda_digest, module_digests, of_the_process
from hpo.study.user_modules import UserModule, user_modules
from hpo.user_code.ownership import is_user_code
from hpo.user_code.reachable import reachable

STUDY_FILE = "study file"
MAX_VALUES = 1_000_000
_END = "\0"  # of a root's name in a path
_ANY_PLACE = re.compile(r"\{\d+\}")  # of an object in a set, which has no order
_NAME = re.compile(r"([.\[{])")


def fingerprint(study: Study) -> dict[str, str]:
    """Digests of the user's code and of the values that it uses, by names such as "study file: Net" and "loss.gamma".

    They are the same in every process and on every machine, and for every version of Python where the code has a file.
    Comments, layout, docstrings, the author's words and the planned numbers do not count; what the definition says is
    left to it.
    """
    roots = {f"{name}{_END}": part for name, part in _parts(study).items()}
    found = list(reachable(roots, MAX_VALUES, late_imports=False))  # what a call imports is no edit
    module = study.defined_in.partition(":")[0]
    owners = [value for _, value in found if issubclass(type(value), type | FunctionType)]
    modules = user_modules([*owners, sys.modules.get(module)])
    home = functools.partial(_home, module)
    entries: dict[str, list[str]] = {}
    for own in modules.values():
        for name, code in _statements(own, study.defined_in).items():
            entries.setdefault(f"{home(own.name)}: {name}", []).append(code)
    ignored = set().union(*(of_the_process(own.tree) for own in modules.values() if own.tree))
    files = {str(own.file): own.tree for own in modules.values()}
    for path, value in found:
        root, _, way = path.partition(_END)
        if (not way and not _is_counted(value)) or ignored.intersection(re.split(r"\W+", way)):
            continue
        line = f"{_ANY_PLACE.sub('{}', way)} = {content(value, home)}"
        if issubclass(type(value), FunctionType) and is_user_code(value):
            if root != "data":  # whose inputs are compared as they are loaded
                for name, said in read_in_calls(value).items():
                    entries.setdefault(f"{root}: {name}", []).append(content(said, home))
            tree = files.get(value.__code__.co_filename)
            if tree is None:
                line += f" {code_content(value.__code__, value.__doc__)}"
            elif value.__name__ == "<lambda>":  # a name that many share
                line += f" {lambda_digest(tree, value.__code__)}"
        entries.setdefault(_variable(root, way), []).append(line)
    return {name: digest(*sorted(lines)) for name, lines in sorted(entries.items())}


def _parts(study: Study) -> dict[str, Any]:
    """The study's parts that may be the user's, without what the definition says of them: fields and arguments."""
    described = {name: getattr(study, name) for name in ("data", "model", "schedule", "loss", "pruner")}
    described |= {f"metric {name}": metric for name, metric in study.metrics.items()}
    parts: dict[str, Any] = {}
    for name, part in described.items():
        if isinstance(part, functools.partial):
            part = part.func
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = {field.name for field in dataclasses.fields(part)}
            held = {key: value for key, value in getattr(part, "__dict__", {}).items() if key not in fields}
            parts |= {f"{name}.{key}": held[key] for key in held if not _is_cache(part, key)}
            part = type(part)
        parts[name] = part
    for configuration in study.configurations:
        regularizer, optimizer = regularizer_of(configuration), optimizer_of(configuration)
        if REGULARIZERS.get(regularizer.name) is not regularizer:
            name = f"regularizer of {configuration.name}"
            parts |= {name: regularizer.grads, f"{name}.init": regularizer.init, f"{name}.views": regularizer.views}
        if OPTIMIZERS.get(optimizer.name) is not optimizer:
            name = f"optimizer of {configuration.name}"
            parts |= {name: optimizer.update, f"{name}.init": optimizer.init}
    return parts


def _is_cache(part: Any, attribute: str) -> bool:
    """Whether an attribute only keeps what was computed."""
    return attribute.startswith("_") or isinstance(vars(type(part)).get(attribute), functools.cached_property)


def _is_counted(part: Any) -> bool:
    """Whether a part itself counts: functions and classes that are not the user's stand in the definition."""
    callables = type | FunctionType | BuiltinFunctionType
    return part is not None and (is_user_code(part) or not issubclass(type(part), callables))


def _statements(own: UserModule, defined_in: str) -> dict[str, str]:
    """Digests of a module's code by the names of its statements."""
    module, _, variant = defined_in.partition(":")
    if own.tree is not None:
        with suppress(RecursionError):
            ours = own.name in (module, "__main__")
            return study_digests(own.tree, own.variables, variant) if ours else module_digests(own.tree)
    return {"contents": hashlib.sha256(own.file.read_bytes()).hexdigest()[:16]}


def _home(study_file: str, module: str) -> str:
    """What a module is called: a study file the same under any name."""
    if module == study_file:
        return STUDY_FILE
    return "script or notebook" if module == "__main__" else f"{module.replace('.', '/')}.py"


def _variable(root: str, way: str) -> str:
    """The variable or attribute that a path leads to or into: "model: WIDTH" of "model: WIDTH[0].x"."""
    head, separator, tail = way.rpartition(": ")
    names = _NAME.split(tail)  # ["", ".", "gamma", "[", ...] of ".gamma[0]"
    return f"{root}{head}: {names[0]}" if separator else f"{root}{''.join(names[:3])}"
