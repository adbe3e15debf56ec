"""Digests of Python code by syntax tree: comments, layout and docstrings do not count."""

import ast
import functools
import hashlib
import warnings
from collections.abc import Iterable
from types import CodeType
from typing import Any

# What a study may change at any time: its author's words and the planned numbers.
FREE = {"title", "hypothesis", "name", "trials", "seeds", "tuning_runs"}
IMPORTS = "imports"
_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_BLOCKS = {"body", "orelse", "finalbody"}
# What gives another value in every process or on every machine.
_OF_THE_PROCESS = {
    *("time", "time_ns", "perf_counter", "monotonic", "datetime", "uuid", "getpid", "gethostname", "uname", "socket"),
    *("now", "utcnow", "today", "uuid1", "uuid4", "mkdtemp", "mkstemp", "gettempdir", "TemporaryDirectory"),
    *("platform", "tempfile", "getpass", "getLogger", "cpu_count", "get_num_threads", "urandom", "secrets"),
}


@functools.lru_cache(maxsize=512)
def parse(source: bytes) -> ast.Module:
    """A module's syntax tree.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings: Python has said it when it compiled them
        return ast.parse(source)


def digest(*texts: str) -> str:
    """16 hexadecimal digits of the SHA-256 of texts in this order."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def canonical(node: Any, in_function: bool = False) -> str:
    """A syntax tree in words that are the same for every version of Python.

    Docstrings and what a study may change at any time are left out.

    Args:
        in_function: whether the node stands in a function; `replace` there may change what is no study.
    """
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, list):
        return f"[{','.join(canonical(entry, in_function) for entry in node)}]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{hex(node.value) if type(node.value) is int else ascii(node.value)}"
    if not isinstance(node, ast.AST):
        return ascii(node)
    words = []
    for name, value in ast.iter_fields(node):
        if name == "keywords" and changes_study(node, in_function):
            value = [keyword for keyword in value if keyword.arg not in FREE]
        elif name in _BLOCKS and isinstance(value, list):
            value = working(value)
        elif name == "values" and isinstance(node, ast.JoinedStr):  # versions differ in the empty parts of an f-string
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        if name not in _LEFT_OUT and value is not None and value != []:
            words.append(f"{name}={canonical(value, in_function)}")
    return f"{type(node).__name__}({','.join(words)})"


def changes_study(node: ast.AST, in_function: bool = False) -> bool:
    """Whether a node calls `Study` or, as `dataclasses.replace` does outside functions, changes one."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name == "Study" or (name == "replace" and not in_function)


def working(statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    """Statements without those that do nothing: docstrings and other constants."""
    return [s for s in statements if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """A module's statements; an import of several names is several."""
    found: list[ast.stmt] = []
    for statement in working(tree.body):
        if isinstance(statement, ast.Import):
            found += [ast.Import([alias]) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            found += [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
        else:
            found.append(statement)
    return found


def module_digests(tree: ast.Module) -> dict[str, str]:
    """A digest of every top-level statement, by the names that it defines; statements without one are one entry."""
    return by_name((name, canonical(statement)) for statement in top_level(tree) for name in names_of(statement))


def by_name(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The digests of (name, code) by name; the order of imports does not count."""
    texts: dict[str, list[str]] = {}
    for name, text in entries:
        texts.setdefault(name, []).append(text)
    return {name: digest(*(sorted(own) if name == IMPORTS else own)) for name, own in texts.items()}


def names_of(statement: ast.stmt) -> list[str]:
    """What a statement is called: the names that it defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [IMPORTS]
    targets: list[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return sorted(names) or ["top-level statements"]


def lambda_digest(tree: ast.Module, code: CodeType) -> str:
    """A digest of the lambda whose code it is; of all on its line where Python keeps no columns."""
    spans = [((line, column), (last, end)) for line, last, column, end in code.co_positions() if end]
    found: list[tuple[tuple[int, int], str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            start, stop = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
            if all(start <= first and last <= stop for first, last in spans):
                found.append((start, canonical(node)))
    innermost = max((start for start, _ in found), default=None) if spans else None
    return digest(*(text for start, text in found if innermost in (None, start)))


def identifiers(node: ast.AST) -> set[str]:
    """The names of variables and attributes in a piece of code."""
    nodes = list(ast.walk(node))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def of_the_process(tree: ast.Module) -> set[str]:
    """Names of a module's variables and of attributes that are made from the time, the machine or the process.

    They count by their code alone: their values are others for every worker.
    """
    found: set[str] = set()
    for statement in top_level(tree):
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if value is not None and identifiers(value) & (_OF_THE_PROCESS | found):
            found.update(names_of(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and identifiers(node.value) & _OF_THE_PROCESS:
            found |= {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
    return found
