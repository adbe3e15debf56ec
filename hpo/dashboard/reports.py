"""The written reports below /reports/: a list of all studies, and the files of their folders."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper

from hpo.dashboard.guards import answer

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
}
# A report's own scripts draw its figures. In a sandbox they are of no origin, so that they reach neither the
# dashboard nor the network, whoever wrote the report.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LIST_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; }
td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid #8888; }
:root { color-scheme: light dark; }
"""
BLOCK = 1 << 18  # bytes of a file read at once


class Progress(NamedTuple):
    """How far a study is: its state in words, trials and reruns as "done/planned"."""

    study: str
    state: str
    trials: str
    reruns: str


def with_reports(app: WSGIApplication, folder: Path, progress: Callable[[], Sequence[Progress]]) -> WSGIApplication:
    """Serves /reports/ from `folder`, everything else by `app`; `progress` tells of all studies."""

    def routed(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != "/reports" and not path.startswith("/reports/"):
            return app(environ, start)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return answer(environ, start, "405 Method Not Allowed", "Reports can only be read.")
        if path == "/reports":
            return answer(environ, start, "302 Found", "", extra=[("Location", "/reports/")])
        if path == "/reports/":
            page = _list(progress(), folder)
            return answer(environ, start, "200 OK", page, "text/html", [("Content-Security-Policy", LIST_POLICY)])
        found = find(folder, path.removeprefix("/reports/"))
        if found is None:
            return answer(environ, start, "404 Not Found", "There is no such file; `hpo report STUDY` writes reports.")
        return _send(environ, start, found)

    return routed


def find(folder: Path, path: str) -> Path | None:
    """The file that a URL's path names below `folder`; None for all else, however it is written.

    Args:
        path: as WSGI gives it: percent signs decoded once, UTF-8 bytes as latin-1. One that ends in / is a
            study, whose page is its report.html.
    """
    try:
        parts = path.encode("latin-1").decode("utf-8").split("/")
        parts[-1] = parts[-1] or "report.html"
        if any(part in ("", ".", "..") or part.startswith(".") or "\\" in part for part in parts):
            return None
        found = folder.joinpath(*parts).resolve(strict=True)  # symbolic links followed: where it really lies counts
        inside = found.is_relative_to(folder.resolve()) and found.is_file()
    except (OSError, ValueError, RuntimeError):  # not there, not readable, not UTF-8, a null byte, links in a circle
        return None
    return found if inside and found.suffix in TYPES else None


def _send(environ: WSGIEnvironment, start: StartResponse, path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    headers = [("Content-Type", TYPES[path.suffix]), ("Content-Length", str(size)), ("Cache-Control", "no-cache")]
    start("200 OK", [*headers, ("Content-Security-Policy", REPORT_POLICY)])
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    wrap = environ.get("wsgi.file_wrapper", FileWrapper)
    return wrap(path.open("rb"), BLOCK)


def _list(studies: Sequence[Progress], folder: Path) -> str:
    rows = []
    for entry in studies:
        link = f"{quote(entry.study)}/"
        written = find(folder, link) is not None
        report = f'<a href="{escape(link)}">report</a>' if written else f"<code>hpo report {escape(entry.study)}</code>"
        cells = (escape(entry.study), entry.state, entry.trials, entry.reruns, report)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
    head = "".join(f"<th>{name}</th>" for name in ("study", "state", "trials", "reruns", "report"))
    table = f"<table><tr>{head}{''.join(rows)}</table>" if rows else "<p>No studies yet; `hpo run STUDY` begins one."
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Studies</title><style>{STYLE}</style>'
        f'<h1>Studies</h1>{table}<p><a href="/dashboard">all trials in the dashboard</a>'
    )
