"""The code of a study file that counts in addition to its definition: all but the declarations of the study."""

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from hpo.study.syntax import (
    FREE_FIELDS,
    canonical,
    changes_study,
    defined_names,
    digests_by_name,
    identifiers,
    top_level,
)

_ANY_VARIABLE = {"globals", "locals", "vars", "exec", "eval"}  # code with these may use every variable


def study_digests(tree: ast.Module, variables: Mapping[str, Any], variant: str = "") -> dict[str, str]:
    """`syntax.module_digests` without what the definition and the values of the study's parts contain already.

    That is STUDY, STUDIES and the variables that no function, class or other statement uses. In these declarations
    only functions count, and calls of what belongs neither to hpo nor to Python.

    Args:
        variables: the module's variables. variant: the key in STUDIES of the study.
    """
    statements = top_level(tree)
    used_anywhere = set().union(*map(_used, statements))
    declarations = [s for s in statements if _may_declare(s, variables) and not _is_import_for_effect(s, used_anywhere)]
    while True:  # a declaration that other code uses is code itself, and may use further declarations
        used = {name for statement in statements if statement not in declarations for name in _used(statement)}
        kept = [statement for statement in declarations if not used & (_bound(statement) | _ANY_VARIABLE)]
        if len(kept) == len(declarations):
            break
        declarations = kept
    entries = []
    for statement in statements:
        declares = statement in declarations
        codes = _code_inside(_study_of(statement, variant), variables) if declares else [canonical(statement)]
        entries += [(name, code) for code in codes for name in defined_names(statement)]
    return digests_by_name(entries)


def _may_declare(statement: ast.stmt, variables: Mapping[str, Any]) -> bool:
    """Whether a statement does nothing but assign variables or call hpo."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return statement.names[0].name != "*"
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return not any(isinstance(node, ast.Attribute) for target in targets for node in ast.walk(target))
    if isinstance(statement, ast.For | ast.If):
        return all(_may_declare(inner, variables) for inner in [*statement.body, *statement.orelse])
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        return resolve(called, variables) is print or _is_known(called, variables, (dict, list))
    return False


def _is_import_for_effect(statement: ast.stmt, used: set[str]) -> bool:
    """Whether a statement imports an installed package that the module never uses."""
    if not isinstance(statement, ast.Import | ast.ImportFrom) or used & _bound(statement):
        return False
    package = getattr(statement, "module", None) or statement.names[0].name
    return package.partition(".")[0] not in {*sys.stdlib_module_names, "hpo", "torch"}


def _used(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(statement: ast.stmt) -> set[str]:
    """The variables that a statement assigns or, by index or method, changes."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        alias = statement.names[0]
        return {alias.asname or alias.name.partition(".")[0]}
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        return identifiers(called.value) if isinstance(called, ast.Attribute) else set()
    if isinstance(statement, ast.For | ast.If):
        target = identifiers(statement.target) if isinstance(statement, ast.For) else set()
        return target.union(*map(_bound, [*statement.body, *statement.orelse]))
    return set(defined_names(statement))


def _study_of(statement: ast.stmt, variant: str) -> ast.AST:
    """The value of the variant where the statement is a dict of variants, else the statement."""
    value = getattr(statement, "value", None)
    if variant and isinstance(value, ast.Dict) and "STUDIES" in defined_names(statement):
        for key, study in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == variant:
                return study
    return statement


def _code_inside(node: ast.AST, variables: Mapping[str, Any]) -> Iterator[str]:
    """The functions in a declaration, and the calls of what belongs neither to hpo nor to Python."""
    if isinstance(node, ast.Lambda):
        yield canonical(node)
        return
    if isinstance(node, ast.Call):
        function = resolve(node.func, variables)
        if function is print:
            return
        is_builtin = getattr(function, "__module__", None) == "builtins"
        if not is_builtin and not _is_known(node.func, variables, (dict, list, tuple, str, set)):
            yield canonical(node)
            return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.keyword) and child.arg in FREE_FIELDS and changes_study(node)):
            yield from _code_inside(child, variables)


def resolve(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """The object that a dotted name means, as far as modules contain it; None where that is unknown."""
    if isinstance(node, ast.Name):
        return variables.get(node.id, getattr(builtins, node.id, None))
    if isinstance(node, ast.Attribute):
        module = resolve(node.value, variables)
        return getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
    return None


def _is_known(called: ast.expr, variables: Mapping[str, Any], kinds: tuple[type, ...]) -> bool:
    """Whether the called function is hpo's, or a method of a variable of one of the kinds: STUDIES.update(...)."""
    variable = called.value if isinstance(called, ast.Attribute) else None
    if isinstance(variable, ast.Name) and type(variables.get(variable.id)) in kinds:
        return True
    function = resolve(called, variables)
    if not isinstance(function, type | FunctionType | BuiltinFunctionType):
        return False
    return str(function.__module__).partition(".")[0] == "hpo"
