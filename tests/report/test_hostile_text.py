"""Names and texts that would end a script, a cell, a list or a comment if a page did not show them as they are."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import Browser
from markdown_it import MarkdownIt
from synthetic_record import synthetic_export, synthetic_record

from hpo.analysis.compute import compute_numbers
from hpo.analysis.record import Record, make_record
from hpo.output import visible
from hpo.report import write_report
from hpo.report.comparison_page import write_comparison
from hpo.report.page import nested_markdown
from hpo.report.summary import summarise

HOSTILE = (
    "<!--<script>",
    "</script><script>document.title='owned'</script>",
    "]]> --> --!> <![CDATA[",
    "line\u2028separator\u2029s",
    '"><img src=x onerror="document.title=\'owned\'">',
    "{{ 7 * 7 }} ${7*7} %{x} <%= 7 %>",
    '=HYPERLINK("http://evil.example")',
    "\x1b[31mred\x1b]0;owned\x07 \u202etxt.exe",
    "'; document.title='owned' //",
    "<!--fragment 0--> \\end{document} \\input{x}",
)
TITLE = " ".join(HOSTILE)
FIGURES = 8


def hostile_export() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    export, curves = synthetic_export(names=HOSTILE, trials=50, seeds=3, epochs=4)
    export["study"]["text"] = {"title": TITLE, "hypothesis": "\n\n".join(HOSTILE)}
    for row in export["slots"]:
        row["setting"] = {f"{HOSTILE[0]}{name}": value for name, value in row["setting"].items()}
    for entry in export["study"]["definition"]["configurations"]:
        entry["space"] = {f"{HOSTILE[0]}{name}": value for name, value in entry["space"].items()}
    return export, curves


def hostile_record(name: str = "synthetic") -> Record:
    record = make_record(*hostile_export())
    return record._replace(study={**record.study, "name": name})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report full of such texts."""
    command = "hpo run 'a\n```\n<script>document.title=1</script>.py'"
    folder = tmp_path_factory.mktemp("reports") / "synthetic"
    return write_report(hostile_record(), folder, "synthetic", [command], "\n\n".join(HOSTILE)).parent


