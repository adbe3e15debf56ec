"""Whether the import of a module does more at a statement than to define names, so that it may change other code."""

import ast
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

from hpo.study.study_syntax import resolve
from hpo.user_code.ownership import is_user_code

_BUILTINS = {"dict", "list", "tuple", "set", "frozenset", "range", "float", "int", "str", "bool", "len", "zip"}
_LIBRARY = {("functools", "partial"), ("collections", "OrderedDict")}
_DECORATORS = {"torch", "functools", "dataclasses", "builtins", "typing", "abc", "contextlib", "hpo"}


def may_have_effects(statement: ast.stmt, variables: Mapping[str, Any]) -> bool:
    """Whether a statement, when it is executed at the import, may run user code or change what it does not define.

    Definitions, imports, assignments to variables and calls of hpo do not; neither do the decorators of PyTorch and of
    Python. In doubt it may.
    """
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return False
    if isinstance(statement, ast.FunctionDef):
        arguments = [*statement.args.defaults, *filter(None, statement.args.kw_defaults), *_annotations(statement.args)]
        arguments += [statement.returns] if statement.returns else []
        return _any_effect(arguments, variables) or not _are_known_decorators(statement.decorator_list, variables)
    if isinstance(statement, ast.ClassDef):
        return bool(statement.keywords) or (
            not all(_is_plain_base(resolve(base, variables)) for base in statement.bases)
            or not _are_known_decorators(statement.decorator_list, variables)
            or any(may_have_effects(inner, variables) for inner in statement.body)
        )
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        plain = all(isinstance(node, ast.Name | ast.Tuple) for target in targets for node in _loads(target))
        return not plain or _any_effect([statement.value] if statement.value else [], variables)
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _annotations(arguments: ast.arguments) -> list[ast.expr]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [each.annotation for each in every if each is not None and each.annotation is not None]


def _loads(target: ast.expr) -> Iterator[ast.AST]:
    return (node for node in ast.walk(target) if not isinstance(node, ast.expr_context))


def _any_effect(expressions: list[ast.expr], variables: Mapping[str, Any]) -> bool:
    return any(_has_effect(expression, variables) for expression in expressions)


def _has_effect(node: ast.AST, variables: Mapping[str, Any]) -> bool:
    """Whether an expression calls anything but hpo and a few types of Python; bodies of lambdas do not run."""
    if isinstance(node, ast.Lambda):
        return _any_effect([*node.args.defaults, *filter(None, node.args.kw_defaults)], variables)
    if isinstance(node, ast.Call) and not _is_known(resolve(node.func, variables)):
        return True
    if isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
        return True
    return any(_has_effect(child, variables) for child in ast.iter_child_nodes(node))


def _is_known(function: Any) -> bool:
    name, module = getattr(function, "__name__", ""), str(getattr(function, "__module__", ""))
    if not isinstance(function, type | FunctionType | BuiltinFunctionType):
        return False
    known = (module == "builtins" and name in _BUILTINS) or (module, name) in _LIBRARY
    return known or module.partition(".")[0] == "hpo"


def _are_known_decorators(decorators: list[ast.expr], variables: Mapping[str, Any]) -> bool:
    """Whether all decorators are functions of Python or PyTorch, called with constants or not at all."""
    for decorator in decorators:
        if isinstance(decorator, ast.Attribute) and decorator.attr in ("setter", "getter", "deleter"):
            continue  # of a property
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(decorator, ast.Call) and _any_effect(
            [*decorator.args, *(keyword.value for keyword in decorator.keywords)], variables
        ):
            return False
        function = resolve(called, variables)
        if function is None or str(getattr(function, "__module__", "")).partition(".")[0] not in _DECORATORS:
            return False
    return True


def _is_plain_base(base: Any) -> bool:
    """Whether the definition of a subclass runs no user code."""
    if not isinstance(base, type):
        return False
    hooks = [vars(each)["__init_subclass__"] for each in base.__mro__ if "__init_subclass__" in vars(each)]
    return not is_user_code(type(base)) and not any(is_user_code(getattr(hook, "__func__", hook)) for hook in hooks)
