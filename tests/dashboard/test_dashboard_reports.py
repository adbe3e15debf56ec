"""Reports that the dashboard makes when they are asked for, and what it adds to optuna-dashboard's pages."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shown_study
from browser import Browser
from optuna.storages import RDBStorage
from wsgi_client import ask

from hpo import api
from hpo.dashboard import live_reports, study_note
from hpo.dashboard.application import build
from hpo.dashboard.live_reports import LiveReports
from hpo.dashboard.navigation import Linked, bar, insert, with_bar
from hpo.dashboard.report_files import Progress, with_reports
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.mirror import open_storage


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    made = shown_study.make(engine, trials=3, seeds=3)
    shown_study.finish(made, runs=2)
    yield made
    engine.dispose()


@pytest.fixture
def storage(ledger: Ledger) -> Iterator[RDBStorage]:
    made = open_storage(ledger.engine, reading=True)
    yield made
    made.remove_session()
    made.engine.dispose()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies that a report was made of, in order."""
    names: list[str] = []
    write = live_reports.write_report

    def noted(record: Any, folder: Path, study: str, *more: Any) -> Path:
        names.append(study)
        return write(record, folder, study, *more)

    monkeypatch.setattr(live_reports, "write_report", noted)
    return names


def test_a_report_is_made_when_it_is_asked_for(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build(storage, tmp_path / "reports")
    page = ask(app, "/reports/shown/")
    assert page.status == 200 and b"What shown compares" in page.body
    assert "sandbox allow-scripts" in page.headers["Content-Security-Policy"]
    assert ask(app, "/reports/shown/trials.csv").body.startswith(b"configuration,")
    assert made == ["shown"] and not (tmp_path / "reports").exists()
    shown_study.finish(ledger)
    assert ask(app, "/reports/shown/") == page and made == ["shown"], "once in a while is enough"
    monkeypatch.setattr(live_reports, "PAUSE", 0.0)
    assert ask(app, "/reports/shown/") != page and made == ["shown", "shown"]
    ask(app, "/reports/shown/reruns.csv")
    assert made == ["shown", "shown"], "nothing is new"
    assert ask(app, "/reports/shown/", "HEAD").body == b"" and ask(app, "/reports/shown").status == 404


def test_a_written_report_is_shown_until_more_is_finished(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, made: list[str]
) -> None:
    api.report(ledger, tmp_path / "reports")
    page = tmp_path / "reports" / "shown" / "report.html"
    page.write_text("as it was written")
    app = build(storage, tmp_path / "reports")
    assert ask(app, "/reports/shown/").body == b"as it was written" and not made
    os.utime(page, (0, time.time() - 1000))
    assert b"What shown compares" in ask(app, "/reports/shown/").body and made == ["shown"]
    shown_study.finish(ledger)
    os.utime(page, (0, time.time() + 1))  # a file's own clock may lag behind by some milliseconds
    assert ask(app, "/reports/shown/").body == b"as it was written"


def test_a_report_of_another_database_is_shown_as_it_is(storage: RDBStorage, tmp_path: Path, made: list[str]) -> None:
    (tmp_path / "reports" / "elsewhere").mkdir(parents=True)
    (tmp_path / "reports" / "elsewhere" / "report.html").write_text("from elsewhere")
    app = build(storage, tmp_path / "reports")
    assert ask(app, "/reports/elsewhere/").body == b"from elsewhere" and not made
    (tmp_path / "reports" / "<λ>").mkdir()
    (tmp_path / "reports" / "<λ>" / "report.html").write_text("<λ>")
    (tmp_path / "reports" / "away").symlink_to(tmp_path)
    (tmp_path / "report.html").write_text("secret")
    listed = ask(app, "/reports/").body.decode()
    links = '<a href="%3C%CE%BB%3E/">&lt;λ&gt;</a>, <a href="elsewhere/">elsewhere</a>'
    assert f"<p>Other reports: {links}<p>" in listed and "away" not in listed
    assert ask(app, "/reports/%3C%CE%BB%3E/").body.decode() == "<λ>"


def test_the_authors_words_are_in_it(ledger: Ledger, storage: RDBStorage, tmp_path: Path) -> None:
    (tmp_path / "shown.md").write_text("It was to be expected.")
    folder = LiveReports(storage.engine, tmp_path / "reports", analyses=tmp_path).folder(ledger.study)
    assert folder is not None and "It was to be expected." in (folder / "shown" / "README.md").read_text()


def test_a_report_that_cannot_be_made_is_one_sentence(
    storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_reports, "write_report", lambda *_: 1 / 0)
    app = build(storage, tmp_path)
    answer = ask(app, "/reports/shown/")
    assert answer.status == 500 and answer.body == b"This report cannot be made (ZeroDivisionError: division by zero)."
    assert "cannot be made" in caplog.text and ask(app, "/reports/").status == 200


def test_reports_share_plotly(storage: RDBStorage, tmp_path: Path) -> None:
    answer = ask(build(storage, tmp_path), "/reports/plotly.min.js")
    assert answer.headers["Content-Type"].startswith("text/javascript") and b"plotly.js v" in answer.body[:500]


def test_the_list_tells_how_far_studies_are(ledger: Ledger, storage: RDBStorage, tmp_path: Path) -> None:
    app = build(storage, tmp_path)
    assert study_note.refresh(ledger)
    page = ask(app, "/reports/").body.decode()
    assert "<td>shown</td><td>has open work</td><td>2/6</td><td>0/6</td>" in page and 'http-equiv="refresh"' in page
    number = storage.get_study_id_from_name("shown/report")
    assert f'<a href="shown/">report</a></td><td><a href="/dashboard/studies/{number}/note">summary</a>' in page
    shown_study.finish(ledger)
    page = ask(app, "/reports/").body.decode()
    assert "<td>finished</td><td>6/6</td><td>6/6</td>" in page and "refresh" not in page


def test_a_list_without_studies_looks_again(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    storage = open_storage(engine, reading=True)
    page = ask(build(storage, tmp_path), "/reports/").body.decode()
    assert "No studies yet" in page and 'http-equiv="refresh"' in page
    assert ask(build(storage, tmp_path), "/dashboard").status == 200
    storage.remove_session()
    storage.engine.dispose()
    engine.dispose()


def test_the_dashboard_links_summaries_and_reports(ledger: Ledger, storage: RDBStorage, tmp_path: Path) -> None:
    app = build(storage, tmp_path)
    assert '<span><b>shown</b> · <a href="/reports/shown/">report</a></span>' in ask(app, "/dashboard").body.decode()
    shown_study.make(ledger.engine, "newer", 2, 2)
    study_note.refresh(ledger)
    number = storage.get_study_id_from_name("shown/report")
    page = ask(app, f"/dashboard/studies/{number}")
    text = page.body.decode()
    assert f'<a href="/dashboard/studies/{number}/note">shown</a> · <a href="/reports/shown/">report</a>' in text
    assert text.index("newer") < text.index(">shown<") < text.index('<div id="dashboard">')
    assert page.headers["Content-Length"] == str(len(page.body)) and "default-src 'self'" in str(page.headers)
    unchanged = ask(app, "/dashboard", if_modified_since="Fri, 01 Jan 2100 00:00:00 GMT")
    assert unchanged.status == 200 and "Last-Modified" not in unchanged.headers
    assert ask(app, "/dashboard", "HEAD").body == b""
    assert b"hpo-bar" not in ask(app, "/static/bundle.js").body


def test_buttons_are_hidden_where_they_would_be_refused(storage: RDBStorage, tmp_path: Path) -> None:
    assert b"delete study" in ask(build(storage, tmp_path), "/dashboard").body
    assert b"delete study" not in ask(build(storage, tmp_path, editable=True), "/dashboard").body


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b"<html><body><p>x</body></html>", b"<html><body>+<p>x</body></html>"),
        (b'<html><body class="a b">x', b'<html><body class="a b">+x'),
        (b"<p>x", b"<p>x+"),
        (b"<html><body", b"<html><body+"),
        (b"", b"+"),
    ],
)
def test_the_bar_finds_its_place_in_any_page(page: bytes, expected: bytes) -> None:
    assert insert(page, b"+") == expected


