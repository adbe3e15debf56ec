"""Which code of a study file counts beside its definition: all but what only tells hpo what the study is."""

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from hpo.study.syntax import FREE, by_name, canonical, changes_study, identifiers, names_of, top_level

_ALL_NAMES = {"globals", "locals", "vars", "exec", "eval"}  # with these, any variable may be used anywhere


def study_digests(tree: ast.Module, space: Mapping[str, Any], variant: str = "") -> dict[str, str]:
    """As `syntax.module_digests`, without what the definition and the values of the study's parts say already.

    That is STUDY, STUDIES and the variables that no function, class or other statement uses; there only functions
    count, and calls of what is neither hpo's nor Python's own.

    Args:
        space: the module's variables. variant: the one of STUDIES that the study is.
    """
    statements = top_level(tree)
    mentioned = set().union(*map(_used, statements))
    telling = [s for s in statements if _only_tells(s, space) and not _is_for_its_effects(s, mentioned)]
    while True:
        used = {name for statement in statements if statement not in telling for name in _used(statement)}
        kept = [statement for statement in telling if not used & (_bound(statement) | _ALL_NAMES)]
        if len(kept) == len(telling):
            break
        telling = kept
    entries = []
    for statement in statements:
        codes = _code_inside(_own(statement, variant), space) if statement in telling else [canonical(statement)]
        entries += [(name, code) for code in codes for name in names_of(statement)]
    return by_name(entries)


def _only_tells(statement: ast.stmt, space: Mapping[str, Any]) -> bool:
    """Whether all that a statement does is give values to variables, or call hpo."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return statement.names[0].name != "*"
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return not any(isinstance(node, ast.Attribute) for target in targets for node in ast.walk(target))
    if isinstance(statement, ast.For | ast.If):
        return all(_only_tells(inner, space) for inner in [*statement.body, *statement.orelse])
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        return _resolve(called, space) is print or _is_known(called, space, (dict, list))
    return False


def _is_for_its_effects(statement: ast.stmt, mentioned: set[str]) -> bool:
    """Whether a statement imports an installed package that the module never mentions."""
    if not isinstance(statement, ast.Import | ast.ImportFrom) or mentioned & _bound(statement):
        return False
    package = getattr(statement, "module", None) or statement.names[0].name
    return package.partition(".")[0] not in {*sys.stdlib_module_names, "hpo", "torch"}


def _used(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(statement: ast.stmt) -> set[str]:
    """The variables that a statement gives a value or, by index or method, an entry."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        alias = statement.names[0]
        return {alias.asname or alias.name.partition(".")[0]}
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        return identifiers(called.value) if isinstance(called, ast.Attribute) else set()
    if isinstance(statement, ast.For | ast.If):
        target = identifiers(statement.target) if isinstance(statement, ast.For) else set()
        return target.union(*map(_bound, [*statement.body, *statement.orelse]))
    return set(names_of(statement))


def _own(statement: ast.stmt, variant: str) -> ast.AST:
    """Of a dict of variants the study's own."""
    value = getattr(statement, "value", None)
    if variant and isinstance(value, ast.Dict) and "STUDIES" in names_of(statement):
        for key, study in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == variant:
                return study
    return statement


def _code_inside(node: ast.AST, space: Mapping[str, Any]) -> Iterator[str]:
    """The functions in a statement, and the calls of what is neither hpo's nor Python's."""
    if isinstance(node, ast.Lambda):
        yield canonical(node)
        return
    if isinstance(node, ast.Call):
        if _resolve(node.func, space) is print:
            return
        python = getattr(_resolve(node.func, space), "__module__", None) == "builtins"
        if not (python or _is_known(node.func, space, (dict, list, tuple, str, set))):
            yield canonical(node)
            return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.keyword) and child.arg in FREE and changes_study(node)):
            yield from _code_inside(child, space)


def _resolve(node: ast.expr, space: Mapping[str, Any]) -> Any:
    """The object that a dotted name means, as far as it leads through modules; None where that is not known."""
    if isinstance(node, ast.Name):
        return space.get(node.id, getattr(builtins, node.id, None))
    if isinstance(node, ast.Attribute):
        holder = _resolve(node.value, space)
        return getattr(holder, node.attr, None) if isinstance(holder, ModuleType) else None
    return None


def _is_known(called: ast.expr, space: Mapping[str, Any], kinds: tuple[type, ...]) -> bool:
    """Whether what is called is hpo's, or a method of a variable that is such a plain value: STUDIES.update(...)."""
    owner = called.value if isinstance(called, ast.Attribute) else None
    if isinstance(owner, ast.Name) and type(space.get(owner.id)) in kinds:
        return True
    thing = _resolve(called, space)
    functions = (type, FunctionType, BuiltinFunctionType)
    return isinstance(thing, functions) and str(thing.__module__).partition(".")[0] == "hpo"
