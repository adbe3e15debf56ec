"""The reports below /reports/: a list of all studies, and the files of their folders."""

import logging
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper

from hpo.dashboard.middleware import answer
from hpo.report.standalone import PLOTLY

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".tex": "text/plain; charset=utf-8",
    ".gz": "application/gzip",
    ".png": "image/png",
}
SCRIPT = "text/javascript; charset=utf-8"
# A report's own scripts draw its figures. In a sandbox they are of no origin, so that they reach neither the
# dashboard nor the network, whoever wrote the report.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'self'; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LIST_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid #8888; }
:root { color-scheme: light dark; }
"""
log = logging.getLogger(__name__)
BLOCK = 1 << 18  # bytes of a file read at once


class Progress(NamedTuple):
    """How far a study is: its state in words, trials and reruns as "done/planned".

    `summary`: the id of the Optuna study that sums it up, if there is one yet. `over`: nothing more will happen.
    """

    study: str
    state: str
    trials: str
    reruns: str
    summary: int | None
    over: bool


def with_reports(
    app: WSGIApplication,
    folder: Path,
    progress: Callable[[], Sequence[Progress]],
    live: Callable[[str], Path | None] = lambda _: None,
) -> WSGIApplication:
    """Serves /reports/ from `folder`, everything else by `app`.

    Args:
        progress: tells of all studies.
        live: another folder to take the report of that study from; None: from `folder`.
    """

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
        wanted = path.removeprefix("/reports/")
        if wanted == PLOTLY:  # the only script: reports of all ages share it
            return _send(environ, start, _plotly())
        try:
            found = find(live(_study(wanted)) or folder, wanted)
        except Exception as error:  # in a study's own words or numbers: the list and the other reports go on
            log.exception("the report %r cannot be made", wanted)
            said = f"This report cannot be made ({type(error).__name__}: {error})."
            return answer(environ, start, "500 Internal Server Error", said)
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


def _plotly() -> Path:
    """plotly.js as its package holds it."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / PLOTLY


def _send(environ: WSGIEnvironment, start: StartResponse, path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    headers = [
        ("Content-Type", TYPES.get(path.suffix, SCRIPT)),
        ("Content-Length", str(size)),
        ("Cache-Control", "no-cache"),
    ]
    start("200 OK", [*headers, ("Content-Security-Policy", REPORT_POLICY)])
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    wrap = environ.get("wsgi.file_wrapper", FileWrapper)
    return wrap(path.open("rb"), BLOCK)


def _study(path: str) -> str:
    """The study that a path is about; one that cannot be read is about none."""
    return path.encode("latin-1").decode("utf-8", errors="replace").split("/")[0]


def _others(folder: Path, studies: Sequence[Progress]) -> str:
    """Links to the reports of the folder that no study of the database has, such as comparisons."""
    names = {path.parent.name for path in folder.glob("*/report.html")} - {entry.study for entry in studies}
    served = [name for name in sorted(names) if find(folder, f"{name}/".encode(errors="replace").decode("latin-1"))]
    links = ", ".join(f'<a href="{escape(quote(name))}/">{escape(name)}</a>' for name in served)
    return f"<p>Other reports: {links}" if links else ""


def _list(studies: Sequence[Progress], folder: Path) -> str:
    rows = []
    for entry in studies:
        name = escape(entry.study)
        report = f'<a href="{escape(quote(entry.study))}/">report</a>'
        summary = f'<a href="/dashboard/studies/{entry.summary}/note">summary</a>' if entry.summary else ""
        cells = (name, entry.state, entry.trials, entry.reruns, report, summary)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
    head = "".join(f"<th>{name}</th>" for name in ("study", "state", "trials", "reruns", "", ""))
    table = f"<table><tr>{head}{''.join(rows)}</table>" if rows else "<p>No studies yet; `hpo run STUDY` begins one."
    again = "" if rows and all(entry.over for entry in studies) else '<meta http-equiv="refresh" content="5">'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Studies</title>{again}<style>{STYLE}</style>"
        f'<h1>Studies</h1>{table}{_others(folder, studies)}<p><a href="/dashboard">all trials in the dashboard</a>'
    )
