"""Digests of the user's code in a study: every module that it reaches, and the values that it uses."""

import dataclasses
import functools
import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType
from typing import Any

from hpo.errors import UsageError
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.study.components import optimizer_of, regularizer_of
from hpo.study.content import code_content, content
from hpo.study.external_inputs import external_inputs
from hpo.study.study import Study
from hpo.study.study_syntax import study_digests
from hpo.study.syntax import digest, lambda_digest, module_digests, process_dependent_names
from hpo.study.user_modules import UserModule, changed_files, user_modules
from hpo.user_code.metrics import Whole
from hpo.user_code.ownership import is_user_code
from hpo.user_code.reachable import reachable

STUDY_FILE = "study file"
MAX_VALUES = 1_000_000
_ROOT_END = "\0"  # ends the root's name in a path
_SET_ENTRY = re.compile(r"\{\d+\}")  # a place in a set, which has no order
_PATH_SEPARATOR = re.compile(r"([.\[{])")


def fingerprint(study: Study) -> dict[str, str]:
    """Digests of the user's code and of the values that it uses, by names such as "study file: Net" and "loss.gamma".

    They are the same in every process and on every machine, and for every version of Python where the code has a file.
    Comments, layout, docstrings, the author's texts and the planned numbers do not count, nor does what the definition
    contains.

    Raises:
        UsageError: a file has changed since the study was loaded, so that the study has other code than the file.
    """
    study_module = study.defined_in.partition(":")[0]
    if changed := changed_files(study_module):
        raise UsageError(f"{changed[0]} has changed since the study was loaded; load the study again")
    objects = reachable_objects(parts(study))
    modules = modules_of(study, objects)
    module_label = functools.partial(label_of_module, study_module)
    entries: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for name, code in _statements(module, study.defined_in).items():
            entries[f"{module_label(module.name)}: {name}"].append(code)
    libraries = {f"metric {name}": library for name, metric in study.metrics.items() if (library := _library(metric))}
    for root, variable, line, _ in values_of(objects, modules, module_label):
        entries[f"{root} ({libraries[root]})" if root in libraries else variable].append(line)
    return {name: digest(*sorted(lines)) for name, lines in sorted(entries.items())}


