"""What optuna-dashboard's pages lack: links to the reports, and no buttons that would only be refused."""

import logging
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from hpo.dashboard.middleware import Headers

log = logging.getLogger(__name__)
MOST = 3  # studies that are named in the bar; the list has them all
STYLE = """
#hpo-bar { position: fixed; top: 0; right: 8px; height: 64px; z-index: 1250; display: flex; align-items: center;
  gap: 8px; font: 14px system-ui, sans-serif; pointer-events: none; max-width: 55vw; overflow: hidden; }
#hpo-bar span, #hpo-bar > a { background: #0d47a1; border-radius: 6px; padding: 5px 10px; white-space: nowrap;
  pointer-events: auto; color: #fff; flex: none; }
#hpo-bar span { display: flex; gap: 4px; min-width: 0; flex: initial; }  /* room is made by the names alone */
#hpo-bar span a { flex: none; }
#hpo-bar span > :first-child { flex: initial; min-width: 2em; overflow: hidden; text-overflow: ellipsis;
  font-weight: inherit; }
#hpo-bar a { color: #fff; text-underline-offset: 2px; }
@media (max-width: 800px) { #hpo-bar { top: auto; bottom: 0; height: 40px; max-width: 100vw; } }
#dashboard table:not([class]) :is(td, th) { padding: 3px 14px 3px 0; border-bottom: 1px solid #8885; }
"""
# The Optuna study that sums a study up has no trials: its figures take the place of the empty graphs, in order.
PLOT = "user-defined-plot:hpo-figure-"
STYLE += f"""
main:has([id^="{PLOT}"]) .MuiCard-root:has(#plot-history, #graph-hyperparameter-importances, #graph-timeline) {{
  display: none; }}
""" + "".join(f'.MuiGrid-root:has(> .MuiCard-root [id="{PLOT}{n}"]) {{ order: {n - 5}; }}\n' for n in range(1, 5))
# Optuna's page has no reading mode. Should a later version name these differently, they are back, and are refused.
HIDDEN = """
button[aria-label="rename study"], button[aria-label="delete study"], button:has(svg[data-testid="AddBoxIcon"]),
button:has(svg[data-testid="EditIcon"]) { display: none; }
"""


class Linked(NamedTuple):
    """A study in the bar: its name, and the id of the Optuna study with its summary, if there is one yet."""

    study: str
    summary: int | None


def with_bar(app: WSGIApplication, linked: Callable[[], Sequence[Linked]], editable: bool) -> WSGIApplication:
    """Adds the bar to the dashboard's page, whatever else that holds; `linked` tells of the studies, newest first."""

    def added(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != "/dashboard" and not path.startswith("/dashboard/"):
            return app(environ, start)
        head = environ["REQUEST_METHOD"] == "HEAD"
        # The whole page, as it is now: the one that the browser has kept may name other studies.
        for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"):
            environ.pop(name, None)
        started: list[Any] = []
        parts = app({**environ, "REQUEST_METHOD": "GET"} if head else environ, _keeping(started))
        try:
            body = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        status, headers = started
        kinds = [value for name, value in headers if name.lower() == "content-type"]
        if status.startswith("200") and any(kind.startswith("text/html") for kind in kinds):
            body = insert(body, bar(_told(linked), editable).encode())
        start(status, [*_without(headers), ("Content-Length", str(len(body))), ("Cache-Control", "no-cache")])
        return [] if head else [body]

    return added


def insert(page: bytes, addition: bytes) -> bytes:
    """The page with the addition first in its body, or at its end where no body can be seen."""
    before, tag, rest = page.partition(b"<body")
    if not tag:
        return page + addition
    attributes, end, content = rest.partition(b">")
    return before + tag + attributes + end + addition + content


def bar(linked: Sequence[Linked], editable: bool) -> str:
    """The bar in HTML, and the style that it needs."""
    entries = []
    for entry in linked[:MOST]:
        name = escape(entry.study)
        summary = f'<a href="/dashboard/studies/{entry.summary}/note">{name}</a>' if entry.summary else f"<b>{name}</b>"
        entries.append(f'<span>{summary} · <a href="/reports/{quote(entry.study)}/">report</a></span>')
    entries.append('<a href="/reports/">all studies</a>')
    style = STYLE if editable else STYLE + HIDDEN
    return f'<style>{style}</style><nav id="hpo-bar" aria-label="hpo">{"".join(entries)}</nav>'


def _told(linked: Callable[[], Sequence[Linked]]) -> Sequence[Linked]:
    try:
        return linked()
    except Exception:  # the database went away this moment: the page and the link to the list go on
        log.exception("the dashboard's page names no study")
        return []


def _keeping(started: list[Any]) -> StartResponse:
    """A `start_response` that notes what it is given."""

    def start(status: str, headers: Headers, _: Any = None) -> Callable[[bytes], object]:
        started[:] = [status, headers]
        return lambda _: None

    return start


def _without(headers: Headers) -> Headers:
    stale = {"content-length", "last-modified", "etag", "accept-ranges", "cache-control"}
    return [(name, value) for name, value in headers if name.lower() not in stale]
