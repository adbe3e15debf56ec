"""The source of functions and classes with everything that it uses, so that it runs without its module."""

import ast
import builtins
import dataclasses
import dis
import functools
import graphlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from hpo.errors import UsageError
from hpo.study.public_names import PUBLIC_NAMES
from hpo.study.syntax import parse
from hpo.user_code.ownership import is_user_code

# The modules of hpo whose code may enter a script: plain functions of tensors, and networks.
PLAIN_MODULES = (
    "hpo.data.augmentation",
    "hpo.errors",
    "hpo.models.",
    "hpo.optim.regularizers.",
    "hpo.random",
    "hpo.tree",
)
# What stands for a name of hpo in a script: an import, or "" for what every script with a regularizer has.
SUBSTITUTES = {
    ("hpo.gradients.objective", "Objective"): "",
    ("hpo.optim.regularizer", "State"): "State = dict[str, Any]",
    ("hpo.models.dropout", "Dropout"): "from torch.nn import Dropout",
    ("hpo.errors", "UsageError"): "UsageError = ValueError",
}
# What to do where a script is not possible.
INSTEAD = "take the trained network by hpo run --keep-weights and hpo.load_model"
FUTURE = "from __future__ import annotations"


class _Binding(NamedTuple):
    """Where a name of a module gets its value: statements, or an import."""

    statements: list[ast.stmt]
    module: str = ""  # that it is imported from
    name: str = ""  # there; empty for a module itself


