"""Which configurations alone can use each part of the user's code: after its correction, the results of others hold."""

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from hpo.study.fingerprint import MAX_VALUES, label_of_module, modules_of, parts, reachable_objects, values_of
from hpo.study.statement_users import SHARED, import_label, imported_names, statement_users
from hpo.study.study import Study
from hpo.study.syntax import canonical, digest, top_level
from hpo.study.user_modules import UserModule
from hpo.user_code.object_parts import PLAIN

_KNOWN = {*sys.stdlib_module_names, "torch", "numpy", "hpo"}  # their import changes nothing else


def code_users(study: Study) -> dict[str, Any]:
    """Who can use the user's code: JSON values.

    Returns:
        "users": names of entries of the study's fingerprint → the configurations that alone can use what they stand
        for. An entry is missing where the data, network, loss or another part of all configurations may use it, where
        the import of a module may, and where its users are not known, as in code that finds variables by computed
        names. "imports": the digests of the single imports, which share one entry of the fingerprint; their names are
        among the users as well.
    """
    roots = parts(study)
    owners = {root: _owners(root, study) for root in roots}
    users = [SHARED, *(configuration.name for configuration in study.configurations)]
    reached = {
        user: reachable_objects({root: part for root, part in roots.items() if user in owners[root]}) for user in users
    }
    everything = reachable_objects(roots)
    if len(everything) == MAX_VALUES:
        return {"users": {}, "imports": {}}
    modules = modules_of(study, everything)
    label = functools.partial(label_of_module, study.defined_in.partition(":")[0])
    of_statements = statement_users(modules, {user: [value for _, value in found] for user, found in reached.items()})
    entries = {f"{label(module)}: {name}": names for (module, name), names in of_statements.items()}
    holders = _holders(reached)
    of_values: dict[str, set[str]] = defaultdict(set)
    for root, variable, _, value in values_of(everything, modules, label):
        of_values[variable] |= owners[root] | (set() if _is_copied(value) else holders[id(value)])
    for variable, names in of_values.items():
        entries[variable] = entries.get(variable, set()) | names
    imports, unknown = _imports(modules, label)
    if not of_statements:
        return {"users": {}, "imports": imports}
    decided = {entry: sorted(names) for entry, names in sorted(entries.items()) if names and SHARED not in names}
    return {"users": {name: each for name, each in decided.items() if name not in unknown}, "imports": imports}


def _imports(modules: Mapping[str, UserModule], label: Callable[[str], str]) -> tuple[dict[str, str], set[str]]:
    """The digest of each import by name, and the names of those of packages whose import may have any effect."""
    digests: dict[str, str] = {}
    unknown: set[str] = set()
    for module in modules.values():
        for statement in top_level(module.tree) if module.tree else ():
            if isinstance(statement, ast.Import | ast.ImportFrom):
                [name], alias = imported_names(statement), statement.names[0]
                entry = f"{label(module.name)}: {import_label(name)}"
                digests[entry] = digest(digests.get(entry, ""), canonical(statement))
                package = (getattr(statement, "module", None) or alias.name).partition(".")[0]
                if package not in _KNOWN and not getattr(statement, "level", 0) and package not in modules:
                    unknown.add(entry)
    return digests, unknown


def _owners(root: str, study: Study) -> set[str]:
    """The configurations that a part of the study with this name belongs to."""
    kinds = ("regularizer of ", "optimizer of ", "average of ")
    return {
        each.name
        for each in study.configurations
        if any(root == f"{kind}{each.name}" or root.startswith(f"{kind}{each.name}.") for kind in kinds)
        or any(root == f"schedule of {name} of {each.name}" for name in each.schedules)
        or any(root.startswith(f"schedule of {name} of {each.name}.") for name in each.schedules)
    } or {SHARED}


def _holders(reached: Mapping[str, list[tuple[str, Any]]]) -> dict[int, set[str]]:
    """The users that reach each object, by its id."""
    holders: dict[int, set[str]] = defaultdict(set)
    for user, found in reached.items():
        for _, value in found:
            if not _is_copied(value):
                holders[id(value)].add(user)
    return holders


def _is_copied(value: Any) -> bool:
    """Whether equal values may be one object, so that its identity says nothing; they are found at every path."""
    return type(value) in PLAIN or type(value) in (tuple, frozenset)
