"""The source of functions and classes with everything that it uses, so that it runs without its module."""

import ast
import builtins
import dataclasses
import functools
import graphlib
import inspect
import json
import math
import sys
import textwrap
from collections.abc import Iterable, Sequence
from types import FunctionType, ModuleType
from typing import Any

from hpo.errors import UsageError
from hpo.snippet.import_lines import FUTURE
from hpo.snippet.limits import INSTEAD
from hpo.snippet.module_source import (
    Binding,
    attributes_of,
    bindings_of,
    bound_names,
    global_names,
    is_package,
    is_users,
    source_of,
    statement_text,
    values_of_dataset,
    with_values,
    without_package,
)
from hpo.snippet.plain_parts import SUBSTITUTES, is_plain
from hpo.study.public_names import PUBLIC_NAMES


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
        self._values: dict[str, dict[str, str]] = {}  # module → a data set's attribute in its source → as Python

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

    def literal(self, part: str, value: Any) -> str:
        """A value as Python."""
        if isinstance(value, slice):
            return f"slice({value.start!r}, {value.stop!r})"
        if type(value) is tuple:
            entries = [self.literal(part, each) for each in value]
            return f"({', '.join(entries)}{',' * (len(entries) == 1)})"
        if isinstance(value, float):  # or one of numpy's, which is shown as np.float64(...)
            number = float.__repr__(value)
            return number if math.isfinite(value) else f'float("{number}")'
        if value is None or isinstance(value, bool | int | str):
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
        texts = [*lines, self._plain_text(source.rstrip(), function.__module__)]
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
        binding = bindings_of(module).get(name) if root == "hpo" or is_users(module) else None
        if binding is None:
            if root == "builtins":
                return
            raise UsageError(f"{part} uses {name!r} of {module}, whose source is not found; define it in a file")
        if root == "hpo" and not is_plain(module) and not binding.module:
            raise UsageError(f"{part} uses {name} of hpo, which has no plain version; write that part without hpo")
        if binding.module:
            self._add_import(part, module, binding, name)
            return
        for statement in binding.statements:
            if (module, statement.lineno) in self._seen:
                continue
            self._seen.add((module, statement.lineno))
            self._add_globals(part, module, [statement], bound_names(statement))
            self._bind(part, bound_names(statement), module)
            self._texts.append((module, statement.lineno, self._plain_text(statement_text(module, statement), module)))

    def _add_import(self, part: str, user: str, binding: Binding, name: str) -> None:
        module, original = binding.module, binding.name
        if module == "hpo" and original in PUBLIC_NAMES:
            module = PUBLIC_NAMES[original]
        own = module.partition(".")[0] == "hpo" or is_users(module)
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
        known = bindings_of(module)
        if FUTURE in source_of(module):
            self.imports[FUTURE] = None
        for name in dict.fromkeys(global_names(code)):
            if name in own or (name not in known and hasattr(builtins, name)):
                continue
            if values := values_of_dataset(module, statements, name):
                written = {each: self.literal(f"{part} with {each}", value) for each, value in values.items()}
                self._values.setdefault(module, {}).update(written)
            elif is_package(known.get(name)):
                for attribute in attributes_of(statements, name):
                    self._use(module, PUBLIC_NAMES.get(attribute, "hpo"))
                    self._add_name(part, PUBLIC_NAMES.get(attribute, "hpo"), attribute)
            else:
                self._add_name(part, module, name)

    def _plain_text(self, text: str, module: str) -> str:
        return without_package(with_values(text, self._values.get(module, {})), module)

    def _use(self, user: str, module: str) -> None:
        if user != module:
            self._uses.setdefault(user, set()).add(module)

    def _bind(self, part: str, names: list[str], module: str) -> None:
        for name in names:
            if (other := self._names.setdefault(name, module) or "the script") != module:
                both = f"{part} defines {name!r}, and so does {other}"
                raise UsageError(f"{both}; rename it for a new study, or {INSTEAD}")


def check_names(part: str, expression: str, variables: Sequence[str]) -> None:
    """Raises UsageError if an expression for a part has a name that is a variable of the script at that place."""
    for node in ast.walk(ast.parse(expression)):
        if isinstance(node, ast.Name) and node.id in variables:
            raise UsageError(
                f"{part} uses the name {node.id!r}, as the script does for a variable; rename it for a new study, or "
                f"{INSTEAD}"
            )
