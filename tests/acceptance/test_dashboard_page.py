"""The dashboard in a real browser while a study runs: what a reader finds there, and what nobody may do."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import shown_study
from browser import FOREIGN, Browser, Tab
from fork_server import ROOT, ForkServer
from served_dashboard import Served, served, until

from hpo.storage.database import connect
from hpo.storage.ledger import load_study, names
from hpo.storage.optuna.mirror import Mirror

PICTURES = 900.0  # seconds that the study of the pictures may train, on a machine with other work
FIGURE = '[id="user-defined-plot:hpo-figure-{}"]'


@pytest.fixture(scope="module")
def finished(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard of a finished study, which tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    engine = connect(f"sqlite:///{folder}/t.db")
    ledger = shown_study.make(engine, trials=4, seeds=5)
    shown_study.finish(ledger)
    Mirror(ledger).repair()
    engine.dispose()
    with served(fork_server, f"sqlite:///{folder}/t.db", folder) as dashboard:
        yield dashboard


def open_note(tab: Tab, dashboard: Served) -> None:
    """From the start page, which links the note as soon as there is one."""
    link = tab.page.get_by_role("link", name="summary", exact=True)
    until(lambda: _shown(tab, dashboard.address) and link.count())
    link.click()
    tab.page.wait_for_url("**/note")


def _shown(tab: Tab, address: str) -> str:
    tab.open(address)
    return tab.text()


class Running(NamedTuple):
    """A study that a worker of another process trains.

    Attributes:
        more: lets it finish a few more trials, where it waits for that. end: lets it finish all and waits for it.
        patience: seconds that anything of it may take.
    """

    study: str
    baseline: str
    title: str
    trials: int
    reruns: int
    more: Callable[[], None]
    end: Callable[[], None]
    patience: float = 60.0


@contextmanager
def made_up(fork_server: ForkServer, url: str, folder: Path) -> Iterator[Running]:
    """Results that follow from settings and seeds without training."""
    engine = connect(url)
    shown_study.make(engine, "gnvr", trials=15, seeds=8)
    engine.dispose()
    allowed, numbers = folder / "allowed", count(2, 2)  # populations of two: 4, 8 and 12 of 30 trials
    allowed.write_text("0")
    worker = fork_server.start("shown_study:work", url, "gnvr", allowed=str(allowed), output=folder / "worker.txt")

    def more() -> None:
        allowed.write_text(str(next(numbers)))

    def end() -> None:
        allowed.write_text("1000")
        assert worker.wait() == 0, worker.text()

    try:
        yield Running("gnvr", "AdamW", "What gnvr compares", 30, 16, more, end)
    finally:
        worker.kill()


@contextmanager
def trained(url: str) -> Iterator[Running]:
    """The published protocol: what pictures show must have been measured."""
    command = [sys.executable, "-m", "hpo", "worker", "gnvr_published", "--population", "5", "--threads", "1"]
    engine = connect(url)
    worker = subprocess.Popen(command, env=os.environ | {"HPO_STORAGE": url}, cwd=ROOT, stdout=subprocess.DEVNULL)

    def end() -> None:
        assert worker.wait(PICTURES) == 0

    try:
        until(lambda: names(engine))
        title = load_study(engine, "gnvr_published").text["title"]
        yield Running("gnvr_published", "Baseline", title, 40, 10, lambda: None, end, PICTURES)
    finally:
        worker.kill()
        worker.wait()
        engine.dispose()


@pytest.fixture
def running(request: pytest.FixtureRequest, fork_server: ForkServer, tmp_path: Path) -> Iterator[Running]:
    url = f"sqlite:///{tmp_path}/t.db"
    pictures = request.config.getoption("--screenshots")
    with trained(url) if pictures else made_up(fork_server, url, tmp_path) as study:
        yield study


def test_a_study_is_followed_while_it_runs(
    browser: Browser, fork_server: ForkServer, running: Running, tmp_path: Path, screenshots: Path
) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with served(fork_server, url, tmp_path) as dashboard, browser.tab(height=800) as tab:
        tab.open(f"{dashboard.address}/reports/")
        running.more()
        trials = until(lambda: _finished(tab), running.patience)
        assert trials < running.trials
        running.more()
        until(lambda: _finished(tab) > trials, running.patience)  # it loads itself again
        _trials_grow(tab, dashboard, running)
        running.end()
        open_note(tab, dashboard)
        until(lambda: f"{running.reruns} of {running.reruns} reruns" in tab.text("main"))
        assert f"{running.trials} of {running.trials} trials" in tab.text("main")
        assert f"GNVR against {running.baseline}: " in tab.text("main")
        tab.screenshot(screenshots / "note.png")
        tab.page.click('a:has(svg[data-testid="AutoGraphIcon"])')
        for number in (1, 2, 3, 4):
            title = tab.page.locator(f"{FIGURE.format(number)} .gtitle")
            assert (title.text_content() or "").startswith(f"Figure {number}. ")
        tab.width(1200, 1080)
        tab.page.locator(FIGURE.format(4)).evaluate("figure => figure.scrollIntoView({block: 'end'})")
        tab.screenshot(screenshots / "figures.png")
        tab.page.go_back()
        tab.page.click(f'main a[href="/reports/{running.study}/"]')
        assert tab.text("h1") == running.title and f"GNVR against {running.baseline}" in tab.text("table")
        tab.page.wait_for_selector("#validation-accuracy .main-svg")
        assert not tab.strays() and not tab.errors


def _finished(tab: Tab) -> int:
    """The trials of the only study in the list."""
    return int(re.search(r"(\d+)/\d+ trials", tab.text("td:nth-child(3)"))[1])  # type: ignore[index]


def _trials_grow(tab: Tab, dashboard: Served, running: Running) -> None:
    """A study's own page gets new trials without being loaded again."""
    tab.open(f"{dashboard.address}/dashboard")
    tab.page.click(f"text={running.study}/{running.baseline}/tune")
    tab.page.click('a:has(svg[data-testid="ViewListIcon"])')
    shown = tab.page.get_by_text(re.compile(r"^Trial \d+$"))
    shown.first.wait_for()
    before, requests = shown.count(), len([url for url in tab.requests if url.endswith("/dashboard")])
    running.more()
    until(lambda: shown.count() > before, running.patience)
    assert len([url for url in tab.requests if url.endswith("/dashboard")]) == requests


