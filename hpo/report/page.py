"""Pages: one Markdown template, read as README.md and turned into report.html."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from hpo.analysis.results import StudyNumbers
from hpo.analysis.verdicts import Verdict
from hpo.errors import plural
from hpo.report import formatting, tables
from hpo.report.figure_plan import Figure
from hpo.report.figures import draw_plotly
from hpo.report.standalone import SCRIPT
from hpo.report.tables import failures
from hpo.report.warnings import cautions

HEADING = re.compile(r"^(#{1,6})(?=\s)")
POWER = re.compile(r"(−?\d[\d.]*e-\d+)")  # a browser would break the line behind the hyphen
FENCE = re.compile(r"^\s{0,3}(```|~~~)")

# From what becomes of an author's words and of a figure, the page's Markdown.
Body = Callable[[Callable[[str], str], Callable[[Figure], str]], str]


class Page(NamedTuple):
    """What a report is made of: its numbers, its figures, the commands that remake it, the author's analysis."""

    numbers: StudyNumbers
    figures: list[Figure]
    commands: list[str]
    analysis: str | None


def markdown(page: Page) -> str:
    """README.md."""
    return as_markdown(partial(_body, page))


def html(page: Page) -> str:
    """report.html, which takes plotly.js from the folder of all reports."""
    return as_html(_title(page), page.figures, partial(_body, page))


def as_markdown(body: Body) -> str:
    """A page's Markdown, for any Git host."""
    return body(demote_headings, _in_markdown)


