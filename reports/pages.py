"""Pages whose numbers come from the results.json of kept reports.

A template refers to results as {STUDY:CONFIGURATION:QUANTITY}, {STUDY:CONFIGURATION against OTHER:QUANTITY} or
{STUDY::QUANTITY}: the quantities are those of COMPARISON, CONFIGURATION and STUDY below, and the words of verdicts,
which are refused unless the verdict is that. {table} is the table of all studies. A line about a study that has no
report is left out, and the page ends with the names of these studies.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hpo.analysis.metric import Metric
from hpo.analysis.paired_tests import Interval, Summary
from hpo.report import formatting
from hpo.report.wording import escape

REPORTS = Path(__file__).parent
OLD = "old.txt"  # names reports of code that wrote other files, which nothing here reads
REFERENCE = re.compile(r"\{([\w.-]+):([^:{}]*):([\w ]+)\}")
VERDICTS = ("better", "worse", "equivalent", "no detectable difference", "identical", "no verdict")
VERDICT_WORD = re.compile(rf"\b({'|'.join(VERDICTS)})\b")
PICTURE = re.compile(r"\]\(reference/([\w.-]+)/figures/")
NUMBER = re.compile(r"\d")
ALLOWED = re.compile(r"MNIST-1D|95%|\]\([^)]*\)")  # numbers that no study changes
Results = dict[str, Any]


class WrongTemplateError(Exception):
    """A reference that no result answers, or a number or verdict that is typed instead of referred to."""


def load(reports: Path = REPORTS) -> dict[str, Results]:
    """Name → results.json of every kept report of one study."""
    found = {path.parent.name: json.loads(path.read_text()) for path in reports.glob("reference/*/results.json")}
    return {name: found[name] for name in sorted(found) if name not in old(reports) and "study" in found[name]}


def old(reports: Path = REPORTS) -> list[str]:
    """The names of reports of earlier code."""
    path = reports / "reference" / OLD
    return path.read_text().split() if path.exists() else []


def _metric(results: Results) -> Metric:
    return Metric(**results["metric"])


def _number(value: float | None) -> float:
    """A number of results.json, where null stands for what is not finite."""
    return math.nan if value is None else value


def _summary(results: Results, value: Results) -> str:
    summary = Summary(value["n"], _number(value["mean"]), _number(value["sd"]), Interval(math.nan, math.nan))
    return formatting.spread(summary, _metric(results))


def _difference(results: Results, compared: Results) -> str:
    if not compared["n"]:
        return formatting.NOTHING
    interval = Interval(*map(_number, compared["interval"].values()))
    unit = " points" if results["metric"]["share"] else ""
    return formatting.with_interval(_number(compared["mean"]), interval, _metric(results)) + unit


def _step_ratio(results: Results, name: str) -> float:
    """The time of a step relative to the baseline's, where the most models are trained together."""
    measured = results.get("step_times") or {"rows": []}
    rows = [row for row in measured["rows"] if row["configuration"] == name]
    if not rows:
        raise WrongTemplateError(f"{results['study']['name']}: the time of a step of {name} was not measured")
    return float(max(rows, key=lambda row: row["population"])["ratio"])


# Quantities of a comparison (a rival of results.json), of a configuration, and of a study.
COMPARISON: dict[str, Callable[[Results, Results], str]] = {
    "difference": lambda results, rival: _difference(results, rival["verdict"]["comparison"]),
    "verdict": lambda _, rival: rival["verdict"]["label"],
    "p": lambda _, rival: formatting.p_cell(_number(rival["verdict"]["p_holm"])),
    "cost": lambda results, rival: formatting.three_digits(_step_ratio(results, rival["name"])),
}
CONFIGURATION: dict[str, Callable[[Results, Results], str]] = {
    "mean": lambda results, entry: _summary(results, entry["reruns"]["metric_summary"]),
    "n": lambda _, entry: str(entry["reruns"]["metric_summary"]["n"]),
    "loss": lambda _, entry: formatting.number(entry["reruns"]["train_loss"]["mean"]),
    "fitted": lambda _, entry: formatting.percent(entry["reruns"]["memorised"]["mean"], 1),
    "gradients": lambda _, entry: formatting.number(entry["reruns"]["gradient_evaluations"]["mean"]),
}
STUDY: dict[str, Callable[[Results], str]] = {
    "trials": lambda results: str(results["study"]["trials"]),
    "seeds": lambda results: str(results["study"]["seeds"]),
    "tuning runs": lambda results: str(results["study"]["tuning_runs"]),
    "margin": lambda results: formatting.margin(results["study"]["definition"]["margin"], _metric(results)),
    "baseline": lambda results: escape(results["study"]["definition"]["baseline"]),
    "time": lambda results: formatting.duration(_number(results["compute"]["device_seconds"])),
}


def comparison(results: Results, names: str) -> Results:
    """The planned comparison CONFIGURATION, with the baseline, or CONFIGURATION against OTHER."""
    for rival in (*results["rivals"], *results["planned"]):
        against = rival["against"] == results["study"]["definition"]["baseline"]
        if names in (f"{rival['name']} against {rival['against']}", *([rival["name"]] if against else [])):
            return rival
    raise WrongTemplateError(f"{results['study']['name']} has no planned comparison {names!r}")


