"""A page: one Markdown template, rendered as README.md and as report.html."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from typing import Any, NamedTuple

from hpo.errors import plural
from hpo.output import visible
from hpo.report import formatting, wording
from hpo.report.figure_plan import Figure
from hpo.report.standalone import SCRIPT

HEADING = re.compile(r"^(#{1,6})(?=\s)")
HEADING_2 = re.compile(r"<h2>(\w+)</h2>")  # the contents link to them
POWER = re.compile(r"(<[^>]*>)|(−?\d[\d.]*e-\d+)")  # a browser would break the line behind the hyphen
FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
OPEN_HTML = re.compile(r"^([\s>*+-]*)(<(?:[!?]|(?:script|pre|style|textarea)\b))", re.IGNORECASE)
FILTERS = (
    *(formatting.amount, formatting.detectable, formatting.difference_interval, formatting.margin, formatting.number),
    *(formatting.percent, formatting.three_digits, wording.better, wording.describe, wording.escape, wording.listed),
    *(wording.outcome_words, wording.plain_name, wording.span, wording.verdict_words, plural),
)


class Page(NamedTuple):
    """A page before it is Markdown or HTML.

    Attributes:
        template: its file in templates/. values: what the template is rendered with, besides `figures`.
    """

    title: str
    template: str
    values: dict[str, Any]
    figures: Sequence[Figure]


def markdown(page: Page) -> str:
    """README.md, for any Git host."""

    def image(figure: Figure) -> str:
        return f"![{wording.escape(figure.title)}]({figure.path})"

    return _render(page, nested_markdown, image)


def html(page: Page) -> str:
    """report.html, whose figures are drawn by plotly.js from the folder of all reports."""
    from markdown_it import MarkdownIt

    fragments: list[str] = []

    def insert_later(fragment: str) -> str:
        """Keeps HTML away from the Markdown parser."""
        fragments.append(fragment)
        return f"<!--fragment {len(fragments) - 1}-->"

    def image(figure: Figure) -> str:
        png = f'<noscript><img src="{figure.path}" alt="{escape(figure.title)}"></noscript>'
        return insert_later(f'<div class="figure" id="{figure.slug}">{png}</div>')

    author_text = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = _render(page, lambda words: insert_later(author_text.render(nested_markdown(words))), image)
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    body = POWER.sub(lambda found: found[1] or f'<span class="number">{found[2]}</span>', body)
    body = HEADING_2.sub(lambda found: f'<h2 id="{found[1].lower()}">{found[1]}</h2>', body)
    body = re.sub(r"<!--fragment (\d+)-->", lambda match: fragments[int(match[1])], body)
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return _environment().get_template("page.html.jinja").render(
        title=escape(visible(page.title)),
        body=body,
        figures=_figures_json(page.figures),
        script=SCRIPT,
    )  # fmt: skip


def render_template(name: str, **values: Any) -> str:
    """A template without an author's text or figures."""
    return str(_environment().get_template(name).render(**values))


def render_html(name: str, **values: Any) -> str:
    """A template without an author's text or figures, as HTML that can stand in another page."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").render(render_template(name, **values))


def nested_markdown(text: str) -> str:
    """The author's Markdown, so that it changes nothing that follows it.

    Its topmost headings are at level three, below the report's own, an open code block is closed, and HTML that would
    go on behind it, such as `<!--`, is shown as text.
    """
    lines: list[tuple[str, int]] = []  # and the level of each heading, 0 elsewhere
    fence = ""
    for line in (visible(line, keep="\t") for line in text.strip().splitlines()):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence else HEADING.match(line)
        lines.append((line if fence or mark else OPEN_HTML.sub(r"\1\\\2", line), len(heading[1]) if heading else 0))
    shift = max(0, 3 - min((level for _, level in lines if level), default=3))
    shown = ["#" * min(shift, 6 - level) + line if level else line for line, level in lines]
    return "\n".join([*shown, *([fence] if fence else [])])


def _render(page: Page, author: Callable[[str], str], image: Callable[[Figure], str]) -> str:
    """The page's Markdown, where `author` and `image` convert an author's text and a figure."""
    environment = _environment().overlay()
    environment.filters = {**environment.filters, "author": author, "image": image}
    text = environment.get_template(page.template).render(
        title=wording.escape(page.title), figures=page.figures, **page.values
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _figures_json(figures: Sequence[Figure]) -> str:
    """Data and layout for plotly, by the id of the element; empty where there is nothing to draw.

    Without `<`, `>`, `&` and letters outside ASCII, no name can end the script that holds it or change its meaning.
    """
    from jinja2.utils import htmlsafe_json_dumps

    drawings = {figure.slug: figure.chart.draw_plotly() for figure in figures if figure.chart is not None}
    return htmlsafe_json_dumps(drawings, sort_keys=True, separators=(",", ":"), allow_nan=False) if drawings else ""


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hpo.report"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.filters |= {"p": formatting.probability, "thousands": lambda value: f"{value:,}"}
    return environment
