"""The system's Chromium without a window, driven by Playwright; nothing is downloaded.

def test_something(browser: Browser) -> None:
    with browser.tab(width=400, dark=True) as tab:
        tab.open(folder / "report.html")      # or "http://127.0.0.1:8080/"
        tab.page.click("summary")             # all that Playwright's Page offers
        assert "better" in tab.text("blockquote")
        assert not tab.strays(), tab.strays()
        assert not tab.errors
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Error, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INSIDE = ("data:", "blob:", "about:")  # addresses that no request leaves the page for
FOREIGN = "evil.example"  # a name that leads to this machine, as a hostile page's own name may
TIMEOUT = 60.0  # seconds that a page may take on a busy machine


class Tab:
    """A page with its own browser profile.

    Attributes:
        page: Playwright's own Page: `click`, `hover`, `locator`, `evaluate`, `wait_for_selector`, …
        requests: the address of every request that the page has made, its own included, in order.
        errors: exceptions of its scripts, and errors in the browser's console.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._own: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", self._failed)
        page.on("console", self._log_error)

    def open(self, address: str | Path) -> None:
        """Opens a URL or a file and waits until it is loaded."""
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        self._own.append(url.split("?")[0].split("#")[0] if url.startswith("file:") else "/".join(url.split("/")[:3]))
        self.page.goto(url)

    def strays(self, *allowed: str) -> list[str]:
        """Requests for anything but what was opened: the files themselves, or their servers; and `allowed` prefixes."""
        known = [*INSIDE, *self._own, *allowed]
        return [url for url in self.requests if not any(_below(url, prefix) for prefix in known)]

    def width(self, width: int, height: int = 900) -> None:
        """Gives the window that many CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def dark(self, on: bool = True) -> None:
        """Sets the colour scheme that the reader prefers."""
        self.page.emulate_media(color_scheme="dark" if on else "light")

    def text(self, selector: str = "body") -> str:
        """The visible text of the first match; waits until it is visible."""
        match = self.page.locator(selector).first
        match.wait_for()
        return match.inner_text()

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def screenshot(self, path: Path, selector: str | None = None, whole: bool = False) -> None:
        """A PNG of the window, of the whole page, or of the first match."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if selector:
            self.page.locator(selector).first.screenshot(path=path, animations="disabled")
        else:
            self.page.screenshot(path=path, full_page=whole, animations="disabled")

    def _failed(self, error: "Error") -> None:
        self.errors.append(str(error))

    def _log_error(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")


class Browser:
    """Chromium; close it, or use the fixture `browser`."""

    def __init__(self) -> None:
        playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[test]'")
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip("no Chromium here (on Debian: apt-get install chromium)")
        self._driver = playwright.sync_playwright().start()
        try:
            self._browser = self._driver.chromium.launch(
                executable_path=program,
                timeout=TIMEOUT * 1000,
                args=[f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"],
            )
        except BaseException:
            self._driver.stop()
            raise

    @contextmanager
    def tab(self, width: int = 1200, height: int = 900, dark: bool = False, **options: Any) -> Iterator[Tab]:
        """A new page with nothing stored; `options` as for Playwright's `new_context`, such as `http_credentials`."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
            **options,
        )
        context.set_default_timeout(TIMEOUT * 1000)
        try:
            yield Tab(context.new_page())
        finally:
            context.close()

    def close(self) -> None:
        self._browser.close()
        self._driver.stop()


def _below(url: str, prefix: str) -> bool:
    """Whether an address is `prefix` or lies below it; the same first letters are not enough."""
    rest = url.removeprefix(prefix)
    return rest != url and (not rest or prefix.endswith((":", "/")) or rest[0] in "/?#")