def test_the_panels_of_a_figure_fit_into_its_card(browser: Browser, fork_server: ForkServer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    engine = connect(url)
    rivals = ["GNVR", "Sharpness-aware minimization", "ASAM", "Clipping by sample", "ROGC", "SGSC", "GAM, published"]
    shown_study.finish(shown_study.make(engine, "many", 2, 5, ["AdamW", *rivals]))
    engine.dispose()
    with served(fork_server, url, tmp_path) as dashboard, browser.tab(width=1280) as tab:
        open_note(tab, dashboard)
        tab.page.click('a:has(svg[data-testid="AutoGraphIcon"])')
        figure = FIGURE.format(3)
        tab.page.wait_for_selector(f"{figure} .x7title")
        card = _box(tab, figure)
        texts = tab.page.locator(f"{figure} text:visible")
        boxes = [box for box in (text.bounding_box() for text in texts.all()) if box and box["width"]]
        assert len(boxes) > 10
        for number, box in enumerate(boxes):
            assert _inside(box, card), texts.nth(number).text_content()
            assert not any(_overlap(box, other) for other in boxes[:number]), texts.nth(number).text_content()


def _box(tab: Tab, selector: str) -> dict[str, float]:
    box = tab.page.locator(selector).first.bounding_box()
    assert box is not None
    return dict(box)


def _inside(box: Any, outer: Any) -> bool:
    across = outer["x"] <= box["x"] and box["x"] + box["width"] <= outer["x"] + outer["width"]
    return across and outer["y"] <= box["y"] and box["y"] + box["height"] <= outer["y"] + outer["height"]


def _overlap(left: Any, right: Any) -> bool:
    return all(
        left[start] + 1 < right[start] + right[size] and right[start] + 1 < left[start] + left[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_nothing_can_be_changed_from_the_page(browser: Browser, finished: Served) -> None:
    with browser.tab() as tab:
        tab.open(f"{finished.address}/dashboard")
        tab.page.wait_for_selector("text=shown/AdamW/tune")
        for method, path in (("DELETE", "1"), ("POST", ""), ("PUT", "1/note"), ("POST", "1/rename")):
            assert _status(tab, f"/api/studies/{path}", method) == 403
        tab.open(f"{finished.address}/dashboard")
        tab.page.wait_for_selector("text=shown/AdamW/tune")


def _status(tab: Tab, path: str, method: str = "GET") -> int:
    """Of a request that the open page makes; 0 where the browser does not let it, or keeps the answer from it."""
    program = """async ([path, method]) => {
        try { return (await fetch(path, {method, body: method == "GET" ? undefined : "{}"})).status }
        catch { return 0 }
    }"""
    return tab.page.evaluate(program, [path, method])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Another server's page."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = partial(Quiet, directory=str(tmp_path / "elsewhere"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_of_others_can_do_nothing(browser: Browser, finished: Served, elsewhere: str) -> None:
    with browser.tab() as tab:
        tab.open(elsewhere)
        answers: list[int] = []
        tab.page.on("response", lambda response: answers.append(response.status))
        for method in ("GET", "POST", "DELETE"):
            assert _status(tab, f"{finished.address}/api/studies/1", method) == 0
        tab.page.evaluate(
            "address => fetch(address, {method: 'POST', mode: 'no-cors', body: '{}'})",
            f"{finished.address}/api/studies",
        )
        tab.page.evaluate(
            """address => new Promise(done => {
                const frame = document.body.appendChild(document.createElement("iframe"));
                frame.onload = done; frame.src = address;
            })""",
            f"{finished.address}/dashboard",
        )
        assert [frame.url for frame in tab.page.frames[1:]] == ["chrome-error://chromewebdata/"]
        tab.page.set_content(
            f'<form method="post" action="{finished.address}/api/studies"><button>win a prize</button></form>'
        )
        tab.page.click("button")
        assert "Cross-origin requests are not allowed" in tab.text()
        # The answer to a request of the page for itself, a name that leads here: refused as well.
        tab.open(finished.address.replace("127.0.0.1", FOREIGN))
        assert "Unknown Host header" in tab.text() and answers[-1] == 403
    engine = connect(finished.url)
    assert names(engine) == ["shown"]
    engine.dispose()


def test_a_report_reaches_nothing_and_nothing_beside_it_is_served(browser: Browser, finished: Served) -> None:
    (finished.reports.parent / "secret.html").write_text("secret")
    with browser.tab() as tab:
        tab.open(f"{finished.address}/reports/shown/")
        tab.page.wait_for_selector(".js-plotly-plot .main-svg")
        for address in ("/api/studies", "../../api/studies", f"{finished.address}/api/studies"):
            assert _status(tab, address) == 0
        assert tab.page.evaluate("origin") == "null"
        for path in ("..%2fsecret.html", "%2e%2e%2fsecret.html", "shown/..%2f..%2fsecret.html", "..%5csecret.html"):
            answer = tab.page.goto(f"{finished.address}/reports/{path}")
            assert answer is not None and answer.status == 404 and "secret" not in tab.text()


def test_a_page_shows_that_the_database_is_unavailable_and_recovers(
    browser: Browser, fork_server: ForkServer, tmp_path: Path
) -> None:
    database, elsewhere = tmp_path / "database", tmp_path / "elsewhere"
    database.mkdir()
    url = f"sqlite:///{database}/t.db"
    engine = connect(url)
    ledger = shown_study.make(engine, trials=2, seeds=2)
    shown_study.finish(ledger, runs=1)
    Mirror(ledger).repair()
    engine.dispose()
    with served(fork_server, url, tmp_path) as dashboard, browser.tab() as tab:
        open_note(tab, dashboard)
        database.rename(elsewhere)
        until(lambda: "unavailable" in _shown(tab, f"{dashboard.address}/reports/"))
        tab.open(f"{dashboard.address}/dashboard")
        assert "unavailable" in tab.text()
        elsewhere.rename(database)
        tab.page.wait_for_selector("text=shown/AdamW/tune")  # the page reloads itself
        shown_study.finish(load_study(engine, "shown"))
        until(lambda: "4 of 4 reruns" in _note(tab, dashboard))
    engine.dispose()


def _note(tab: Tab, dashboard: Served) -> str:
    open_note(tab, dashboard)
    return tab.text("main")
