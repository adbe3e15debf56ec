"""The dashboard's password: checked in every request, with few attempts for an address that does not know it."""

import base64
import hmac
import ipaddress
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from wsgiref.types import WSGIEnvironment

from hpo.dashboard.connections import WELCOME
from hpo.dashboard.middleware import Check, Response

MAX_WRONG = 10  # wrong passwords of an address within PERIOD; then no password of it is checked
PERIOD = 60.0  # seconds
MAX_ADDRESSES = 10_000  # whose wrong passwords are remembered


def basic_auth(password: str, clock: Callable[[], float] = time.monotonic) -> Check:
    """Requires the password, with any user name (HTTP basic authentication).

    After `MAX_WRONG` wrong passwords within `PERIOD`, requests with a password from the same address are refused until
    the first of these attempts is `PERIOD` old. A request without a password is no attempt.
    """
    expected = sha256(password.encode()).digest()
    wrong = WrongPasswords(clock)

    def check(environ: WSGIEnvironment) -> Response | None:
        given = _password(environ.get("HTTP_AUTHORIZATION", ""))
        if given is not None:
            is_right = hmac.compare_digest(sha256(given).digest(), expected)
            if seconds := wrong.seconds_to_wait(_client(environ.get("REMOTE_ADDR", "")), is_right):
                wait = [("Retry-After", str(math.ceil(seconds)))]
                return Response("429 Too Many Requests", "Too many wrong passwords; try again later.", headers=wait)
            if is_right:
                environ.get(WELCOME, lambda: None)()
                return None
        challenge = [("WWW-Authenticate", 'Basic realm="hpo", charset="UTF-8"')]
        return Response("401 Unauthorized", "The password is wrong or missing.", headers=challenge)

    return check


class WrongPasswords:
    """The times of the last wrong passwords, by address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._times: dict[str, deque[float]] = {}  # the address with the oldest last attempt first

    def seconds_to_wait(self, client: str, is_right: bool) -> float:
        """Counts an attempt if it is wrong, and returns the seconds until one is checked again; 0: this one counts."""
        with self._lock:
            now = self._clock()
            times = self._times.get(client, deque())
            while times and times[0] <= now - PERIOD:
                times.popleft()
            if len(times) >= MAX_WRONG:
                return times[0] + PERIOD - now
            if not is_right:
                times.append(now)
                self._times.pop(client, None)
                self._times[client] = times
                if len(self._times) > MAX_ADDRESSES:
                    del self._times[next(iter(self._times))]
            return 0.0


def _client(address: str) -> str:
    """The address that attempts are counted for: of IPv6 the network, in which a client has billions of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def _password(header: str) -> bytes | None:
    """The password in an Authorization header; None if the header has none or cannot be read."""
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:  # binascii.Error, or a character outside ASCII
        return None
    return password if colon else None