class Extraction:
    """Source texts in the order in which a script needs them, each once.

    Attributes:
        imports: import statements.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        """reserved: names that the script itself defines."""
        self.imports: dict[str, None] = {}
        self._texts: list[tuple[str, int, str]] = []  # module, line, text
        self._uses: dict[str, set[str]] = {}  # module → the modules whose names it uses
        self._names = dict.fromkeys(reserved, "")  # name → the module that defines it
        self._seen: set[tuple[str, int | str]] = set()

    def take(self) -> list[str]:
        """The texts since the last call, in the order of their files; a file comes after those that it uses."""
        texts, self._texts = self._texts, []
        try:
            modules = list(graphlib.TopologicalSorter(self._uses).static_order())
        except graphlib.CycleError:  # as these modules import one another, they do not need much of one another
            modules = []
        modules += [module for module, _, _ in texts]
        return [text for _, _, text in sorted(texts, key=lambda entry: (modules.index(entry[0]), entry[1]))]

    def call(self, part: str, value: Any) -> str:
        """An expression for a function, or an object that is called, whose source is added.

        Args:
            part: what it is, as messages name it.

        Raises:
            UsageError: it has no source that would run without hpo.
        """
        if isinstance(value, functools.partial) and not value.args:
            self.imports["import functools"] = None
            arguments = ", ".join(f"{name}={self.literal(part, each)}" for name, each in value.keywords.items())
            return f"functools.partial({self.call(part, value.func)}, {arguments})"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            given = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
            arguments = ", ".join(f"{name}={self.literal(part, each)}" for name, each in given.items())
            return f"{self.call(part, type(value))}({arguments})"
        if not isinstance(value, FunctionType | type):
            raise UsageError(
                f"{part} is an object of the class {type(value).__name__}, which cannot be written as Python; give a "
                "function with a name"
            )
        if value.__name__ == "<lambda>":
            raise UsageError(f"{part} is a lambda, which has no source of its own; write a function with def")
        if isinstance(value, FunctionType) and value.__qualname__ != value.__name__:
            self._add_inner(part, value)
        else:
            self._add_name(part, value.__module__, value.__name__)
        return value.__name__

    def imported(self, part: str, value: Any) -> str:
        """An expression for a function or class: an import where an installed package has it, else its source."""
        module, name = str(getattr(value, "__module__", "")), getattr(value, "__name__", "")
        if is_user_code(value) or module.partition(".")[0] == "hpo":
            return self.call(part, value)
        package = module.partition(".")[0]
        module = package if getattr(sys.modules[package], name, None) is value else module
        self.imports[f"from {module} import {name}"] = None
        return name

    def literal(self, part: str, value: Any) -> str:
        """A value as Python."""
        if isinstance(value, slice):
            return f"slice({value.start!r}, {value.stop!r})"
        if type(value) is tuple:
            entries = [self.literal(part, each) for each in value]
            return f"({', '.join(entries)}{',' * (len(entries) == 1)})"
        if value is None or isinstance(value, bool | int | float | str):
            return json.dumps(value) if isinstance(value, str) else repr(value)
        if callable(value):
            return self.call(part, value)
        raise UsageError(
            f"{part} uses an object of the class {type(value).__name__}, which cannot be written as Python; use "
            "numbers, texts and functions"
        )

    def _add_inner(self, part: str, function: FunctionType) -> None:
        """A function inside a function, after the variables that it takes from there."""
        key = (function.__module__, id(function.__code__))
        if key in self._seen:
            return
        self._seen.add(key)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        lines = [f"{name} = {self.literal(part, cell.cell_contents)}" for name, cell in cells]
        names = [line.partition(" = ")[0] for line in lines]
        lines = [line for line in lines if line.partition(" = ")[0] != line.partition(" = ")[2]]
        source = textwrap.dedent(inspect.getsource(function))
        self._add_globals(part, function.__module__, ast.parse(source).body, [*names, function.__name__])
        self._bind(part, [line.partition(" = ")[0] for line in lines] + [function.__name__], function.__module__)
        line = function.__code__.co_firstlineno
        texts = [*lines, _without_package(source.rstrip(), function.__module__)]
        self._texts += [(function.__module__, line, text) for text in texts]
        for cell in function.__closure__ or ():
            if callable(cell.cell_contents):
                self._use(function.__module__, cell.cell_contents.__module__)

    def _add_name(self, part: str, module: str, name: str) -> None:
        """What a name of a module means, with all that this uses."""
        substitute = SUBSTITUTES.get((module, name))
        if substitute is not None:
            if substitute.startswith("from "):
                self.imports[substitute] = None
            elif substitute and (module, name) not in self._seen:
                self._seen.add((module, name))
                self._texts.append((module, 0, substitute))
            return
        root = module.partition(".")[0]
        binding = _bindings(module).get(name) if root == "hpo" or _is_users(module) else None
        if binding is None:
            if root == "builtins":
                return
            raise UsageError(f"{part} uses {name!r} of {module}, whose source is not found; define it in a file")
        if root == "hpo" and not f"{module}.".startswith(tuple(PLAIN_MODULES)) and not binding.module:
            raise UsageError(f"{part} uses {name} of hpo, which has no plain version; write that part without hpo")
        if binding.module:
            self._add_import(part, module, binding, name)
            return
        for statement in binding.statements:
            if (module, statement.lineno) in self._seen:
                continue
            self._seen.add((module, statement.lineno))
            self._add_globals(part, module, [statement], _bound(statement))
            self._bind(part, _bound(statement), module)
            self._texts.append((module, statement.lineno, _without_package(_text(module, statement), module)))

    def _add_import(self, part: str, user: str, binding: _Binding, name: str) -> None:
        module, original = binding.module, binding.name
        if module == "hpo" and original in PUBLIC_NAMES:
            module = PUBLIC_NAMES[original]
        own = module.partition(".")[0] == "hpo" or _is_users(module)
        if own and original and not isinstance(getattr(sys.modules.get(module), original, None), ModuleType):
            self._use(user, module)
            self._add_name(part, module, original)
            if original != name:
                self._bind(part, [name], module)
                self._texts.append((user, 0, f"{name} = {original}"))
        elif original:
            self.imports[f"from {module} import {original}" + (f" as {name}" if name != original else "")] = None
        else:
            self.imports[f"import {module}" + (f" as {name}" if name != module.partition(".")[0] else "")] = None

    def _add_globals(self, part: str, module: str, statements: list[ast.stmt], own: list[str]) -> None:
        code = compile(ast.Module(statements, []), module, "exec", dont_inherit=True)
        known = _bindings(module)
        if FUTURE in _source(module):
            self.imports[FUTURE] = None
        for name in dict.fromkeys(_globals(code)):
            if name in own or (name not in known and hasattr(builtins, name)):
                continue
            if _is_package(known.get(name)):
                for attribute in _attributes(statements, name):
                    self._use(module, PUBLIC_NAMES.get(attribute, "hpo"))
                    self._add_name(part, PUBLIC_NAMES.get(attribute, "hpo"), attribute)
            else:
                self._add_name(part, module, name)

    def _use(self, user: str, module: str) -> None:
        if user != module:
            self._uses.setdefault(user, set()).add(module)

    def _bind(self, part: str, names: list[str], module: str) -> None:
        for name in names:
            if (other := self._names.setdefault(name, module)) != module:
                raise UsageError(
                    f"{part} defines {name!r}, and so does {other or 'the script itself'}; give it another name"
                )


def _is_package(binding: _Binding | None) -> bool:
    """Whether a name is hpo itself, as after `import hpo`."""
    return binding is not None and binding.module.partition(".")[0] == "hpo" and not binding.name


def _attributes(statements: list[ast.stmt], name: str) -> list[str]:
    """What the statements take from a module of this name."""
    nodes = [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Attribute)]
    return sorted({node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == name})


def _without_package(text: str, module: str) -> str:
    """A text with the names themselves instead of hpo.NAME."""
    for name, binding in _bindings(module).items():
        text = re.sub(rf"\b{name}\.(?=\w)", "", text) if _is_package(binding) else text
    return text


def _is_users(module: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and is_user_code(loaded)


def _source(module: str) -> str:
    return inspect.getsource(sys.modules[module])


def _bindings(module: str) -> Mapping[str, _Binding]:
    """The names of a module and what binds them, its imports included."""
    loaded = sys.modules[module]
    file = getattr(loaded, "__file__", None)
    if not file:
        raise UsageError(f"the module {module} has no file; write its code into one")
    bindings: dict[str, _Binding] = {}
    for statement in parse(_source(module).encode()).body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                bindings[alias.asname or target] = _Binding([], alias.name)
        elif isinstance(statement, ast.ImportFrom):
            package = loaded.__spec__.parent if loaded.__spec__ and statement.level else ""
            base = ".".join(str(package).split(".")[: len(str(package).split(".")) - statement.level + 1])
            source = ".".join(filter(None, [base if statement.level else "", statement.module or ""]))
            for alias in statement.names:
                bindings[alias.asname or alias.name] = _Binding([], source, alias.name)
        else:
            for name in _bound(statement):
                before = bindings.get(name, _Binding([]))
                bindings[name] = _Binding([*before.statements, statement])
    return bindings


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
        parts = [part for _, part in ast.iter_fields(statement) if isinstance(part, list)]
        nested = [each for part in parts for each in part if isinstance(each, ast.stmt)]
        return [name for each in nested for name in _bound(each)]
    return []


def _globals(code: CodeType) -> Iterator[str]:
    """The names that code takes from its module, in nested functions as well."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _text(module: str, statement: ast.stmt) -> str:
    """The lines of a statement with its decorators."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(each.lineno for each in decorators)])
    return "\n".join(_source(module).splitlines()[first - 1 : statement.end_lineno])
