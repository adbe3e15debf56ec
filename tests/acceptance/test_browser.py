"""The driver of the real browser sees what a page does: a check that sees nothing would always hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from browser import Browser

PAGE = """<!doctype html><title>t</title>
<style>p { display: none } @media (prefers-color-scheme: dark) { p { display: block } }
div { width: 700px } b:hover { color: rgb(1, 2, 3) }</style>
<details><summary>more</summary><i>inside</i></details><p>dark</p><div>wide</div><b>hover</b>
<script>fetch("http://127.0.0.1:9/elsewhere").catch(() => 0);
setTimeout(() => { throw Error("broken script") })</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path / "page.html"


def test_a_file_is_opened_and_what_it_does_is_seen(browser: Browser, page: Path) -> None:
    with browser.tab(width=600) as tab:
        tab.open(page)
        for _ in range(100):  # the console's lines come when they come
            if any("broken script" in error for error in tab.errors) and tab.strays():
                break
            tab.page.wait_for_timeout(50)
        assert tab.strays() == ["http://127.0.0.1:9/elsewhere"]
        assert tab.strays("http://127.0.0.1:9") == [] and tab.strays("http://127.0.0.1:99") != []
        assert any("broken script" in error for error in tab.errors)
        assert tab.overflow() > 50
        tab.width(900)
        assert tab.overflow() <= 0
        assert not tab.page.is_visible("p") and not tab.page.is_visible("i")
        tab.dark()
        tab.page.click("summary")
        assert tab.text("p") == "dark" and tab.text("i") == "inside"
        tab.page.hover("b")
        assert tab.page.evaluate("getComputedStyle(document.querySelector('b')).color") == "rgb(1, 2, 3)"


def test_a_server_is_opened_and_a_picture_is_taken(browser: Browser, page: Path, tmp_path: Path) -> None:
    with served(tmp_path) as address, browser.tab(dark=True) as tab:
        tab.open(f"{address}/{page.name}")
        assert tab.text("p") == "dark"
        assert tab.requests[0] == f"{address}/page.html" and f"{address}/page.html" not in tab.strays()
        tab.screenshot(tmp_path / "pictures" / "whole.png", whole=True)
        tab.screenshot(tmp_path / "pictures" / "part.png", "div")
    sizes = {path.name: path.read_bytes()[16:24] for path in (tmp_path / "pictures").iterdir()}
    widths = {name: int.from_bytes(size[:4], "big") for name, size in sizes.items()}
    assert widths == {"whole.png": 1200, "part.png": 700}
