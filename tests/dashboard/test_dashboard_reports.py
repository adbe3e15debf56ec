"""Reports that the dashboard writes on request, and the list of studies."""

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import shown_study
from browser import Browser
from optuna.storages import RDBStorage
from wsgi_client import ask

from hpo import api, housekeeping
from hpo.dashboard import live_reports, study_note
from hpo.dashboard.application import build
from hpo.dashboard.live_reports import LiveReports
from hpo.dashboard.report_files import with_reports
from hpo.dashboard.study_rows import StudyRow
from hpo.storage.database import connect
from hpo.storage.ledger import Ledger
from hpo.storage.optuna.studies import open_storage


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A study with two of its six trials finished."""
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    study = shown_study.make(engine, trials=3, seeds=3)
    shown_study.finish(study, runs=2)
    yield study
    engine.dispose()


@pytest.fixture
def storage(ledger: Ledger) -> Iterator[RDBStorage]:
    opened = open_storage(ledger.engine, reading=True)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies whose report was written on request, in order."""
    names: list[str] = []
    write = live_reports.write_report

    def noted(record: Any, folder: Path, study: str, *more: Any) -> Path:
        names.append(study)
        return write(record, folder, study, *more)

    monkeypatch.setattr(live_reports, "write_report", noted)
    return names


