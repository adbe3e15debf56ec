"""Every number in the verdicts, the warnings, the analysis and the conclusion is in results.json."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_text import section, text_of
from synthetic_record import synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.metric import ACCURACY, metric_of
from hpo.analysis.results import StudyNumbers
from hpo.report import formatting, make_record, wording
from hpo.report.results_json import as_json
from tests.report.moments import MOMENTS, numbers_of
from tests.report.test_metric import study_of

NUMBER = re.compile(r"(?<![\w.])[−+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?")
# What sentences say of the method and not of the study: the level of intervals, the least number of pairs, the numbers
# in the definitions of a spike and of enough seeds, tuning runs and trials, and the bound below which a p-value is not
# printed.
CONSTANTS = {"95%", "3", "1.25", "5", "10", "20", "0.001"}
ADVICE = re.compile(r"plan \d+|--[a-z-]+ \d+")  # what to do next, in numbers that the study does not have yet
OTHERS = {
    "ten seeds": lambda: synthetic_record(seeds=10),
    "a loss": lambda: make_record(*study_of("loss", "minimize", -0.3)),
    "a custom metric": lambda: make_record(*study_of("rank", "maximize", 0.02)),
    "three tuning runs": lambda: synthetic_record(seeds=6, tuning_runs=3),
}


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        yield from (number for entry in value.values() for number in leaves(entry))
        yield from (float(key) for key in value if re.fullmatch(r"\d+", key))  # seeds and tuning runs
    elif isinstance(value, list):
        yield len(value)
        yield from (number for entry in value for number in leaves(entry))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def shown(results: dict[str, Any]) -> set[str]:
    """Every way in which the reports' formatting functions can print a number of results.json."""
    metric = metric_of(results["study"]["definition"])
    forms: set[str] = set()
    for value in leaves(results):
        forms |= {formatting.percent(value, digits) for digits in (0, 1, 2)}
        forms |= {formatting.number(value), formatting.three_digits(value)}
        forms |= {formatting.bound(value), formatting.p_cell(value)}
        forms |= {formatting.difference(value, unit, signed) for unit in (metric, ACCURACY) for signed in (True, False)}
        forms |= {formatting.margin(value, metric).split()[0]}
        forms |= {f"{value:.2f}", f"{value:,.0f}"} if value == round(value) else {f"{value:.2f}"}
    return {form.lstrip("+") for form in forms}


def claims(text: str, results: dict[str, Any]) -> list[str]:
    """The generated lines of the verdicts, the warnings, the analysis and the conclusion, without names."""
    parts = [text.partition("\n## ")[0], section(text, "Analysis"), section(text, "Conclusion")]
    lines = [line for part in parts for line in part.splitlines() if line.startswith(("- ", "> - ", "| ", "Nothing"))]
    names = {results["study"]["name"], *(entry["name"] for entry in results["configurations"])}
    for name in sorted(names, key=len, reverse=True):
        literally = re.compile(rf"(?<!\w){re.escape(wording.escape(name))}(?!\w)")
        lines = [literally.sub("NAME", line) for line in lines]
    return [ADVICE.sub("ADVICE", line) for line in lines]


def unsupported(lines: list[str], forms: set[str]) -> list[str]:
    numbers = [(number, line) for line in lines for number in NUMBER.findall(line)]
    return [f"{n} in {line!r}" for n, line in numbers if n.lstrip("+").rstrip(",") not in forms | CONSTANTS]


def text_and_results(numbers: StudyNumbers) -> tuple[str, dict[str, Any]]:
    return text_of(numbers), json.loads(json.dumps(as_json(numbers), allow_nan=False))


@pytest.mark.parametrize("moment", [*MOMENTS, *OTHERS])
def test_every_number_is_in_results_json(moment: str) -> None:
    numbers = compute_numbers(OTHERS[moment]()) if moment in OTHERS else numbers_of(moment)
    text, results = text_and_results(numbers)
    lines = claims(text, results)
    assert lines
    assert unsupported(lines, shown(results)) == []


def test_the_verdicts_and_warnings_are_in_results_json_as_well(rendered: Callable[[str], Path]) -> None:
    folder = rendered("custom metric, one seed diverged")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    text = (folder / "README.md").read_text(encoding="utf-8")
    warnings = [line[4:] for line in text.splitlines() if line[:4] == "> - "]
    assert warnings == [f"{warning}." for warning in results["warnings"]]
    shown = [line.split(" | ")[:2] for line in text.partition("\n> ")[0].splitlines() if " against " in line]
    assert [line.split(": ")[0] for line in results["verdicts"]] == [cells[0].removeprefix("| ") for cells in shown]
    assert all(cells[1] in line for line, cells in zip(results["verdicts"], shown, strict=True))


def test_a_number_outside_results_json_is_found() -> None:
    """Otherwise the test above could not fail."""
    text, results = text_and_results(compute_numbers(synthetic_record(seeds=10)))
    lines, forms = claims(text, results), shown(results)
    numbers = [(line, match) for line in lines for match in NUMBER.finditer(line) if "." in match[0]]
    assert len(numbers) >= 10
    missed = 0
    for line, match in numbers:
        digit = next(at for at in range(match.end() - 1, match.start(), -1) if line[at].isdigit())
        changed = line[:digit] + str((int(line[digit]) + 5) % 10) + line[digit + 1 :]
        missed += not unsupported([changed], forms)
    assert missed <= len(numbers) / 4, "few wrong numbers pass for another number of the study"
