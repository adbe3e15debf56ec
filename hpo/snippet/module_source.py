"""The source of a module: what binds its names, and what its statements use."""

import ast
import dis
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

from hpo.data import Dataset
from hpo.errors import UsageError
from hpo.study.syntax import parse
from hpo.user_code.ownership import is_user_code


class Binding(NamedTuple):
    """Where a name of a module gets its value: statements, or an import."""

    statements: list[ast.stmt]
    module: str = ""  # that it is imported from
    name: str = ""  # there; empty for a module itself


def is_package(binding: Binding | None) -> bool:
    """Whether a name is hpo itself, as after `import hpo`."""
    return binding is not None and binding.module.partition(".")[0] == "hpo" and not binding.name


def attributes_of(statements: list[ast.stmt], name: str) -> list[str]:
    """What the statements take from a module of this name."""
    nodes = [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Attribute)]
    return sorted({node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == name})


def values_of_dataset(module: str, statements: list[ast.stmt], name: str) -> dict[str, Any]:
    """The values of `DATA.features` and the like, by that text, where a data set is used in no other way."""
    dataset = getattr(sys.modules[module], name, None)
    if not isinstance(dataset, Dataset):
        return {}
    nodes = [node for statement in statements for node in ast.walk(statement)]
    objects = [node.value for node in nodes if isinstance(node, ast.Attribute)]
    others = [node for node in nodes if isinstance(node, ast.Name) and node.id == name and node not in objects]
    values = {f"{name}.{each}": getattr(dataset, each, None) for each in attributes_of(statements, name)}
    return {} if others or any(map(callable, values.values())) else values


def with_values(text: str, values: Mapping[str, str]) -> str:
    """A text with what each of these attributes is, as Python, instead of it."""
    for attribute, value in values.items():
        text = re.sub(rf"\b{re.escape(attribute)}\b", value.replace("\\", r"\\"), text)
    return text


def without_package(text: str, module: str) -> str:
    """A text with the names themselves instead of hpo.NAME."""
    for name, binding in bindings_of(module).items():
        text = re.sub(rf"\b{name}\.(?=\w)", "", text) if is_package(binding) else text
    return text


def is_users(module: str) -> bool:
    """Whether a module is the user's."""
    loaded = sys.modules.get(module)
    return loaded is not None and is_user_code(loaded)


def source_of(module: str) -> str:
    """The source of a module that is imported."""
    return inspect.getsource(sys.modules[module])


def bindings_of(module: str) -> Mapping[str, Binding]:
    """The names of a module and what binds them, its imports included."""
    loaded = sys.modules[module]
    file = getattr(loaded, "__file__", None)
    if not file:
        raise UsageError(f"the module {module} has no file; write its code into one")
    bindings: dict[str, Binding] = {}
    for statement in parse(source_of(module).encode()).body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                bindings[alias.asname or target] = Binding([], alias.name)
        elif isinstance(statement, ast.ImportFrom):
            package = loaded.__spec__.parent if loaded.__spec__ and statement.level else ""
            base = ".".join(str(package).split(".")[: len(str(package).split(".")) - statement.level + 1])
            source = ".".join(filter(None, [base if statement.level else "", statement.module or ""]))
            for alias in statement.names:
                bindings[alias.asname or alias.name] = Binding([], source, alias.name)
        else:
            for name in bound_names(statement):
                before = bindings.get(name, Binding([]))
                bindings[name] = Binding([*before.statements, statement])
    return bindings


def bound_names(statement: ast.stmt) -> list[str]:
    """The names that a statement defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
        parts = [part for _, part in ast.iter_fields(statement) if isinstance(part, list)]
        nested = [each for part in parts for each in part if isinstance(each, ast.stmt)]
        return [name for each in nested for name in bound_names(each)]
    return []


def global_names(code: CodeType) -> Iterator[str]:
    """The names that code takes from its module, in nested functions as well."""
    instructions = list(dis.get_instructions(code))
    own = {instruction.argval for instruction in instructions if instruction.opname == "STORE_NAME"}  # of a class
    for instruction in instructions:
        if instruction.opname == "LOAD_GLOBAL" or (instruction.opname == "LOAD_NAME" and instruction.argval not in own):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def statement_text(module: str, statement: ast.stmt) -> str:
    """The lines of a statement with its decorators."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)])
    return "\n".join(source_of(module).splitlines()[first - 1 : statement.end_lineno])
