"""The regularizer as Python: its own source, and the methods of the objective that it uses."""

import ast
import inspect
import re
from collections.abc import Mapping
from typing import Any

from hpo.errors import UsageError
from hpo.gradients import objective as full
from hpo.optim.regularizer import Regularizer, stateless
from hpo.snippet import objective as plain
from hpo.snippet.extraction import Extraction
from hpo.snippet.limits import INSTEAD

ALWAYS = ("__init__",)


def add_regularizer(regularizer: Regularizer, code: Extraction) -> list[str]:
    """Adds the source of the regularizer's functions; returns the names under which the loop calls them."""
    part = f"regularizer {regularizer.name!r}"
    names = [f"form_gradient = {code.call(part, regularizer.grads)}"]
    if regularizer.init is not stateless:
        names.append(f"initial_state = {code.call(part, regularizer.init)}")
    return names


def objective_text(regularizer: Regularizer, texts: list[str]) -> str:
    """The class `Objective` with the methods that a regularizer needs, whose source is `texts`.

    Raises:
        UsageError: it needs a method that only hpo has.
    """
    used = {attribute for text in texts for attribute in re.findall(r"\w\.(\w+)", text)}
    source = inspect.getsource(plain.Objective)
    lines = source.splitlines()
    [tree] = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    methods: Mapping[str, Any] = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    attributes = {"labels", "step", "epoch", "first", "views"}
    public = {each for each in dir(full.Objective) if not each.startswith("_")} | {"random"}
    argument = next(iter(inspect.signature(regularizer.grads).parameters))
    of_objective = {attribute for text in texts for attribute in re.findall(rf"\b{argument}\.(\w+)", text)}
    if missing := sorted((of_objective & public) - methods.keys() - attributes):
        raise UsageError(
            f"regularizer {regularizer.name!r} uses objective.{missing[0]}, which a script does not have; {INSTEAD}"
        )
    needed, waiting = set(ALWAYS), used & methods.keys()
    while waiting:
        method = waiting.pop()
        needed.add(method)
        body = {node.attr for node in ast.walk(methods[method]) if isinstance(node, ast.Attribute)}
        waiting |= (body & methods.keys()) - needed
    parts = [lines[: methods["__init__"].lineno - 1]]
    parts += [[*lines[node.lineno - 1 : node.end_lineno], ""] for each, node in methods.items() if each in needed]
    return "\n".join(line for part in parts for line in part).rstrip()
