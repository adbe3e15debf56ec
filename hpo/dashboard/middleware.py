"""WSGI middleware around the dashboard, one job each: who may ask, from where, for what, and whether it can be told."""

import base64
import binascii
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # a page that frames this one could have its buttons clicked unseen
    "Referrer-Policy": "no-referrer",
}
AWAY = "The database does not answer; nothing is lost, and this goes on as soon as it is back."
AWAY_PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>hpo</title><p>{AWAY}"""
READ_ONLY = "This dashboard only reads; start it with --allow-edit to change something."
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d{1,5})?")


def answer(
    environ: WSGIEnvironment,
    start: StartResponse,
    status: str,
    text: str,
    kind: str = "text/plain",
    extra: Sequence[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """A whole response of `text`, which is of the type `kind`."""
    body = text.encode()
    start(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), *extra])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def from_known_hosts(app: WSGIApplication, names: Iterable[str], addresses: bool = False) -> WSGIApplication:
    """Refuses requests for another host than this one, and those that a page of another origin sends.

    A foreign page may resolve its own name to 127.0.0.1 and read what it likes: only the Host header tells.

    Args:
        names: what this server is called, without ports. addresses: any IP address will do as well; a page's
            own name is never one.
    """
    known = {name.lower() for name in names}

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").lower()
        match = _HOST.fullmatch(host)
        name = (match[1] or match[2]) if match else ""
        if name not in known and not (addresses and _is_address(name)):
            return answer(environ, start, "403 Forbidden", "This server does not go by that name.")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return answer(environ, start, "403 Forbidden", "Pages of other origins may not ask here.")
        return app(environ, start)

    return guarded


def with_password(app: WSGIApplication, password: str) -> WSGIApplication:
    """Lets in who knows the password, under any user name (HTTP basic authentication)."""
    expected = sha256(password.encode()).digest()

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        given = _password(environ.get("HTTP_AUTHORIZATION", ""))
        if given is None or not hmac.compare_digest(sha256(given).digest(), expected):
            challenge = [("WWW-Authenticate", 'Basic realm="hpo", charset="UTF-8"')]
            return answer(environ, start, "401 Unauthorized", "The password is wrong or missing.", extra=challenge)
        return app(environ, start)

    return guarded


def only_reading(app: WSGIApplication) -> WSGIApplication:
    """Refuses every method that could change something."""

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in READING:
            return answer(environ, start, "403 Forbidden", json.dumps({"reason": READ_ONLY}), "application/json")
        return app(environ, start)

    return guarded


def while_answering(app: WSGIApplication, answers: Callable[[], bool]) -> WSGIApplication:
    """Says so while the database is away, instead of an empty page or an error; `answers` looks whether it is there."""

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith("/static/") or answers():
            return app(environ, start)
        status, later = "503 Service Unavailable", [("Retry-After", "5"), ("Cache-Control", "no-store")]
        if path.startswith("/api/"):
            return answer(environ, start, status, json.dumps({"reason": AWAY}), "application/json", later)
        return answer(environ, start, status, AWAY_PAGE, "text/html", later)

    return guarded


def with_safe_headers(app: WSGIApplication) -> WSGIApplication:
    """Adds the headers that keep a browser from guessing types and from showing this server inside other pages."""

    def guarded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def started(status: str, headers: Headers, error: Any = None) -> Any:
            return start(status, [*headers, *SAFE_HEADERS.items()], error)

        return app(environ, started)

    return guarded


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _password(header: str) -> bytes | None:
    """The password in an Authorization header; None where there is none that can be read."""
    kind, _, sent = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(sent.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
