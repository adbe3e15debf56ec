"""A page uses plotly.js from the folder above its own, or contains everything that it shows."""

import base64
import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser
from synthetic_record import synthetic_record

from hpo.report import standalone, write_report
from tests.report.test_report import figures_of


@pytest.fixture
def page(rendered: Callable[[str], Path], tmp_path: Path) -> Path:
    """A report.html that shares plotly.js, which lies in `tmp_path`/reports."""
    shutil.copytree(rendered("finished").parent, tmp_path / "reports")
    return tmp_path / "reports" / "synthetic" / "report.html"


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report.html that contains everything."""
    folder = tmp_path_factory.mktemp("reports") / "s"
    return write_report(synthetic_record(), folder, "s", ["hpo run s"], standalone=True).with_name("report.html")


def test_all_reports_share_one_plotly(page: Path) -> None:
    shared = page.parents[1] / "plotly.min.js"
    assert shared.stat().st_size > 1_000_000 > 500_000 > page.stat().st_size
    before = shared.stat().st_mtime_ns
    standalone.share_plotly(shared.parent)
    assert shared.stat().st_mtime_ns == before, "the same file is not written again"
    shared.write_text("of another version")
    standalone.share_plotly(shared.parent)
    assert shared.read_text(encoding="utf-8").count("plotly.js v") == 1
    assert sorted(path.name for path in shared.parent.iterdir()) == ["plotly.min.js", "synthetic"]


@pytest.mark.parametrize("kind", ["page", "whole_page"])
def test_the_page_needs_no_network_and_has_plotly_once(kind: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(kind).read_text(encoding="utf-8")
    assert text.count("plotly.js v") == int(kind == "whole_page")
    assert text.count('<script src="../plotly.min.js"></script>') == int(kind == "page")
    assert not re.search(r"(src|href)=\"?(https?:)?//", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert list(figures_of(text)) == [
        *("differences", "labels-fitted", "paired-slopes", "slices"),
        *("training-loss", "tuning-history", "validation-accuracy"),
    ]


def test_one_file_holds_all_data(whole_page: Path, tmp_path: Path) -> None:
    text = whole_page.read_text(encoding="utf-8")
    links = re.findall(r'href="data:[\w/+-]+;base64,([^"]*)" download="([^"]*)"', text)
    assert [name for _, name in links] == ["trials.csv", "reruns.csv", "curves.csv", "results.json", "results.tex"]
    for content, name in links:
        assert base64.b64decode(content) == (whole_page.parent / name).read_bytes()
    assert 'src="figures/' not in text and text.count('<img src="data:image/png;base64,') >= 2
    assert not (whole_page.parents[1] / "plotly.min.js").exists()
    repeated = write_report(synthetic_record(), tmp_path / "s", "s", ["hpo run s"], standalone=True)
    assert repeated.with_name("report.html").read_bytes() == whole_page.read_bytes()


def test_large_files_are_compressed_and_other_links_stay(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_bytes(b"1,2\n" * (1 << 18) + b"3")
    (tmp_path / "page.html").write_text("x")
    links = '<a href="curves.csv">a</a><a href="https://x.org/a.csv">b</a><a href="none.csv">c</a><a href="page.html">'
    text = standalone.inline(links, tmp_path)
    assert text.endswith('<a href="https://x.org/a.csv">b</a><a href="none.csv">c</a><a href="page.html">')
    packed = re.search(r'data:application/gzip;base64,([^"]*)" download="curves.csv.gz"', text)
    assert packed and gzip.decompress(base64.b64decode(packed[1])) == (tmp_path / "curves.csv").read_bytes()
    assert len(packed[1]) < 10_000


@pytest.mark.parametrize("kind", ["page", "whole_page"])
def test_the_figures_are_drawn_from_the_disk_without_a_network(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, browser: Browser
) -> None:
    path = request.getfixturevalue(kind)
    allowed = [(path.parents[1] / "plotly.min.js").as_uri()]
    if kind == "whole_page":  # sent to somebody, without its folder
        path, allowed = Path(shutil.copy(path, tmp_path / "alone.html")), []
    with browser.tab() as tab:
        tab.open(path)
        tab.page.wait_for_selector("#training-loss .main-svg")
        assert not tab.strays(*allowed), tab.strays(*allowed)
        assert not tab.errors
        assert tab.page.locator(".figure .main-svg").count() >= 2


def test_a_page_without_plotly_shows_its_pictures_and_says_why(page: Path, browser: Browser) -> None:
    (page.parents[1] / "plotly.min.js").unlink()
    with browser.tab() as tab:
        tab.open(page)
        assert "plotly.min.js" in tab.text("#training-loss")
        assert tab.page.evaluate("document.querySelector('#training-loss img').naturalWidth") > 100
        assert not [error for error in tab.errors if "plotly.min.js" not in error]
