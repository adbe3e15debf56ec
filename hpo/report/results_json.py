"""results.json: every number of a report, in the structure of its named tuples."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.analysis.verdicts import Verdict
from hpo.output import visible


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Writes results.json; its values are those of `as_json`."""
    text = visible(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False), keep="\n")
    (folder / "results.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def as_json(value: Any) -> Any:
    """Named tuples as objects, verdicts with their label, NaN and infinities as null, numpy numbers as plain ones."""
    if isinstance(value, Verdict):
        return as_json({"label": value.label, **value._asdict()})
    if hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
