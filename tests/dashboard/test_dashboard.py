"""The dashboard: its pages, the requests that it refuses, and that nothing outside the reports can be read."""

import base64
import itertools
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
import shown_study
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from postgres_server import PostgresServer
from storage_study import finish_all, make
from wsgi_client import ask

from hpo.dashboard.application import build
from hpo.dashboard.server import log_handler, serve
from hpo.errors import HpoError, UsageError
from hpo.output import logging_to
from hpo.storage.database import connect, is_available
from hpo.storage.optuna.mirror import Mirror
from hpo.storage.optuna.studies import open_storage

PAGE = "<!doctype html><title>t</title><script>1</script>"
CHANGING = ("POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "delete", "PROPFIND")
SHOWN = ["small/A/rerun", "small/A/tune", "small/B/rerun", "small/B/tune"]


def basic(password: str, user: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def studies(app: Any) -> list[str]:
    return sorted(entry["study_name"] for entry in ask(app, "/api/studies").json()["study_summaries"])


def close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one finished study of two configurations, mirrored for Optuna."""
    path = tmp_path_factory.mktemp("database") / "t.db"
    engine = connect(f"sqlite:///{path}")
    ledger = make(engine, "small", trials=2, seeds=1)
    finish_all(ledger)
    Mirror(ledger).repair()
    engine.dispose()
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reports folder with one report, and secrets next to it and linked from inside it."""
    parent = tmp_path_factory.mktemp("parent")
    folder = parent / "reports"
    for path, text in {
        "small/report.html": PAGE,
        "small/README.md": "# t",
        "small/figures/1-λ.png": "png",
        "small/.hidden.json": "secret",
        "small/key.pem": "secret",
        "../secret.html": "secret",
        "../reports-secret/report.html": "secret",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "small" / "folder.html").mkdir()
    (folder / "small" / "out.html").symlink_to(parent / "secret.html")
    (folder / "away").symlink_to(parent)
    (folder / "circle.html").symlink_to(folder / "circle.html")
    (folder / "again").symlink_to(folder / "small")
    return folder


@pytest.fixture(scope="module")
def opened(original: Path, reports: Path) -> Iterator[Callable[..., Any]]:
    """Builds an application with the options of `build`, over a database that nothing can change."""
    storage = open_storage(connect(f"sqlite:///{original}"), reading=True)
    yield cache(lambda **options: build(storage, reports, **options))
    close(storage)


@pytest.fixture
def url(original: Path, tmp_path: Path) -> str:
    """A copy of the database that a test may change."""
    shutil.copy(original, tmp_path / "t.db")
    return f"sqlite:///{tmp_path}/t.db"


@pytest.fixture
def reading(url: str) -> Iterator[RDBStorage]:
    storage = open_storage(connect(url), reading=True)
    yield storage
    close(storage)


def test_studies_and_trials_are_shown(opened: Callable[..., Any]) -> None:
    app = opened()
    start = ask(app)
    assert (start.status, start.headers["Location"]) == (302, "/reports/")
    assert b"bundle.js" in ask(app, "/dashboard").body
    assert studies(app) == SHOWN
    summaries = ask(app, "/api/studies").json()["study_summaries"]
    tune = next(entry for entry in summaries if entry["study_name"] == "small/A/tune")
    detail = ask(app, f"/api/studies/{tune['study_id']}?after=0").json()
    assert [trial["state"] for trial in detail["trials"]] == ["Complete", "Complete"]
    assert len(detail["best_trials"]) == 1
    assert b"Param learning_rate" in ask(app, f"/csv/{tune['study_id']}").body
    assert len(ask(app, "/static/bundle.js").body) > 10**6


def test_optuna_studies_are_in_the_order_of_the_study(url: str, tmp_path: Path) -> None:
    engine = connect(url)
    other = make(engine, "another", trials=2, seeds=2, tuning_runs=2)
    finish_all(other)
    Mirror(other).repair()
    Mirror(other).report_study()
    engine.dispose()
    storage = open_storage(connect(url))
    optuna.create_study(study_name="mine", storage=storage)
    answer = ask(build(storage, tmp_path), "/api/studies").json()["study_summaries"]
    parts = [f"{name}/{part}" for name in "AB" for part in ("tune", "tune/r2", "rerun", "rerun/r2")]
    small = [f"small/{name}/{phase}" for name in "AB" for phase in ("tune", "rerun")]
    names = ["another/report", *(f"another/{part}" for part in parts), *small, "mine"]
    assert [entry["study_name"] for entry in answer] == names
    close(storage)


@pytest.mark.parametrize(("trials", "shown"), [(49, False), (50, True)])
def test_importances_need_enough_trials(trials: int, shown: bool, tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    ledger = shown_study.make(engine, trials=trials, seeds=1)
    shown_study.finish(ledger)
    Mirror(ledger).repair()
    storage = open_storage(engine)
    app = build(storage, tmp_path)
    number = storage.get_study_id_from_name("shown/GNVR/tune")
    [*importances] = ask(app, f"/api/studies/{number}/param_importances").json()["param_importances"]
    assert bool(importances) == shown
    assert ask(app, "/api/studies/99/param_importances").status == 404
    theirs = optuna.create_study(study_name="theirs", storage=storage)  # a study that is not hpo's has Optuna's own
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0 * trial.suggest_float("y", 0, 1), n_trials=6)
    assert ask(app, f"/api/studies/{theirs._study_id}/param_importances").json()["param_importances"][0]
    close(storage)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.1"])
def test_loopback_hosts_are_served(opened: Callable[..., Any], host: str) -> None:
    assert ask(opened(), "/api/studies", host=host).status == 200
    assert ask(opened(), "/api/studies", host=host, origin=f"http://{host}".lower()).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080", "", None),
        *("127.0.0.1@evil.example", "evil.example/127.0.0.1", "127.0.0.1, evil.example", "127.0.0.1:x", "[::1", "::1"),
        *("0.0.0.0:8080", "192.168.0.7:8080", "127.0.0.1:8080\tevil", "localhost."),
    ],
)
def test_a_foreign_host_is_refused(opened: Callable[..., Any], host: str | None) -> None:
    answer = ask(opened(), "/api/studies", host=host)
    assert answer.status == 403 and b"small" not in answer.body


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "null", "", "http://localhost:8080", "http://127.0.0.1:8081", "ftp://127.0.0.1:8080"),
        *("http://127.0.0.1:8080.evil.example", "http://127.0.0.1:8080@evil.example", "http://127.0.0.1"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_foreign_origin_is_refused(opened: Callable[..., Any], origin: str, method: str) -> None:
    app = opened(editable=True)
    assert ask(app, "/api/studies/1", method, origin=origin).status == 403
    assert studies(app) == SHOWN


@pytest.mark.parametrize("method", CHANGING)
def test_nothing_can_be_changed(opened: Callable[..., Any], method: str) -> None:
    app = opened()
    body = json.dumps({"study_name": "new", "directions": ["minimize"], "version": 1, "body": "x"}).encode()
    for path in ("studies/1", "studies", "studies/1/rename", "studies/1/note", "trials/1/tell"):
        answer = ask(app, f"/api/{path}", method, body)
        assert answer.status == 403 and "--allow-edit" in answer.json()["reason"]
    assert ask(app, "/api/studies/1", x_http_method_override=method, x_http_method=method).status == 200
    assert studies(app) == SHOWN


def test_the_database_itself_refuses_changes(reading: RDBStorage, postgresql: PostgresServer) -> None:
    """In case a request that changes something gets past the checks."""
    url = postgresql.create()
    engine = connect(url)
    Mirror(make(engine, "small")).report_study()
    on_server = open_storage(engine, reading=True)
    for storage, reason in ((reading, "readonly"), (on_server, "read-only transaction")):
        before = len(storage.get_all_studies())
        with pytest.raises(StorageInternalError) as caught:
            storage.delete_study(1)
        assert reason in str(caught.value.__cause__)
        assert len(storage.get_all_studies()) == before > 0
    close(on_server)
    engine.dispose()
    postgresql.drop(url)


def test_a_reader_does_not_block_a_writer(reading: RDBStorage, url: str) -> None:
    engine = connect(url)
    with reading.engine.begin() as reader, engine.begin() as writer:
        count = sa.text("SELECT count(*) FROM hpo_studies WHERE name = 'small'")
        assert reader.scalar(count) == 1
        writer.execute(sa.text("UPDATE hpo_studies SET name = 'other'"))
        assert reader.scalar(count) == 1
    engine.dispose()


def test_an_editable_dashboard_deletes(url: str, reports: Path) -> None:
    storage = open_storage(connect(url))
    app = build(storage, reports, editable=True)
    assert ask(app, "/api/studies/1", "DELETE", b"{}").status == 204
    assert len(studies(app)) == 3
    close(storage)


def test_the_password_is_required(opened: Callable[..., Any]) -> None:
    app = opened(password="sésame: open")
    assert ask(app, "/api/studies", authorization=basic("sésame: open")).status == 200
    assert ask(app, "/reports/small/", authorization=basic("sésame: open", "")).status == 200
    refused = ask(app, "/api/studies")
    assert refused.status == 401 and refused.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    "header",
    [
        *("", "Basic", "Basic ", "Basic !!!", "Basic =", "Bearer sesame", "sesame", basic(""), basic("Sesame")),
        *(basic("sesame "), basic("sesam"), "Basic " + base64.b64encode(b"sesame").decode(), "Basic \xff"),
        *(basic("sesame").replace("Basic", "Digest"), basic("sesame") + "!"),
    ],
)
def test_a_wrong_password_is_refused(reading: RDBStorage, header: str) -> None:
    app = build(reading, password="sesame", editable=True)
    for path, method in (("/api/studies", "GET"), ("/reports/small/", "GET"), ("/api/studies/1", "DELETE")):
        answer = ask(app, path, method, authorization=header)
        assert answer.status == 401 and b"small" not in answer.body
    assert ask(app, "/api/studies", authorization=basic("sesame")).status == 200


