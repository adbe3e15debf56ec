"""Requests to a WSGI application without a server."""

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(app: Any, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str | None) -> Answer:
    """One request as a WSGI server passes it on; headers by WSGI name (host, origin, ...), None to leave one out."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": query, "SCRIPT_NAME": ""}
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    setup_testing_defaults(environ)
    given: dict[str, str | None] = {"host": "127.0.0.1:8080"} | headers
    for name, value in given.items():
        environ[f"HTTP_{name.upper()}"] = value
        if value is None:
            del environ[f"HTTP_{name.upper()}"]
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
    started: list[Any] = []

    def start(status: str, received: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], object]:
        started[:] = [int(status[:3]), dict(received)]
        return lambda _: None

    parts = (validator(app) if method in ("GET", "POST", "DELETE") else app)(environ, start)
    try:
        content = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return Answer(*started, content)