def reachable_objects(roots: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Everything that is reached from a study's parts, with its path; the root's name in it ends with `_ROOT_END`."""
    named = {f"{name}{_ROOT_END}": part for name, part in roots.items()}
    return list(reachable(named, MAX_VALUES, late_imports=False))  # a call may import modules without any edit


def modules_of(study: Study, objects: list[tuple[str, Any]]) -> dict[str, UserModule]:
    """The user's modules that a study with these objects reaches."""
    definers = [value for _, value in objects if issubclass(type(value), type | FunctionType)]
    return user_modules([*definers, sys.modules.get(study.defined_in.partition(":")[0])])


def values_of(
    objects: list[tuple[str, Any]], modules: Mapping[str, UserModule], module_label: Callable[[str], str]
) -> Iterator[tuple[str, str, str, Any]]:
    """The root, the variable or attribute, and the content of every object at its path, and the object."""
    ignored = set().union(*(process_dependent_names(module.tree) for module in modules.values() if module.tree))
    trees = {str(module.file): module.tree for module in modules.values()}
    for full_path, value in objects:
        root, _, path = full_path.partition(_ROOT_END)
        if (not path and not _is_counted(value)) or ignored.intersection(re.split(r"\W+", path)):
            continue
        line = f"{_SET_ENTRY.sub('{}', path)} = {content(value, module_label)}"
        if issubclass(type(value), FunctionType) and is_user_code(value):
            if root != "data":  # whose inputs are compared when they are loaded
                for name, text in external_inputs(value).items():
                    yield root, f"{root}: {name}", content(text, module_label), value
            tree = trees.get(value.__code__.co_filename)
            if tree is None:
                line += f" {code_content(value.__code__, value.__doc__)}"
            elif value.__name__ == "<lambda>":  # many functions have this name
                line += f" {lambda_digest(tree, value.__code__)}"
        yield root, _variable(root, path), line, value


def parts(study: Study) -> dict[str, Any]:
    """The study's parts that may be the user's code, without the fields and arguments that the definition contains."""
    described = {name: getattr(study, name) for name in ("data", "model", "schedule", "loss", "pruner")}
    metrics = {name: metric.function if isinstance(metric, Whole) else metric for name, metric in study.metrics.items()}
    described |= {f"metric {name}": metric for name, metric in metrics.items()}
    for entry in study.configurations:
        own = {f"schedule of {name} of {entry.name}": each for name, each in entry.schedules.items()}
        described |= {name: schedule for name, schedule in own.items() if callable(schedule)}
    if callable(study.sampler):
        described["sampler"] = study.sampler
    roots: dict[str, Any] = {}
    for name, part in described.items():
        if isinstance(part, functools.partial):
            part = part.func
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = {field.name for field in dataclasses.fields(part)}
            for attribute, value in getattr(part, "__dict__", {}).items():
                if attribute not in fields and not _is_cache(part, attribute):
                    roots[f"{name}.{attribute}"] = value
            part = type(part)
        roots[name] = part
    for configuration in study.configurations:
        regularizer, optimizer = regularizer_of(configuration), optimizer_of(configuration)
        if REGULARIZERS.get(regularizer.name) is not regularizer:
            name = f"regularizer of {configuration.name}"
            roots |= {name: regularizer.grads, f"{name}.init": regularizer.init, f"{name}.views": regularizer.views}
            roots |= {f"{name}.clean_view": True} if regularizer.clean_view else {}
            roots |= {f"{name}.static": regularizer.static} if regularizer.static else {}
        if configuration.average is not None:
            roots[f"average of {configuration.name}"] = type(configuration.average)
        if OPTIMIZERS.get(optimizer.name) is not optimizer:
            name = f"optimizer of {configuration.name}"
            roots |= {f"{name}{path}": part for path, part in optimizer.code().items()}
    return roots


def _library(metric: Any) -> str:
    """ "torchmetrics 1.8.2" for a metric of a library, which is one entry; "" for the user's own."""
    metric = metric.function if isinstance(metric, Whole) else metric
    package = str(getattr(metric, "__module__", "")).partition(".")[0]
    if package in ("", *sys.stdlib_module_names) or is_user_code(metric):
        return ""
    return f"{package} {getattr(sys.modules.get(package), '__version__', '')}".strip()


def _is_cache(part: Any, attribute: str) -> bool:
    """Whether an attribute only stores what was computed."""
    return attribute.startswith("_") or isinstance(vars(type(part)).get(attribute), functools.cached_property)


def _is_counted(part: Any) -> bool:
    """Whether a part itself counts: functions and classes that are not the user's are named in the definition."""
    callables = type | FunctionType | BuiltinFunctionType
    return part is not None and (is_user_code(part) or not issubclass(type(part), callables))


def _statements(module: UserModule, defined_in: str) -> dict[str, str]:
    """Digests of a module's code by the names of its statements."""
    study_module, _, variant = defined_in.partition(":")
    if module.tree is not None:
        with suppress(RecursionError):
            if module.name in (study_module, "__main__"):
                return study_digests(module.tree, module.variables, variant)
            return module_digests(module.tree)
    return {"contents": hashlib.sha256(module.file.read_bytes()).hexdigest()[:16]}


def label_of_module(study_module: str, module: str) -> str:
    """The label of a module in the fingerprint; a study file has the same under any name."""
    if module == study_module:
        return STUDY_FILE
    return "script or notebook" if module == "__main__" else f"{module.replace('.', '/')}.py"


def _variable(root: str, path: str) -> str:
    """The variable or attribute that a path leads to or into: "model: WIDTH" of "model: WIDTH[0].x"."""
    head, separator, tail = path.rpartition(": ")
    names = _PATH_SEPARATOR.split(tail)  # ["", ".", "gamma", "[", ...] of ".gamma[0]"
    return f"{root}{head}: {names[0]}" if separator else f"{root}{''.join(names[:3])}"
