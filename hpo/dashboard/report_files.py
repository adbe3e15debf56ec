"""The start page, which lists all studies, and the reports below /reports/."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper

from jinja2 import ChoiceLoader, Environment, PackageLoader, Template

from hpo.dashboard.middleware import Response
from hpo.dashboard.study_rows import StudyRow
from hpo.report.standalone import PLOTLY

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".tex": "text/plain; charset=utf-8",
    ".gz": "application/gzip",
    ".png": "image/png",
}
SCRIPT = "text/javascript; charset=utf-8"
# A report's own scripts draw its figures. A sandbox has no origin, so that they reach neither the dashboard nor the
# network, whoever wrote the report.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'self'; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Its scripts are inline and all names in it are escaped; it fetches itself.
LIST_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
log = logging.getLogger(__name__)
BLOCK = 1 << 18  # bytes of a file read at once


def with_reports(
    app: WSGIApplication,
    folder: Path,
    study_rows: Callable[[], Sequence[StudyRow]],
    live_folder: Callable[[str], Path | None] = lambda _: None,
) -> WSGIApplication:
    """Serves the list of studies and the reports; all other paths are left to `app`.

    Args:
        folder: the folder of reports.
        study_rows: reads the rows of the list.
        live_folder: study -> the folder with its newest report; None: use `folder`.
    """

    def respond(path: str) -> Response | Path:
        if path in ("/", "/reports"):
            return Response("302 Found", "", headers=[("Location", "/reports/")])
        if path == "/reports/":
            policy = [("Content-Security-Policy", LIST_POLICY)]
            return Response("200 OK", _study_list(study_rows(), folder), "text/html", policy)
        below = path.removeprefix("/reports/")
        if below == PLOTLY:  # the only script: all reports share it
            return _plotly()
        try:
            study = below.encode("latin-1").decode("utf-8", errors="replace").split("/")[0]
            file = find(live_folder(study) or folder, below)
        except Exception as error:  # in one study's text or numbers: the other pages must not fail for it
            log.exception("the report %r could not be written", below)
            message = f"This report could not be written ({type(error).__name__}: {error})."
            return Response("500 Internal Server Error", message)
        return file or Response("404 Not Found", "There is no such file; `hpo report STUDY` writes reports.")

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in ("/", "/reports") and not path.startswith("/reports/"):
            return app(environ, start)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return Response("405 Method Not Allowed", "Reports are read-only.").send(environ, start)
        response = respond(path)
        return _send(environ, start, response) if isinstance(response, Path) else response.send(environ, start)

    return application


def find(folder: Path, path: str) -> Path | None:
    """The file below `folder` that a URL's path names; None for everything else, in whatever spelling.

    Args:
        path: as WSGI passes it: percent signs decoded once, UTF-8 bytes as latin-1. A path that ends in / means the
            report.html there.
    """
    try:
        parts = path.encode("latin-1").decode("utf-8").split("/")
        parts[-1] = parts[-1] or "report.html"
        if any(part.startswith(".") or not part or "\\" in part for part in parts):
            return None
        file = folder.joinpath(*parts).resolve(strict=True)  # symbolic links are followed before the check
        inside = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError, RuntimeError):  # missing, unreadable, not UTF-8, a null byte, a cycle of links
        return None
    return file if inside and file.suffix in CONTENT_TYPES else None


def _plotly() -> Path:
    """plotly.js as its Python package contains it."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / PLOTLY


def _send(environ: WSGIEnvironment, start: StartResponse, path: Path) -> Iterable[bytes]:
    headers = [
        ("Content-Type", CONTENT_TYPES.get(path.suffix, SCRIPT)),
        ("Content-Length", str(path.stat().st_size)),
        ("Cache-Control", "no-cache"),
    ]
    start("200 OK", [*headers, ("Content-Security-Policy", REPORT_POLICY)])
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    return environ.get("wsgi.file_wrapper", FileWrapper)(path.open("rb"), BLOCK)


def _study_list(rows: Sequence[StudyRow], folder: Path) -> str:
    """The list of studies, with links to reports that belong to none of them, such as comparisons."""
    names = {path.parent.name for path in folder.glob("*/report.html")} - {row.name for row in rows}
    others = [name for name in sorted(names) if find(folder, f"{name}/".encode(errors="replace").decode("latin-1"))]
    return _list_template().render(studies=rows, others=others)


@cache
def _list_template() -> Template:
    loader = ChoiceLoader([PackageLoader("hpo.dashboard"), PackageLoader("hpo.report")])  # they share style and sorting
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template("studies.html.jinja")
