"""Visitors without the password: their attempts and their connections are few, and the others get in."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from storage_study import finish_all, make

from hpo.dashboard.connections import MAX_STRANGERS
from hpo.dashboard.password import MAX_ADDRESSES, MAX_WRONG, PERIOD, WrongPasswords, basic_auth
from hpo.storage.database import connect

SLOW = 200  # connections that hold the server's attention


def header(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


class Door:
    """`basic_auth` under a clock that the test sets."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._check = basic_auth("sesame", lambda: self.time)

    def ask(self, password: str | None, address: str = "192.0.2.1") -> tuple[int, str | None]:
        """The status, 200 where the request passes, and Retry-After."""
        environ: dict[str, Any] = {"REMOTE_ADDR": address}
        if password is not None:
            environ["HTTP_AUTHORIZATION"] = header(password)
        response = self._check(environ)
        return (
            (200, None) if response is None else (int(response.status[:3]), dict(response.headers).get("Retry-After"))
        )


def test_the_eleventh_attempt_in_a_minute_waits() -> None:
    door = Door()
    for attempt in range(MAX_WRONG):
        assert door.ask(f"guess {attempt}") == (401, None)
        door.time += 1
    assert MAX_WRONG == 10 and PERIOD == 60
    assert door.ask("guess") == (429, "50")
    assert door.ask("sesame") == (429, "50"), "the right one would be found among the refused ones"
    assert door.ask(None) == (401, None), "no attempt"
    assert door.ask("sesame", "192.0.2.2") == (200, None)
    door.time += 50
    assert door.ask("guess") == (401, None), "the first attempt is a minute old, so one more is checked"
    assert door.ask("guess") == (429, "1")
    door.time += 60
    assert door.ask("sesame") == (200, None)


def test_right_passwords_and_requests_without_one_are_no_attempts() -> None:
    door = Door()
    for _ in range(5 * MAX_WRONG):
        assert door.ask("sesame") == (200, None)
        assert door.ask(None) == (401, None)


def test_an_ipv6_network_counts_as_one_address() -> None:
    door = Door()
    for attempt in range(MAX_WRONG):
        assert door.ask("guess", f"2001:db8::{attempt:x}:1")[0] == 401
    assert door.ask("sesame", "2001:db8::ffff:2")[0] == 429
    assert door.ask("sesame", "2001:db8:0:1::1")[0] == 200
    for _ in range(MAX_WRONG):
        assert door.ask("guess", "::ffff:192.0.2.7")[0] == 401
    assert door.ask("sesame", "192.0.2.7")[0] == 429, "the same client over IPv4"
    assert door.ask("sesame", "fe80::1%eth0")[0] == 200
    assert door.ask("sesame", "")[0] == 200


def test_the_memory_for_addresses_is_bounded() -> None:
    wrong = WrongPasswords(lambda: 0.0)
    for number in range(MAX_ADDRESSES + 50):
        assert wrong.seconds_to_wait(str(number), False) == 0.0
    assert len(wrong._times) == MAX_ADDRESSES and "0" not in wrong._times and str(MAX_ADDRESSES) in wrong._times


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of `hpo dashboard --host 0.0.0.0` with the password "sesame"."""
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    finish_all(make(engine, "small", trials=2, seeds=1))
    engine.dispose()
    command = [sys.executable, "-m", "hpo", "dashboard", "--host", "0.0.0.0", "--port", "0"]
    environment = os.environ | {"HPO_STORAGE": f"sqlite:///{tmp_path}/t.db", "HPO_DASHBOARD_PASSWORD": "sesame"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            while not (found := re.search(r"http://\S+:(\d+)/", (tmp_path / "log").read_text())):
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
            yield int(found[1])
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 128 + signal.SIGTERM
            assert "Traceback" not in (tmp_path / "log").read_text()
        finally:
            server.kill()


def request(visitor: HTTPConnection, password: str | None) -> int:
    """The status of a request for the list of studies, on the connection that the visitor keeps."""
    visitor.request("GET", "/reports/", headers={"Authorization": header(password)} if password else {})
    response = visitor.getresponse()
    response.read()
    return response.status


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed a connection on which it has answered nothing."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_a_visitor_with_the_password_gets_in_while_others_hold_connections(port: int) -> None:
    def visitor() -> HTTPConnection:
        return opened.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))

    with ExitStack() as opened:
        early = visitor()
        assert request(early, "sesame") == 200
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(SLOW)]
        for connection in slow:
            with suppress(ConnectionError):  # closed already, for a later one
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")  # and never the end
        for _ in range(5):
            start = time.monotonic()
            assert request(visitor(), "sesame") == 200
            assert time.monotonic() - start < 5
        assert early.sock is not None and request(early, "sesame") == 200, "its connection was not taken away"
        assert request(visitor(), None) == 401
        deadline = time.monotonic() + 10
        while sum(map(is_open, slow)) > MAX_STRANGERS and time.monotonic() < deadline:
            time.sleep(0.1)
        assert 0 < sum(map(is_open, slow)) <= MAX_STRANGERS


def test_the_server_tells_an_address_to_wait(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as visitor:
        assert [request(visitor, "guess") for _ in range(MAX_WRONG + 1)] == [401] * MAX_WRONG + [429]