def value_of(results: Results, names: str, quantity: str) -> str:
    """The text of a reference. A word of a verdict is refused unless it is that of results.json."""
    if not names and quantity in STUDY:
        return STUDY[quantity](results)
    if quantity in CONFIGURATION:
        entry = next((entry for entry in results["configurations"] if entry["name"] == names), None)
        if entry is not None:
            return CONFIGURATION[quantity](results, entry)
    if quantity in COMPARISON:
        return COMPARISON[quantity](results, comparison(results, names))
    if quantity in VERDICTS:
        label = comparison(results, names)["verdict"]["label"]
        if label == quantity:
            return quantity
        raise WrongTemplateError(f"{results['study']['name']}: the verdict on {names} is {label!r}, not {quantity!r}")
    raise WrongTemplateError(f"{results['study']['name']} has no {quantity!r} of {names!r}")


def fill_line(line: str, reports: dict[str, Results]) -> str | None:
    """A line of a template with its references as links to their reports.

    If one of these does not exist, the row of a table has a dash there, and any other line is left out (None).
    """
    if not line.startswith("|") and any(study not in reports for study, _, _ in REFERENCE.findall(line)):
        return None

    def linked(found: re.Match[str]) -> str:
        study, names, quantity = found.groups()
        if study not in reports:
            return formatting.NOTHING
        return f"[{value_of(reports[study], names, quantity)}](reference/{study}/README.md)"

    return REFERENCE.sub(linked, line)


def fill(template: str, reports: dict[str, Results], earlier: Iterable[str] = ()) -> str:
    """A page. Its template must not type a number or a verdict, except in tables of published results.

    Args:
        earlier: studies whose kept reports are of earlier code, which the page names if it has the table of all.
    """
    lines, missing = [], {*(earlier if "{table}" in template else ())}
    for line in template.splitlines():
        typed = ALLOWED.sub("", REFERENCE.sub("", line))
        if not line.startswith("|") and (wrong := NUMBER.search(typed) or VERDICT_WORD.search(typed)):
            raise WrongTemplateError(f"refer to a result instead of typing {wrong[0]!r} in: {line}")
        pictured = PICTURE.findall(line)
        missing |= {*pictured, *(study for study, _, _ in REFERENCE.findall(line))} - reports.keys()
        filled = study_table(reports) if line == "{table}" else fill_line(line, reports)
        if filled is not None and reports.keys() >= set(pictured):
            lines.append(filled)
    if missing:
        lines += [
            "",
            f"No report by the present code yet, so that nothing is said of them: {', '.join(sorted(missing))}.",
        ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def study_table(reports: dict[str, Results]) -> str:
    """A row for each study, with the difference of every comparison in the column of its verdict."""
    if not reports:
        return ""
    columns = ("better", "worse", "equivalent", "no detectable difference")
    lines = [
        f"| study | metric | baseline | tuning runs × trials, seeds | {' | '.join(columns)} | device time |",
        "|:--" * 9 + "|",
    ]
    for name, results in reports.items():
        cells: dict[str, list[str]] = {column: [] for column in columns}
        for rival in (*results["rivals"], *results["planned"]):
            cells[_column(rival["verdict"])].append(_table_entry(results, rival))
        plan = "{tuning runs} × {trials}{own}, {seeds}".format(
            own=_own_trials(results), **{key: text(results) for key, text in STUDY.items()}
        )
        link, label = f"[{name}](reference/{name}/README.md)", escape(_metric(results).label)
        ends = [link, label, _baseline(results), plan]
        texts = ["; ".join(entries) for entries in cells.values()]
        lines.append(f"| {' | '.join([*ends, *texts, STUDY['time'](results)])} |")
    return "\n".join(lines)


def _baseline(results: Results) -> str:
    """ "AdamW, 48.57% ± 1.88%"."""
    name = results["study"]["definition"]["baseline"]
    return f"{escape(name)}, {value_of(results, name, 'mean')}"


def _own_trials(results: Results) -> str:
    """The configurations with another number of trials than the study's: " (Adam 15)"."""
    entries = results["study"]["definition"]["configurations"]
    own = [f"{escape(entry['name'])} {entry['trials']}" for entry in entries if entry.get("trials")]
    return f" ({', '.join(own)})" if own else ""


def _column(verdict: Results) -> str:
    return verdict["word"] if verdict["word"] in ("better", "worse", "equivalent") else "no detectable difference"


def _table_entry(results: Results, rival: Results) -> str:
    verdict, against = rival["verdict"], rival["against"]
    other = "" if against == results["study"]["definition"]["baseline"] else f" against {escape(against)}"
    note = "" if verdict["label"] == _column(verdict) else f", {verdict['label']}"
    p = formatting.probability(_number(verdict["p_holm"]))
    return f"{escape(rival['name'])}{other} {_difference(results, verdict['comparison'])} (p {p}{note})"


def write(reports: Path = REPORTS) -> None:
    """Writes every page from its template."""
    results, earlier = load(reports), old(reports)
    for template in sorted(reports.glob("*.md.in")):
        template.with_suffix("").write_text(
            fill(template.read_text(encoding="utf-8"), results, earlier), encoding="utf-8"
        )
