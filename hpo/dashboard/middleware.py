"""Which requests the dashboard answers: checks of host, origin, method and database, and safe headers."""

import io
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # a page that frames this one could have its buttons clicked unseen
    "Referrer-Policy": "no-referrer",
}
UNAVAILABLE = "The database is unavailable. Nothing is lost; this page reloads until it is back."
UNAVAILABLE_PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>hpo</title><p>{UNAVAILABLE}"""
READ_ONLY = "This dashboard is read-only; start it with --allow-edit to change something."
log = logging.getLogger(__name__)
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d{1,5})?")


class Response(NamedTuple):
    """A whole response; `kind` is the content type of `text`."""

    status: str
    text: str
    kind: str = "text/plain"
    headers: Sequence[tuple[str, str]] = ()

    def send(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answers a request, one of method HEAD without a body."""
        body = self.text.encode()
        described = [("Content-Type", f"{self.kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start(self.status, [*described, *self.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


Check = Callable[[WSGIEnvironment], Response | None]


def guarded(app: WSGIApplication, checks: Sequence[Check]) -> WSGIApplication:
    """The application behind checks: the first response that a check gives, else that of `app`.

    Every response has headers by which browsers neither guess content types nor show the page inside another one.
    """

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def start_safely(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            return start(status, [*headers, *SECURITY_HEADERS.items()], error)

        refusal = next(filter(None, (check(environ) for check in checks)), None)
        return refusal.send(environ, start_safely) if refusal else app(environ, start_safely)

    return application


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this host can only be reached from this machine."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def known_host(names: Collection[str], any_address: bool = False) -> Check:
    """Refuses requests with another Host header, and those that a page of another origin sends.

    A page of another origin may resolve its own name to 127.0.0.1, to read everything: only the Host header shows it.

    Args:
        names: this server's names, without ports.
        any_address: accept every IP address as host as well; a page's own name is never one.
    """
    known = {name.lower() for name in names}

    def check(environ: WSGIEnvironment) -> Response | None:
        host = environ.get("HTTP_HOST", "").lower()
        match = _HOST.fullmatch(host)
        name = (match[1] or match[2]) if match else ""
        if name not in known and not (any_address and _is_address(name)):
            return Response("403 Forbidden", "Unknown Host header.")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return Response("403 Forbidden", "Cross-origin requests are not allowed.")
        return None

    return check


def read_only(environ: WSGIEnvironment) -> Response | None:
    """Refuses every method that could change something."""
    if environ["REQUEST_METHOD"] in READ_METHODS:
        return None
    return Response("403 Forbidden", json.dumps({"reason": READ_ONLY}), "application/json")


def with_database(app: WSGIApplication, is_available: Callable[[], bool]) -> WSGIApplication:
    """Answers that the database is unavailable while it is, so that no page is empty or shows a server error.

    A request that fails because the database was lost meanwhile gets the same answer; other errors stay as they are.

    Args:
        app: calls `start` before it returns.
    """

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/static/"):
            return app(environ, start)
        if not is_available():
            return _unavailable(path).send(environ, start)
        answer: list[Any] = []
        errors = io.StringIO()

        def keep(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            answer[:] = [status, headers, error]

        try:
            body = app(environ | {"wsgi.errors": errors}, keep)
        except Exception:
            if is_available():
                raise
            return _unavailable(path).send(environ, start)
        if answer[0].startswith("500") and not is_available():
            return _unavailable(path).send(environ, start)
        if errors.getvalue():
            log.error(errors.getvalue())
        start(*answer)
        return body

    return application


def _unavailable(path: str) -> Response:
    status, headers = "503 Service Unavailable", [("Retry-After", "5"), ("Cache-Control", "no-store")]
    if path.startswith("/api/"):
        return Response(status, json.dumps({"reason": UNAVAILABLE}), "application/json", headers)
    return Response(status, UNAVAILABLE_PAGE, "text/html", headers)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
