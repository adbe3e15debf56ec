"""A page finds plotly.js beside its folder, or holds everything that it shows itself."""

import base64
import gzip
import re
import shutil
from pathlib import Path

import pytest
from browser import Browser
from synthetic_record import synthetic_record

from hpo.report import standalone, write_report


def written(reports: Path, whole: bool = False) -> Path:
    write_report(synthetic_record(), reports / "s", "s", ["hpo run s"], standalone=whole)
    return reports / "s" / "report.html"


def test_all_reports_share_one_plotly(tmp_path: Path) -> None:
    page = written(tmp_path)
    shared = tmp_path / "plotly.min.js"
    assert shared.stat().st_size > 1_000_000 > 500_000 > page.stat().st_size
    before = shared.stat().st_mtime_ns
    written(tmp_path)
    assert shared.stat().st_mtime_ns == before, "what is there already is not written again"
    shared.write_text("of another version")
    written(tmp_path)
    assert shared.stat().st_size > 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plotly.min.js", "s"]


def test_one_file_holds_all_data(tmp_path: Path) -> None:
    page = written(tmp_path, whole=True)
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'href="data:[\w/+-]+;base64,([^"]*)" download="([^"]*)"', text)
    assert [name for _, name in found] == ["trials.csv", "reruns.csv", "curves.csv", "results.json", "results.tex"]
    for content, name in found:
        assert base64.b64decode(content) == (page.parent / name).read_bytes()
    assert 'src="figures/' not in text and text.count('<img src="data:image/png;base64,') >= 2
    assert not (tmp_path / "plotly.min.js").exists()
    again = written(tmp_path / "again", whole=True)
    assert again.read_bytes() == page.read_bytes()


def test_large_files_are_packed_and_foreign_links_stay(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_bytes(b"1,2\n" * (1 << 18) + b"3")
    (tmp_path / "page.html").write_text("x")
    links = '<a href="curves.csv">a</a><a href="https://x.org/a.csv">b</a><a href="none.csv">c</a><a href="page.html">'
    text = standalone.with_everything(links, tmp_path)
    assert text.endswith('<a href="https://x.org/a.csv">b</a><a href="none.csv">c</a><a href="page.html">')
    packed = re.search(r'data:application/gzip;base64,([^"]*)" download="curves.csv.gz"', text)
    assert packed and gzip.decompress(base64.b64decode(packed[1])) == (tmp_path / "curves.csv").read_bytes()
    assert len(packed[1]) < 10_000


@pytest.mark.parametrize("whole", [False, True])
def test_the_figures_are_drawn_from_the_disk_without_a_network(whole: bool, tmp_path: Path, browser: Browser) -> None:
    page = written(tmp_path / "reports", whole)
    if whole:  # sent to somebody, alone
        page = Path(shutil.copy(page, tmp_path / "alone.html"))
    with browser.tab() as tab:
        tab.open(page)
        tab.page.wait_for_selector("#training-loss .main-svg")
        allowed = [] if whole else [(tmp_path / "reports" / "plotly.min.js").as_uri()]
        assert not tab.strays(*allowed), tab.strays(*allowed)
        assert not tab.errors
        assert tab.page.locator(".figure .main-svg").count() >= 2


def test_a_page_without_plotly_shows_its_pictures_and_says_why(tmp_path: Path, browser: Browser) -> None:
    page = written(tmp_path)
    (tmp_path / "plotly.min.js").unlink()
    with browser.tab() as tab:
        tab.open(page)
        assert "plotly.min.js" in tab.text("#training-loss")
        assert tab.page.evaluate("document.querySelector('#training-loss img').naturalWidth") > 100
        assert not [error for error in tab.errors if "plotly.min.js" not in error]