def test_other_machines_may_use_its_name_and_its_addresses(opened: Callable[..., Any]) -> None:
    app = opened(host="0.0.0.0", password="sesame")
    for host in ("127.0.0.1:8080", "localhost:8080", socket.gethostname(), "192.168.0.7:8080", "[fe80::1]:8080"):
        assert ask(app, host=host, authorization=basic("sesame")).status == 302
    for host in ("evil.example", "192.168.0.7.evil.example", "1.2.3"):
        assert ask(app, host=host, authorization=basic("sesame")).status == 403
    assert ask(app, authorization=basic("sesame"), origin="http://192.168.0.7").status == 403


def test_reports_are_listed_and_served(opened: Callable[..., Any]) -> None:
    app = opened()
    listed = ask(app, "/reports/").body.decode()
    assert '<a href="/reports/small/">small</a>' in listed
    assert "<p>finished<p" in listed and "4/4 trials, 2/2 reruns" in listed
    assert ask(app, "/reports").headers["Location"] == "/reports/"
    page = ask(app, "/reports/small/")
    assert (page.status, page.body) == (200, PAGE.encode()) and page.headers["Content-Type"].startswith("text/html")
    assert ask(app, "/reports/small/report.html") == page == ask(app, "/reports/again/")
    assert ask(app, "/reports/small/README.md").headers["Content-Type"] == "text/plain; charset=utf-8"
    assert ask(app, "/reports/small/figures/1-%CE%BB.png").body == b"png"
    assert ask(app, "/reports/small/", "HEAD") == page._replace(body=b"")
    assert ask(opened(editable=True), "/reports/small/report.html", "DELETE").status == 405