def test_a_report_is_written_on_request(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build(storage, tmp_path / "reports")
    page = ask(app, "/reports/shown/")
    assert page.status == 200 and b"What shown compares" in page.body
    assert "sandbox allow-scripts" in page.headers["Content-Security-Policy"]
    assert ask(app, "/reports/shown/trials.csv").body.startswith(b"configuration,")
    assert written == ["shown"] and not (tmp_path / "reports").exists()
    shown_study.finish(ledger)
    assert ask(app, "/reports/shown/") == page and written == ["shown"], "the pause is not over"
    monkeypatch.setattr(live_reports, "PAUSE", 0.0)
    assert ask(app, "/reports/shown/") != page and written == ["shown", "shown"]
    ask(app, "/reports/shown/reruns.csv")
    assert written == ["shown", "shown"], "there are no new results"
    assert ask(app, "/reports/shown/", "HEAD").body == b"" and ask(app, "/reports/shown").status == 404


def test_a_written_report_is_served_until_more_runs_finish(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, written: list[str]
) -> None:
    api.report(ledger, tmp_path / "reports")
    page = tmp_path / "reports" / "shown" / "report.html"
    page.write_text("as it was written")
    app = build(storage, tmp_path / "reports")
    assert ask(app, "/reports/shown/").body == b"as it was written" and not written
    os.utime(page, (0, time.time() - 1000))
    assert b"What shown compares" in ask(app, "/reports/shown/").body and written == ["shown"]
    shown_study.finish(ledger)
    os.utime(page, (0, time.time() + 1))  # a file's own clock may lag behind by some milliseconds
    assert ask(app, "/reports/shown/").body == b"as it was written"


def test_a_report_of_what_was_merged_or_deleted_is_not_served(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reports, "PAUSE", 0.0)
    shown_study.finish(ledger)
    other = shown_study.make(ledger.engine, "other", trials=3, seeds=3, names=("AdamW", "SAM"))
    shown_study.finish(other)  # before the report
    live = LiveReports(storage.engine, tmp_path / "reports")
    api.report(ledger, tmp_path / "reports")
    assert live.folder("shown") is None
    time.sleep(0.05)  # more than a file's own clock may lag behind
    url = f"sqlite:///{tmp_path}/t.db"
    assert housekeeping.merge(url, "shown", "other") == ["SAM"]
    folder = live.folder("shown")
    assert folder is not None and "SAM" in (folder / "shown" / "README.md").read_text()
    housekeeping.delete(url, "shown")
    shown_study.make(ledger.engine, trials=3, seeds=3)
    fresh = live.folder("shown")
    assert fresh is not None and "Interim" in (fresh / "shown" / "README.md").read_text()


def test_reports_of_other_databases_are_listed_and_served(
    storage: RDBStorage, tmp_path: Path, written: list[str]
) -> None:
    for name in ("elsewhere", "<λ>"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "report.html").write_text(f"from {name}")
    (tmp_path / "reports" / "away").symlink_to(tmp_path)
    (tmp_path / "report.html").write_text("secret")
    app = build(storage, tmp_path / "reports")
    assert ask(app, "/reports/elsewhere/").body == b"from elsewhere" and not written
    assert ask(app, "/reports/%3C%CE%BB%3E/").body.decode() == "from <λ>"
    listed = ask(app, "/reports/").body.decode()
    links = '<a href="/reports/%3C%CE%BB%3E/">&lt;λ&gt;</a>, <a href="/reports/elsewhere/">elsewhere</a>'
    assert f"<p>Other reports: {links}" in listed and "away" not in listed


def test_a_live_report_has_the_authors_newest_text(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live_reports, "PAUSE", 0.0)
    api.report(ledger, tmp_path / "reports")
    live = LiveReports(storage.engine, tmp_path / "reports")
    assert live.folder("shown") is None
    (tmp_path / "studies").mkdir()
    text = tmp_path / "studies" / "shown.md"
    for number, words in enumerate(("It was to be expected.", "It was not.")):
        text.write_text(words)
        os.utime(text, (0, time.time() + 5 + number))  # later than the report by any clock
        folder = live.folder("shown")
        assert folder is not None and words in (folder / "shown" / "README.md").read_text()


def test_a_report_shows_step_times_that_are_measured_after_it(
    ledger: Ledger, storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reports, "PAUSE", 0.0)
    api.report(ledger, tmp_path / "reports")
    live = LiveReports(storage.engine, tmp_path / "reports")
    assert live.folder("shown") is None
    row = {"configuration": ledger.definition["baseline"], "population": 1, "ratio": 1.0, "low": 1.0, "high": 1.0}
    for number, ms in enumerate((12.3, 45.6)):
        measured = {"device": "a CPU", "threads": 1, "time": time.time() + 5 + number, "rows": [row | {"ms": ms}]}
        ledger.note_step_times(measured)
        folder = live.folder("shown")
        assert folder is not None and str(ms) in (folder / "shown" / "README.md").read_text()


def test_a_report_that_cannot_be_written_is_one_sentence(
    storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_reports, "write_report", lambda *_: 1 / 0)
    app = build(storage, tmp_path)
    answer = ask(app, "/reports/shown/")
    assert answer.status == 500 and b"(ZeroDivisionError: division by zero)" in answer.body
    assert "shown" in caplog.text and ask(app, "/reports/").status == 200


def test_reports_share_plotly(storage: RDBStorage, tmp_path: Path) -> None:
    answer = ask(build(storage, tmp_path), "/reports/plotly.min.js")
    assert answer.headers["Content-Type"].startswith("text/javascript") and b"plotly.js v" in answer.body[:500]


def test_the_list_shows_progress(ledger: Ledger, storage: RDBStorage, tmp_path: Path) -> None:
    app = build(storage, tmp_path)
    page = ask(app, "/reports/").body.decode()
    assert ">summary<" not in page
    assert study_note.refresh(ledger)
    page = ask(app, "/reports/").body.decode()
    assert "2/6 trials, 0/6 reruns" in page and 'data-reload="5"' in page and "no verdict yet" in page
    number = storage.get_study_id_from_name("shown/report")
    assert f'<a href="/dashboard/studies/{number}/note">summary</a>' in page
    shown_study.finish(ledger)
    page = ask(app, "/reports/").body.decode()
    assert "6/6 trials, 6/6 reruns" in page and 'data-reload="5"' not in page
    assert study_note.refresh(ledger, pause=0.0)
    page = ask(app, "/reports/").body.decode()
    assert re.search(r"<p>GNVR: .*better, Δ = \+1\.\d+ points", page)
    date = datetime.fromtimestamp(ledger.last_finished() or 0.0).astimezone()
    assert f"<time>{date:%Y-%m-%d %H:%M %Z}</time>" in page


def test_a_list_without_studies_reloads(tmp_path: Path) -> None:
    page = ask(with_reports(lambda *_: [], tmp_path, list), "/reports/").body.decode()
    assert "No studies yet" in page and 'http-equiv="refresh"' in page


@pytest.mark.parametrize("width", [1280, 400])
def test_a_list_of_long_names_fits_into_the_window(width: int, browser: Browser, tmp_path: Path) -> None:
    names = [f"gradient_norm_variance_{number}_repeated" for number in range(3)]
    rows = [StudyRow(name, "unfinished", "200/200", "50/50", 5, True) for name in names]
    listed = tmp_path / "list.html"
    listed.write_bytes(ask(with_reports(lambda *_: [], tmp_path, lambda: rows), "/reports/").body)
    with browser.tab(width=width) as tab:
        tab.open(listed)
        assert tab.overflow() <= 0


@pytest.mark.parametrize("width", [1280, 400])
def test_the_list_is_sorted_and_filtered(width: int, browser: Browser, tmp_path: Path) -> None:
    verdicts = {"a": ["SAM: worse, Δ = −2.00 points"], "b": ["SAM: better, Δ = +1.00 points"], "c": []}
    rows = [
        StudyRow(name, "finished", "9/9", "9/9", None, True, verdicts=verdicts[name], last=last, share=share)
        for name, last, share in (("b", 100.0, 0.5), ("c", None, 0.25), ("a", 99.0, 1.0))
    ]
    listed = tmp_path / "list.html"
    listed.write_bytes(ask(with_reports(lambda *_: [], tmp_path, lambda: rows), "/reports/").body)
    with browser.tab(width=width) as tab:
        tab.open(listed)
        shown = lambda: "".join(tab.page.locator("tbody tr:visible td:first-child a").all_inner_texts())  # noqa: E731
        header = lambda words: tab.page.locator("th button", has_text=words).click()  # noqa: E731
        assert shown() == "bca"
        for words, order in (("study", "abc"), ("study", "cba"), ("progress", "cba"), ("last result", "cab")):
            header(words)
            assert shown() == order, words
        tab.page.fill("#filter", "sam BETTER")
        assert shown() == "b"
        tab.page.fill("#filter", "sam")
        assert shown() == "ab"
        tab.page.reload()
        assert shown() == "ab" and tab.page.input_value("#filter") == "sam"
        tab.page.fill("#filter", "")
        assert shown() == "cab" and tab.overflow() <= 0 and not tab.errors
