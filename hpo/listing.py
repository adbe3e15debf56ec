"""What there is: the catalogue of built-in parts and studies, and how far studies in a database are."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from hpo import loading
from hpo.errors import UsageError
from hpo.space import Range
from hpo.spelling import did_you_mean


def catalogue() -> dict[str, Any]:
    """Studies here and the built-in parts, each with a line about it."""
    from hpo.data import DATASETS
    from hpo.models import MODELS
    from hpo.optimizers import OPTIMIZERS
    from hpo.regularizers import REGULARIZERS
    from hpo.schedules import SCHEDULES

    parts: dict[str, Any] = {
        "studies": {path.stem: _first_line(path.read_text(encoding="utf-8")) for path in loading.study_files()}
    }
    for kind, registry in (("regularizers", REGULARIZERS), ("optimizers", OPTIMIZERS)):
        parts[kind] = {
            name: {key: _default(value) for key, value in part.hyperparameters.items()}
            for name, part in registry.items()
        }
    for kind, classes in (("models", MODELS), ("data", DATASETS), ("schedules", SCHEDULES)):
        parts[kind] = {name: (part.__doc__ or "").splitlines()[0] for name, part in classes.items()}
    return parts


def catalogue_text(found: Mapping[str, Any]) -> str:
    """The catalogue for a terminal."""
    lines = []
    for kind, parts in found.items():
        lines.append(kind)
        width = max((len(name) for name in parts), default=0)
        for name, about in parts.items():
            text = ", ".join(f"{key} {value}" for key, value in about.items()) if isinstance(about, dict) else about
            lines.append(f"  {name:<{width}}  {text}".rstrip())
    return "\n".join(lines)


def status(url: str, study: str | None) -> dict[str, Any]:
    """Study -> {"planned", "configurations" (see `Ledger.counts`), "state"}.

    Raises:
        UsageError: there is no such study.
    """
    from hpo.database import connect
    from hpo.ledger import load_study, names

    engine = connect(url)
    found = {}
    for name in [study] if study else names(engine):
        ledger = load_study(engine, name)
        row = ledger.export()["study"]
        planned = {key: row[key] for key in ("trials", "seeds", "repeats")}
        counts = ledger.counts()
        for configuration, error in _last_errors(ledger.export()).items():
            counts[configuration]["last_error"] = error
        found[name] = {"state": ledger.state(), "planned": planned, "configurations": counts}
    return found


def _last_errors(export: Mapping[str, Any]) -> dict[str, str]:
    """Configuration -> what its newest failed attempt said, where that was an exception."""
    from hpo.messages import own_line

    names = {slot["id"]: slot["configuration"] for slot in export["slots"]}
    return {
        names[failure["slot_id"]]: own_line(failure["message"])
        for failure in export["failures"]
        if failure["cause"] == "exception" and failure["slot_id"] in names
    }


def status_text(found: Mapping[str, Any]) -> str:
    """The status for a terminal: a table a study."""
    if not found:
        return "no studies yet; `hpo run STUDY` begins one"
    blocks = []
    for name, study in found.items():
        words = {"done": "finished", "work": "has open work", "wait": "workers hold the rest"}
        rows = [("configuration", "trials", "reruns", "in training", "diverged", "failed", "best score", "failures")]
        for configuration, entry in study["configurations"].items():
            causes = ", ".join(f"{count} {cause}" for cause, count in entry["failures"].items())
            best = "–" if entry["best"] is None else f"{entry['best']:.4f}"
            rows.append(
                (
                    configuration,
                    f"{entry['trials_done']}/{entry['trials_total']}",
                    f"{entry['reruns_done']}/{entry['reruns_total']}",
                    str(entry["leased"]),
                    str(entry["diverged"]),
                    str(entry["failed"]),
                    best,
                    causes or "–",
                )
            )
        errors = [
            f"  {configuration}: {entry['last_error']}"
            for configuration, entry in study["configurations"].items()
            if "last_error" in entry
        ]
        blocks.append("\n".join([f"{name}: {words[study['state']]}", _table(rows), *errors]))
    return "\n\n".join(blocks)


def parse_settings(pairs: Sequence[str], configuration: Any) -> dict[str, float]:
    """`name=value` pairs as numbers.

    Raises:
        UsageError: a pair is malformed or names no hyperparameter of the configuration.
    """
    from hpo.definition import full_space

    known = full_space(configuration)
    setting = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if name not in known or not sign:
            raise UsageError(
                f"{pair!r} is no setting of {configuration.name!r}; give NAME=NUMBER with one of {', '.join(known)}"
                f"{did_you_mean(name, known) if name not in known else ''}"
            )
        try:
            setting[name] = float(value)
        except ValueError:
            raise UsageError(f"{pair!r}: {value!r} is not a number; write for example {name}=0.1") from None
    return setting


def _default(value: Range | float) -> str:
    if isinstance(value, Range):
        return f"{value.low:g}–{value.high:g}" + (" (log)" if value.log else "")
    return f"{value:g}"


def _first_line(source: str) -> str:
    """The first line of a file's docstring, read without running the file."""
    try:
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    except SyntaxError as error:
        return f"(does not parse: line {error.lineno})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
