"""The import statements of a script in the usual order."""

import re
import sys
from collections.abc import Iterable, Mapping

from hpo.errors import UsageError

FUTURE = "from __future__ import annotations"
# Imports that the texts may need, and what shows that they do.
IMPORTS = {
    "import copy": r"\bcopy\.",
    "import math": r"\bmath\.",
    "import torch": r"\btorch\.",
    "import torch.nn.functional as F": r"\bF\.",
    "from torch import nn": r"\bnn\.",
    "from torch import Tensor": r"\bTensor\b",
    "from typing import Any": r"\bAny\b",
    "from typing import Self": r"\bSelf\b",
    "from collections.abc import Callable": r"\bCallable\b",
    "from collections.abc import Sequence": r"\bSequence\b",
}
TYPES = ("collections.abc", "typing", "typing_extensions")  # whose names mean the same


def needed_imports(body: str) -> list[str]:
    """Those of IMPORTS that a script with this body needs."""
    return [line for line, pattern in IMPORTS.items() if re.search(pattern, body)]


def sorted_imports(lines: Iterable[str]) -> str:
    """The statements in groups: of the future, the standard library and other packages; names of a module in one.

    Raises:
        UsageError: two of them import different things under one name.
    """
    plain = {line for line in lines if line.startswith("import ")}
    names: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, name = line.removeprefix("from ").partition(" import ")
            names.setdefault(module, set()).update(name.split(", "))
    _check_names(plain, names)
    statements = [
        *sorted(plain),
        *(f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)),
    ]
    groups: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for statement in statements:
        root = statement.split()[1].partition(".")[0]
        groups[0 if statement == FUTURE else 1 if root in sys.stdlib_module_names else 2].append(statement)
    return "\n\n".join("\n".join(group) for group in groups.values() if group)


def _check_names(plain: Iterable[str], names: Mapping[str, Iterable[str]]) -> None:
    entries = [line.removeprefix("import ") for line in plain if " as " in line or "." not in line]
    entries += [f"{module}.{name}" for module in names if module not in TYPES for name in names[module]]
    sources: dict[str, str] = {}
    for entry in entries:
        source, _, alias = entry.partition(" as ")
        name = alias or source.rpartition(".")[2]
        if (other := sources.setdefault(name, source)) != source:
            raise UsageError(f"a script cannot import both {other} and {source} as {name}; use another name for yours")
