"""Calls in threads that pause in the middle of a transaction, so that two calls overlap in a chosen way."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

LONGEST = 30.0  # seconds that a test waits for anything
LOCKS = ("LOCK TABLE", "FOR UPDATE", "INSERT", "UPDATE", "DELETE")
Call = Callable[[], Any]


class Turns:
    """Threads on one PostgreSQL database.

    Attributes:
        errors: what the server refused, though it may have been retried: a deadlock among others.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.errors = engine, list[str]()
        self._pool = ThreadPoolExecutor(4)
        self._own = threading.local()
        sa.event.listen(engine, "after_cursor_execute", self._after)
        sa.event.listen(engine, "commit", self._commit)
        sa.event.listen(engine, "handle_error", self._error)

    def start(self, call: Call) -> Future[Any]:
        return self._pool.submit(call)

    @contextmanager
    def stopped(self, call: Call, after: int | None = None) -> Iterator[Future[Any]]:
        """`call` has made so many statements that lock something, or all but the commit; outside it continues.

        It is over already where it has fewer of them.
        """
        reached, go = threading.Event(), threading.Event()

        def run() -> Any:
            self._own.stop = [after, reached, go]
            try:
                return call()
            finally:
                self._own.stop = None
                reached.set()

        running = self.start(run)
        assert reached.wait(LONGEST)
        try:
            yield running
        finally:
            go.set()

    def wait(self, *calls: Future[Any]) -> list[bool]:
        """Waits until each call is over or waits for a lock; which of them are over."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            over = [call.done() for call in calls]
            if self._waiting() >= over.count(False):
                return [call.done() for call in calls]
            time.sleep(0.002)
        raise AssertionError("neither over nor waiting")

    def close(self) -> None:
        self._pool.shutdown()
        self.engine.dispose()

    def _waiting(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with self.engine.begin() as connection:
            return int(connection.exec_driver_sql(query).scalar_one())

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        stop = getattr(self._own, "stop", None)
        if stop and stop[0] is not None and any(word in statement for word in LOCKS):
            stop[0] -= 1
            if stop[0] == 0:
                self._pause(stop)

    def _commit(self, _: Any) -> None:
        stop = getattr(self._own, "stop", None)
        if stop and stop[0] is None:
            self._pause(stop)

    def _pause(self, stop: Any) -> None:
        self._own.stop = None
        stop[1].set()
        assert stop[2].wait(LONGEST)

    def _error(self, context: Any) -> None:
        self.errors.append(str(context.original_exception))