@pytest.mark.parametrize(("status", "kind"), [("404 Not Found", "text/html"), ("200 OK", "application/json")])
def test_only_a_page_gets_the_bar(status: str, kind: str) -> None:
    def app(_: Any, start: Callable[..., Any]) -> Iterable[bytes]:
        start(status, [("Content-Type", kind)])
        return [b"{}"]

    assert ask(with_bar(app, list, False), "/dashboard").body == b"{}"


def test_the_bar_names_a_few_and_links_safely() -> None:
    text = bar([Linked(f'<i>"{number}&', None) for number in range(5)], True)
    assert len(re.findall("<span>", text)) == 3 and "<i>" not in text
    assert '<a href="/reports/%3Ci%3E%220%26/">' in text and '<a href="/reports/">all studies</a>' in text


@pytest.mark.parametrize("width", [1280, 400])
def test_long_names_leave_every_link_in_sight(width: int, browser: Browser, tmp_path: Path) -> None:
    names = [f"gradient_norm_variance_{number}_repeated" for number in range(3)]
    dashboard, listed = tmp_path / "bar.html", tmp_path / "list.html"
    dashboard.write_text(bar([Linked(name, 5) for name in names], False))
    studies = [Progress(name, "has open work", "200/200", "50/50", 5, True) for name in names]
    app = with_reports(lambda *_: [], tmp_path, lambda: studies)
    listed.write_bytes(ask(app, "/reports/").body)
    with browser.tab(width=width) as tab:
        tab.open(dashboard)
        nav = tab.page.locator("#hpo-bar").bounding_box()
        links = [
            tab.page.locator("#hpo-bar").get_by_text("all studies"),
            *tab.page.get_by_text("report", exact=True).all(),
        ]
        assert nav and len(links) == 4
        for link in links:
            box = link.bounding_box()
            assert box and nav["x"] <= box["x"] and box["x"] + box["width"] <= nav["x"] + nav["width"] + 0.5
        tab.open(listed)
        assert tab.overflow() <= 0


def test_a_page_without_its_studies_still_has_the_bar(
    storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hpo.dashboard.application.names", lambda _: 1 / 0)
    page = ask(build(storage, tmp_path), "/dashboard")
    assert page.status == 200 and b'<a href="/reports/">all studies</a>' in page.body
    assert "names no study" in caplog.text
