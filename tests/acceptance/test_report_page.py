"""The report in a real browser, offline: eight figures, tables that sort, numbers under the pointer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, Tab
from synthetic_record import synthetic_record

from hpo.report import Record, write_report

FIGURES = (
    *("training-loss", "validation-accuracy", "paired-slopes", "differences"),
    *("labels-fitted", "tuning-history", "slices", "importances"),
)
NAMES = ("AdamW", "GNVR", "Clipping with a name that is rather long")
ACCURACIES = {"AdamW": [0.5, 0.52, 0.54], "GNVR": [0.61, 0.6, 0.62], NAMES[2]: [0.4, 0.43, 0.41]}
# Words of a figure that lie on one another.
TOUCHING = """
[...document.querySelectorAll(".figure")].flatMap((figure) => {
  const found = [];
  const words = [...figure.querySelectorAll("svg text")];
  const shown = words.map((text) => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
  for (const [i, [left, a]] of shown.entries())
    for (const [right, b] of shown.slice(i + 1)) {
      const beside = a.right < b.left + 1 || b.right < a.left + 1;
      const above = a.bottom < b.top + 2 || b.bottom < a.top + 2;
      if (!beside && !above) found.push(`${figure.id}: ${left} | ${right}`);
    }
  return found;
})
"""
# What a figure draws beyond its own edges.
CUT = """
[...document.querySelectorAll(".figure")].flatMap((figure) => {
  const frame = figure.getBoundingClientRect();
  return [...figure.querySelectorAll("svg text")]
    .map((label) => [label.textContent, label.getBoundingClientRect()])
    .filter(([, box]) => box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1))
    .map(([words]) => `${figure.id}: ${words}`);
})
"""


def record() -> Record:
    return synthetic_record(names=NAMES, trials=50, seeds=3, epochs=7, accuracies=ACCURACIES)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "synthetic"
    write_report(record(), folder, "synthetic", ["hpo run synthetic"])
    return folder / "report.html"


@pytest.fixture
def tab(browser: Browser, report: Path) -> Iterator[Tab]:
    """The report, drawn without a network; any request except for a file fails the test."""
    with browser.tab(width=1280) as opened:
        opened.page.context.set_offline(True)
        opened.open(report)
        drawn(opened)
        yield opened
        assert [url for url in opened.requests if not url.startswith("file:")] == []
        assert opened.errors == []


def drawn(tab: Tab) -> None:
    """Waits until every figure is drawn."""
    tab.page.wait_for_function("document.querySelectorAll('.figure:not([data-drawn])').length === 0")


def drawn_text(tab: Tab, selector: str) -> str:
    """The text of a part of a figure, as soon as it is drawn."""
    part = tab.page.locator(selector).first
    part.wait_for()
    return part.text_content() or ""


def column(tab: Tab, table: int, place: int) -> list[str]:
    return tab.page.locator("table").nth(table).locator(f"tbody tr td:nth-child({place})").all_inner_texts()


def test_all_eight_figures_are_drawn(tab: Tab) -> None:
    assert sorted(figure.get_attribute("id") or "" for figure in tab.page.locator(".figure").all()) == sorted(FIGURES)
    for slug in FIGURES:
        assert tab.page.locator(f"#{slug} .cartesianlayer .trace path").count() > 0, slug
        assert tab.page.locator(f"#{slug}").bounding_box()["height"] > 90, slug  # type: ignore[index]
    assert tab.page.locator("#slices .cartesianlayer .subplot").count() == 3
    assert tab.page.locator("#paired-slopes .cartesianlayer .subplot").count() == 2
    assert tab.page.locator("#labels-fitted .cartesianlayer .subplot").count() == 2


def test_nothing_is_cut_and_no_words_touch_in_both_colour_schemes(tab: Tab, screenshots: Path) -> None:
    for width in (1280, 400):
        check_layout(tab, width, screenshots)


def check_layout(tab: Tab, width: int, screenshots: Path) -> None:
    tab.width(width)
    tab.dark(False)
    tab.page.wait_for_function(
        """[...document.querySelectorAll(".figure")].every((figure) =>
             figure._fullLayout.width === figure.clientWidth && figure._fullLayout.height === figure.clientHeight)"""
    )
    assert tab.overflow() <= 0
    assert tab.page.evaluate(CUT) == []
    assert tab.page.evaluate(TOUCHING) == []
    if width == 1280:
        wide = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        assert tab.page.evaluate(wide) == 0
    inks = []
    for dark in (False, True):
        tab.dark(dark)
        tab.page.wait_for_function(
            "getComputedStyle(document.querySelector('#differences .xtick text')).fill === "
            "getComputedStyle(document.body).color"
        )
        inks.append(tab.page.evaluate("getComputedStyle(document.body).color"))
        tab.screenshot(screenshots / f"report-{width}-{'dark' if dark else 'light'}.png", whole=True)
    assert inks[0] != inks[1]


def test_tables_sort_by_a_click_and_by_a_key(tab: Tab) -> None:
    results = 3
    assert column(tab, results, 1) == list(NAMES)
    header = tab.page.locator("table").nth(results).locator("th").nth(2)
    header.locator("button").click()
    assert column(tab, results, 1) == [NAMES[2], "AdamW", "GNVR"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").focus()
    tab.page.keyboard.press("Enter")
    assert column(tab, results, 1) == ["GNVR", "AdamW", NAMES[2]]
    assert header.get_attribute("aria-sort") == "descending"
    names = tab.page.locator("table").nth(results).locator("th").first
    names.locator("button").click()
    assert column(tab, results, 1) == ["AdamW", NAMES[2], "GNVR"]
    assert header.get_attribute("aria-sort") is None
    # Numbers are sorted by their values, and cells without one come last.
    cells = ["1.30e-3", "−2.20", "+0.19 [−2, 3]", "1,234", "<0.001", "–", "10.00% (diverged)"]
    script = "(cells) => cells.map((text) => value({textContent: text, dataset: {}})).sort(compare)"
    ordered = tab.page.evaluate(script, cells)
    assert ordered == [-2.2, 0.001, 0.0013, 0.19, 10, 1234, None]


def test_hovering_shows_the_numbers(tab: Tab) -> None:
    tab.page.locator("#validation-accuracy").scroll_into_view_if_needed()
    box = tab.page.locator("#validation-accuracy .nsewdrag").first.bounding_box()
    assert box is not None
    tab.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    shown = drawn_text(tab, "#validation-accuracy .hoverlayer .legend")
    means = record().curves
    middle = means[(means.metric == "validation_accuracy") & (means.epoch == 4)]
    slots = record().slots
    runs = slots[(slots.phase == "rerun") & (slots.configuration == "GNVR")].id
    expected = middle[middle.slot_id.isin(runs)]["value"].mean()
    assert f"GNVR: {100 * expected:.2f}% (3 seeds)" in shown

    tab.page.locator("#paired-slopes").scroll_into_view_if_needed()
    tab.page.locator("#paired-slopes .point").last.hover(force=True)
    words = drawn_text(tab, "#paired-slopes .hoverlayer .hovertext")
    assert "difference: " in words and "seed 100" in words


def test_without_label_noise_or_trials_there_is_no_empty_figure(browser: Browser, tmp_path: Path) -> None:
    write_report(synthetic_record(finished_trials=0), tmp_path / "early", "synthetic", ["hpo run synthetic"])
    with browser.tab() as tab:
        tab.open(tmp_path / "early" / "report.html")
        assert tab.page.locator(".figure").count() == 0
        for number in range(1, 9):
            assert tab.page.locator(f"p:has-text('Figure {number}. ')").count() == 1
        assert tab.errors == []