def html_in(markdown: str) -> set[str]:
    """What a Markdown reader takes for HTML."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    parts = [part for token in tokens for part in (token, *(token.children or []))]
    return {part.content.strip() for part in parts if part.type in ("html_block", "html_inline")}


@pytest.mark.parametrize("standalone", [False, True])
def test_all_figures_are_drawn_in_a_browser(standalone: bool, tmp_path: Path, browser: Browser) -> None:
    write_report(hostile_record(), tmp_path / "s", "synthetic", ["hpo run s"], "\n".join(HOSTILE), standalone)
    with browser.tab() as tab:
        tab.open(tmp_path / "s" / "report.html")
        tab.page.wait_for_function("document.querySelectorAll('.figure:not([data-drawn])').length === 0")
        figures = tab.page.locator(".figure")
        assert figures.count() == FIGURES
        for index in range(FIGURES):
            assert figures.nth(index).locator(".cartesianlayer .trace path").count() > 0
        assert tab.page.title() == visible(TITLE)
        assert tab.page.locator("main script, main style, main img[src='x']").count() == 0
        shown = tab.page.locator("#validation-accuracy .legend").text_content() or ""
        assert "<!--<script>" in shown
        names = tab.page.locator("table").nth(3).locator("tbody tr td:first-child").all_inner_texts()
        assert names == [visible(" ".join(name.split())) for name in HOSTILE]
        assert tab.errors == []


def test_a_comparison_draws_its_figures_too(tmp_path: Path, browser: Browser) -> None:
    records = [hostile_record("lr1e-4"), hostile_record("noisy")]
    write_report(records[0], tmp_path / "lr1e-4", "lr1e-4", ["hpo run s"])
    write_comparison(records, tmp_path / "c", "hpo report a\n``` --compare")
    assert (tmp_path / "lr1e-4" / "README.md").exists()
    with browser.tab() as tab:
        tab.open(tmp_path / "c" / "report.html")
        tab.page.wait_for_function("document.querySelectorAll('.figure:not([data-drawn])').length === 0")
        assert tab.page.locator(".figure .trace path").count() > 0
        assert tab.page.locator("main script").count() == 0
        (link,) = {element.get_attribute("href") for element in tab.page.locator("a", has_text="lr1e-4").all()}
        assert link == "../lr1e-4/README.md"
        assert tab.errors == []
    assert html_in((tmp_path / "c" / "README.md").read_text()) == set()


def test_the_page_has_no_other_script_than_its_own(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(re.findall("<script", page)) == page.count("</script>") == 4  # sorting, plotly, figures, drawing
    data = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None and data[1].isascii() and not set("<>&") & set(data[1])
    assert "AdamW" not in data[1] and "\\u003c!--" in data[1] and json.loads(data[1])


def test_markdown_shows_every_text(folder: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    found = html_in(readme)
    allowed = {"<details>\n<summary>T3. The rivals compared with each other</summary>", "</details>"}
    # An author's own Markdown may hold HTML that ends by itself; nothing else may.
    author = {token for token in found - allowed if "details" not in token and "summary" not in token}
    assert author <= {token for text in HOSTILE for token in html_in(nested_markdown(text))}
    headings = [token.content for token in MarkdownIt().parse(readme) if token.type == "inline" and token.level == 1]
    assert "Reproduce" in headings and "Limits" in headings
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    assert all("\x1b" not in row and "\u2028" not in row for row in rows)
    note = summarise(hostile_record()).note
    assert html_in(note) == set()
    tex = (folder / "results.tex").read_text(encoding="utf-8")
    for text in (readme, note, tex):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
    assert "\\input{" not in tex.replace(r"\usepackage", "").split("\\begin{table}")[1]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- never closed",
        "```\ncode",
        "~~~~\n~~~\nstill code",
        "> <!--",
        "- <script>",
        "<?php",
        "<pre>",
        "<![CDATA[ x",
    ],
)
def test_an_authors_text_ends_where_it_ends(text: str) -> None:
    rendered = MarkdownIt("commonmark", {"html": True}).render(f"{nested_markdown(text)}\n\n## Next\n")
    assert rendered.endswith("<h2>Next</h2>\n")


def test_an_authors_code_block_keeps_its_characters() -> None:
    text = "```html\n<!-- kept -->\n# no heading\n```"
    assert nested_markdown(text) == text
    assert nested_markdown("# T\n\n`a` <br> **b**") == "### T\n\n`a` <br> **b**"


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'quoted", "＝1", "plain", "a=b")


def test_spreadsheets_run_no_text_of_the_user(tmp_path: Path) -> None:
    record = synthetic_record(names=FORMULAS, trials=3, seeds=2, epochs=2)
    slots = record.slots.copy()
    slots["setting"] = [{"=cmd": 0.5, "x": -1.5} for _ in slots.index]
    write_report(record._replace(slots=slots), tmp_path, "synthetic", ["hpo run s"])
    for name in ("trials", "reruns", "curves", "trial_curves"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        cells = [*table.columns, *(cell for column in table for cell in table[column] if isinstance(cell, str))]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))], name
        # As reports/reading.md says: one apostrophe less gives every text back.
        assert set(table["configuration"].str.removeprefix("'")) == {visible(name, "\n\t") for name in FORMULAS}
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert trials["setting/x"].tolist() == [-1.5] * len(trials), "numbers stay numbers"
    assert "-1.5" in (tmp_path / "trials.csv").read_text() and "'-1.5" not in (tmp_path / "trials.csv").read_text()


def test_numbers_know_the_names_as_they_are() -> None:
    """Nothing is changed where numbers are computed, only where text is shown."""
    assert tuple(entry.name for entry in compute_numbers(hostile_record()).configurations) == HOSTILE