def as_html(title: str, figures: Sequence[Figure], body: Body) -> str:
    """A page's HTML, with its figures to be drawn by plotly.js from the folder of all reports."""
    from markdown_it import MarkdownIt

    held: list[str] = []

    def hold(content: str) -> str:
        held.append(content)
        return f"<!--held {len(held) - 1}-->"

    def picture(figure: Figure) -> str:
        still = f'<noscript><img src="{figure.path}" alt="{figure.title}"></noscript>' if figure.still else ""
        return hold(f'<div class="figure" id="{figure.slug}">{still}</div>')

    author_text = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = body(lambda words: hold(author_text.render(demote_headings(words))), picture)
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    shown = POWER.sub(r'<span class="number">\1</span>', shown)
    shown = re.sub(r"<!--held (\d+)-->", lambda match: held[int(match[1])], shown)
    shown = shown.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    drawings = {figure.slug: draw_plotly(figure.info) for figure in figures if figure.info is not None}
    data = json.dumps(drawings, sort_keys=True, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    template = _environment().get_template("page.html.jinja")
    title = title.replace("&", "&amp;").replace("<", "&lt;")
    return template.render(title=title, body=shown, figures=data if drawings else "", script=SCRIPT)


def _in_markdown(figure: Figure) -> str:
    return f"![{figure.title}]({figure.path})" if figure.still else ""


def demote_headings(text: str) -> str:
    """The author's Markdown with its topmost headings at level three, below the report's own."""
    lines: list[tuple[str, int]] = []  # and the level of each heading, 0 elsewhere
    fenced = False
    for line in text.strip().splitlines():
        fenced ^= bool(FENCE.match(line))
        heading = None if fenced else HEADING.match(line)
        lines.append((line, len(heading[1]) if heading else 0))
    shift = max(0, 3 - min((level for _, level in lines if level), default=3))
    return "\n".join("#" * min(shift, 6 - level) + line if level else line for line, level in lines)


def verdict_lines(numbers: StudyNumbers) -> list[str]:
    """One line of Markdown a rival: the verdict and the numbers it rests on."""
    template = _environment().get_template("verdict.md.jinja")
    unit = _unit(numbers)
    baseline = formatting.escape(numbers.baseline.name)
    return [
        template.render(rival=rival, baseline=baseline, unit=unit, metric=numbers.metric).strip()
        for rival in numbers.rivals
    ]


def _body(page: Page, author: Callable[[str], str], picture: Callable[[Figure], str]) -> str:
    numbers = page.numbers
    configurations = numbers.definition["configurations"]
    paired = [rival for rival in numbers.rivals if rival.verdict.comparison.n > 1]
    template = environment(author, picture).get_template("body.md.jinja")
    text = template.render(
        numbers=numbers,
        study=numbers.study,
        definition=numbers.definition,
        samples=numbers.samples,
        metric=numbers.metric,
        title=formatting.escape(_title(page)),
        hypothesis=numbers.study["text"].get("hypothesis") or "",
        baseline=formatting.escape(numbers.baseline.name),
        verdicts=verdict_lines(numbers),
        unit=_unit(numbers),
        unit_name=_unit(numbers).removeprefix("paired "),
        cautions=cautions(numbers),
        tables={name: getattr(tables, name)(numbers) for name in TABLES} | {"failures": failures(numbers)},
        legend=formatting.legend(dict.fromkeys(name for entry in configurations for name in entry["space"])),
        smoothness_of={entry.name: entry.smoothness for entry in numbers.configurations},
        reruns_of={entry.name: entry.reruns for entry in numbers.configurations},
        fixed_alike=_fixed_alike(numbers),
        uneven_seeds=_uneven_seeds(numbers),
        trial_budget=_trial_budget(numbers),
        pruned_epochs=_pruned_epochs(numbers),
        equivalence_level=f"{100 * (1 - 0.1 / len(numbers.rivals)):.3g}%",
        paired=paired,
        unfound=[rival.name for rival in numbers.rivals if _unfound(rival.verdict)],
        figures=page.figures,
        commands=page.commands,
        analysis=page.analysis,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def environment(author: Callable[[str], str], picture: Callable[[Figure], str]) -> Any:
    """The templates, with what becomes of an author's words and of a figure as filters of these names."""
    made = _environment().overlay()
    made.filters = {**made.filters, "author": author, "picture": picture}
    return made


TABLES = ("spaces", "environments", "results", "comparisons", "pairs", "seeds", "custom_metrics", "tuning")


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hpo.report"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "escape": formatting.escape,
        "describe": formatting.describe,
        "verdict": formatting.verdict_words,
        "margin": formatting.margin,
        "amount": formatting.amount,
        "detectable": formatting.detectable,
        "difference_interval": formatting.difference_interval,
        "points": formatting.points,
        "point_interval": formatting.point_interval,
        "percent": formatting.percent,
        "number": formatting.number,
        "digits": formatting.three_digits,
        "listed": formatting.listed,
        "number_interval": formatting.number_interval,
        "p": formatting.probability,
        "plural": plural,
        "span": formatting.span,
        "thousands": lambda value: f"{value:,}",
        "words": lambda name: name.replace("_", " "),
    }
    return environment


def _unfound(verdict: Verdict) -> bool:
    """Whether a difference that matters would often have been missed."""
    return verdict.rule == 5 and verdict.comparison.mde > verdict.margin


def _unit(numbers: StudyNumbers) -> str:
    return "paired seed" if numbers.study["tuning_runs"] == 1 else "paired tuning run"


def _title(page: Page) -> str:
    return page.numbers.study["text"].get("title") or page.numbers.study["name"]


def _pruned_epochs(numbers: StudyNumbers) -> str:
    """Of how many epochs were really trained, by configuration: "AdamW 412 of 1,200 (30 of 40 trials pruned)"."""
    epochs = numbers.definition["tuning_epochs"]
    return ", ".join(
        f"{formatting.escape(entry.name)} {entry.tuning.epochs:,} of {entry.tuning.finished * epochs:,} "
        f"({entry.tuning.pruned} of {plural(entry.tuning.finished, 'trial')} pruned)"
        for entry in numbers.configurations
    )


def _fixed_alike(numbers: StudyNumbers) -> str:
    """The values that no configuration tunes and all share: "beta1 0.9, beta2 0.999"."""
    values = tables.fixed_alike(numbers).items()
    return ", ".join(
        f"{formatting.escape(formatting.plain_name(name))} {formatting.bound(value)}" for name, value in values
    )


def _uneven_seeds(numbers: StudyNumbers) -> str:
    """How many seeds each tuning run has, in its order, where some have more than others: "10, 3, 3, 2 and 2"."""
    seeds = Counter(numbers.baseline.reruns.tuning_run_by_seed.values())
    counts = [seeds[tuning_run] for tuning_run in sorted(seeds)]
    return formatting.listed([str(count) for count in counts]) if len(set(counts)) > 1 else ""


def _trial_budget(numbers: StudyNumbers) -> str:
    planned = {entry.name: entry.tuning.planned // numbers.study["tuning_runs"] for entry in numbers.configurations}
    if len(set(planned.values())) == 1:
        return f"{plural(next(iter(planned.values())), 'trial')} a configuration"
    return "trials: " + ", ".join(f"{formatting.escape(name)} {trials}" for name, trials in planned.items())