def test_a_report_runs_only_its_own_scripts(opened: Callable[..., Any]) -> None:
    headers = ask(opened(), "/reports/small/").headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and "connect-src" not in policy  # nothing can be fetched
    assert policy["script-src"] == "'unsafe-inline' 'self'"  # its own, and the plotly.js that all reports share
    assert "allow-same-origin" not in policy["sandbox"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"


def test_study_names_are_escaped(reading: RDBStorage, url: str, tmp_path: Path) -> None:
    engine = connect(url)
    make(engine, '<script>"&', digest="e")
    engine.dispose()
    app = build(reading, tmp_path / "none")
    listed = ask(app, "/reports/").body.decode()
    assert "<p>unfinished<p" in listed and listed.count("<script>") == 1  # the page's own
    assert "&lt;script&gt;&#34;&amp;" in listed and '<a href="/reports/%3Cscript%3E%22%26/">' in listed
    assert ask(app, "/reports/nobody/").status == 404


UNREADABLE = [
    "../secret.html", "small/../../secret.html", "small/../report.html", "..%2fsecret.html", "%2e%2e/secret.html",
    "%2e%2e%2fsecret.html", "small/%2e%2e/%2e%2e/secret.html", "%252e%252e%252fsecret.html", "..%255csecret.html",
    "..%5csecret.html", "..\\secret.html", "small/..%5c..%5csecret.html", "....//secret.html", "./small/README.md",
    "/small/README.md", "//etc/passwd", "%2fetc%2fpasswd", "/etc/hosts.html", "small//README.md",
    "%c0%ae%c0%ae/secret.html", "%c0%ae%c0%ae%c0%afsecret.html", "%uff0e%uff0e/secret.html", "%ff%fe",
    "..%00/secret.html", "small/README.md%00.html", "%00", "..;/secret.html", "../reports-secret/report.html",
    "small/out.html", "away/secret.html", "away/reports/small/README.md/", "circle.html", "away/t.db",
    "small/.hidden.json", "small/key.pem", "small/folder.html", "small/figures", "small",
]  # fmt: skip


@pytest.mark.parametrize("path", [*UNREADABLE, "a" * 5000])
def test_nothing_else_can_be_read(opened: Callable[..., Any], path: str) -> None:
    answer = ask(opened(), f"/reports/{path}")
    assert answer.status == 404 and b"secret" not in answer.body and b"root:" not in answer.body


def test_a_lost_database_file_is_unavailable_until_it_is_back(reading: RDBStorage, tmp_path: Path) -> None:
    app = build(reading)
    assert studies(app) == SHOWN
    files = [path for path in tmp_path.glob("t.db*") if path.is_file()]
    (tmp_path / "aside").mkdir()
    for path in files:
        shutil.copy(path, tmp_path / "aside")
        path.unlink()
    page = ask(app, "/dashboard")
    assert page.status == 503 and b"unavailable" in page.body and b'http-equiv="refresh"' in page.body
    assert ask(app, "/api/studies").status == 503 and "unavailable" in ask(app, "/api/studies").json()["reason"]
    assert ask(app, "/reports/").status == 503
    assert not (tmp_path / "t.db").exists(), "a new database replaced the lost one"
    for path in (tmp_path / "aside").iterdir():
        shutil.copy(path, tmp_path)
    assert ask(app, "/dashboard").status == 200 and studies(app) == SHOWN


@pytest.mark.parametrize(
    "target",
    ["/api/studies", "/api/studies/1", "/csv/1", "/reports/", "/reports/shown/", "/api/studies/1/param_importances"],
)
def test_a_database_lost_during_a_request_is_unavailable(
    target: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, elsewhere = tmp_path / "database", tmp_path / "elsewhere"
    folder.mkdir()
    engine = connect(f"sqlite:///{folder}/t.db")
    ledger = shown_study.make(engine, trials=2, seeds=2)
    shown_study.finish(ledger)
    Mirror(ledger).repair()
    engine.dispose()
    statuses: list[int] = []
    while not statuses or elsewhere.exists():  # the database is lost at the first statement, at the second, ...
        if statuses:
            elsewhere.rename(folder)
        storage = open_storage(connect(f"sqlite:///{folder}/t.db"), reading=True)
        app = build(storage, tmp_path / "none")
        _lose(storage, folder, elsewhere, after=len(statuses))
        try:
            with logging_to(log_handler(storage.engine)):
                statuses.append(ask(app, target).status)
        finally:
            close(storage)
    assert set(statuses) == {200, 503} and statuses[-1] == 200, statuses
    assert capfd.readouterr() == ("", "")


def _lose(storage: RDBStorage, folder: Path, elsewhere: Path, after: int) -> None:
    """Moves the folder of the database away after this number of statements."""
    left = itertools.count(-after)

    @sa.event.listens_for(storage.engine, "before_cursor_execute")
    def move(*_: Any) -> None:
        if next(left) == 0:
            folder.rename(elsewhere)
            storage.engine.dispose()


def test_warnings_do_not_ask_the_database() -> None:
    """The server's loop logs them while it holds a lock."""
    assert log_handler(None).filter(logging.makeLogRecord({"levelno": logging.WARNING}))


def test_a_file_that_is_no_longer_a_database_is_unavailable(url: str, tmp_path: Path) -> None:
    engine = connect(url)
    assert is_available(engine)
    for text in ("once upon a time " * 100, ""):
        engine.dispose()
        (tmp_path / "t.db").write_text(text)
        assert not is_available(engine), text
    engine.dispose()


def test_every_problem_of_a_start_is_one_sentence(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HPO_DASHBOARD_PASSWORD", raising=False)

    def refusal(kind: type[HpoError], storage: str = url, host: str = "127.0.0.1", port: int = 0) -> str:
        with pytest.raises(kind) as caught:
            serve(storage, host, port, tmp_path, False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", "*", ""):
        assert "HPO_DASHBOARD_PASSWORD" in refusal(UsageError, host=host)
        monkeypatch.setenv("HPO_DASHBOARD_PASSWORD", "")
    assert "none.db" in refusal(HpoError, f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port" in refusal(UsageError, port=taken.getsockname()[1])
    monkeypatch.setenv("HPO_DASHBOARD_PASSWORD", "sesame")
    assert "--host" in refusal(UsageError, host="192.0.2.1")
    assert "--host" in refusal(UsageError, host="no-such-host.invalid")
    connect(f"sqlite:///{tmp_path}/empty.db").dispose()
    capsys.readouterr()
    refusal(UsageError, f"sqlite:///{tmp_path}/empty.db", host="192.0.2.1")
    assert "no studies yet" in capsys.readouterr().err


def test_the_command_serves_until_a_signal(url: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HPO_")}
    environment |= {"HPO_STORAGE": url, "HPO_DASHBOARD_PASSWORD": "sesame"}
    command = [sys.executable, "-m", "hpo", "dashboard", "--port", "0", "--host", "localhost"]
    command += ["--reports", str(tmp_path / "reports")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = re.search(r"http://\S+", process.stdout.readline())
        assert link is not None
        request = urllib.request.Request(f"{link[0]}api/studies", headers={"Authorization": basic("sesame")})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert len(json.load(response)["study_summaries"]) == 4
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{link[0]}api/studies", timeout=30)
        refused.value.close()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in output + errors, errors
