"""The browser of the tests sees what a page does; otherwise no check of a page could fail."""

from pathlib import Path

from browser import Browser

PAGE = """<!doctype html><title>t</title>
<style>p { display: none } @media (prefers-color-scheme: dark) { p { display: block } }
div { width: 700px } b:hover { color: rgb(1, 2, 3) }</style>
<details><summary>more</summary><i>inside</i></details><p>dark</p><div>wide</div><b>hover</b>
<script>fetch("http://127.0.0.1:9/elsewhere").catch(() => 0);
setTimeout(() => { throw Error("broken script") })</script>
"""


def test_requests_errors_and_layout_are_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    with browser.tab(width=600) as tab:
        tab.open(page)
        for _ in range(100):  # the console's lines arrive later
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
