"""Digests of Python code by its syntax tree: comments, layout and docstrings do not change them."""

import ast
import functools
import hashlib
import warnings
from collections.abc import Iterable
from types import CodeType
from typing import Any

# Fields of a study that may change at any time: the author's texts and the planned numbers.
FREE_FIELDS = {"title", "hypothesis", "name", "trials", "seeds", "tuning_runs"}
IMPORTS = "imports"
_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}
_BLOCKS = {"body", "orelse", "finalbody"}
# Names whose values differ between processes or machines.
_PROCESS_DEPENDENT = {
    *("time", "time_ns", "perf_counter", "monotonic", "datetime", "uuid", "getpid", "gethostname", "uname", "socket"),
    *("now", "utcnow", "today", "uuid1", "uuid4", "mkdtemp", "mkstemp", "gettempdir", "TemporaryDirectory"),
    *("platform", "tempfile", "getpass", "getLogger", "cpu_count", "get_num_threads", "urandom", "secrets"),
}


@functools.lru_cache(maxsize=512)
def parse(source: bytes) -> ast.Module:
    """A module's syntax tree.

    Raises:
        SyntaxError, ValueError: the source is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings: Python warned when it compiled them
        return ast.parse(source)


def digest(*texts: str) -> str:
    """16 hexadecimal digits of the SHA-256 of the texts in this order."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def canonical(node: Any, in_function: bool = False) -> str:
    """A syntax tree as text that is the same for every version of Python, without docstrings and `FREE_FIELDS`.

    Args:
        in_function: whether the node stands inside a function, where `replace` may change something else than a study.
    """
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, list):
        return f"[{','.join(canonical(entry, in_function) for entry in node)}]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{hex(node.value) if type(node.value) is int else ascii(node.value)}"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "keywords" and changes_study(node, in_function):
            value = [keyword for keyword in value if keyword.arg not in FREE_FIELDS]
        elif name in _BLOCKS and isinstance(value, list):
            value = without_docstrings(value)
        elif name == "values" and isinstance(node, ast.JoinedStr):  # versions differ in the empty parts of an f-string
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        if name not in _IGNORED_FIELDS and value is not None and value != []:
            fields.append(f"{name}={canonical(value, in_function)}")
    return f"{type(node).__name__}({','.join(fields)})"


def changes_study(node: ast.AST, in_function: bool = False) -> bool:
    """Whether a node calls `Study` or, as `dataclasses.replace` does outside functions, changes one."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name == "Study" or (name == "replace" and not in_function)


def without_docstrings(statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    """Statements without those that do nothing: docstrings and other constants."""
    return [s for s in statements if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """A module's statements; an import of several names is split into one statement for each."""
    statements: list[ast.stmt] = []
    for statement in without_docstrings(tree.body):
        if isinstance(statement, ast.Import):
            statements += [ast.Import([alias]) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            statements += [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
        else:
            statements.append(statement)
    return statements


def module_digests(tree: ast.Module) -> dict[str, str]:
    """A digest of every top-level statement, by the names that it defines; all that define none share one entry."""
    statements = top_level(tree)
    return digests_by_name((name, canonical(entry)) for entry in statements for name in defined_names(entry))


def digests_by_name(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The digests of (name, code) by name; the order of imports does not count."""
    codes: dict[str, list[str]] = {}
    for name, code in entries:
        codes.setdefault(name, []).append(code)
    return {name: digest(*(sorted(texts) if name == IMPORTS else texts)) for name, texts in codes.items()}


def defined_names(statement: ast.stmt) -> list[str]:
    """The names that a statement defines, or a label where it defines none."""
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
    """The digest of the lambda with this code; of all lambdas on its line where Python keeps no columns."""
    spans = [((line, column), (last, end)) for line, last, column, end in code.co_positions() if end]
    candidates: list[tuple[tuple[int, int], str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            start, stop = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
            if all(start <= first and last <= stop for first, last in spans):
                candidates.append((start, canonical(node)))
    innermost = max((start for start, _ in candidates), default=None) if spans else None
    return digest(*(text for start, text in candidates if innermost in (None, start)))


def identifiers(node: ast.AST) -> set[str]:
    """The names of variables and attributes in a piece of code."""
    nodes = list(ast.walk(node))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def process_dependent_names(tree: ast.Module) -> set[str]:
    """The names of a module's variables and of attributes that are computed from the time, the machine or the process.

    Only their code counts, since their values differ between workers.
    """
    names: set[str] = set()
    for statement in top_level(tree):
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if value is not None and identifiers(value) & (_PROCESS_DEPENDENT | names):
            names.update(defined_names(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and identifiers(node.value) & _PROCESS_DEPENDENT:
            names |= {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
    return names
