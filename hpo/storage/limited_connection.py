"""A connection to PostgreSQL that waits for its server no longer than CALL_TIMEOUT, and not at all after a signal."""

import time
from typing import Any, TypeVar, cast

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen

from hpo.storage import transactions

T = TypeVar("T")


class LimitedConnection(psycopg.Connection[Any]):
    """psycopg itself waits without limit for a server that is silent, and after Ctrl-C for ten seconds more."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:  # noqa: ARG002
        """The result of an operation on this connection, which is closed if there is none.

        Raises:
            psycopg.OperationalError: the server was silent for CALL_TIMEOUT seconds.
        """
        try:
            return waiting.wait(self._limited(gen), self.pgconn.socket, interval)
        except (KeyboardInterrupt, SystemExit):
            self.pgconn.finish()
            raise

    def __del__(self, _warn: object = None) -> None:
        """Without a warning: when a process ends, its heartbeat may return a connection to a pool that was closed."""
        if hasattr(self, "pgconn"):
            self.pgconn.finish()

    def _limited(self, operation: PQGen[T]) -> PQGen[T]:
        """The operation, whose steps are between waits for the server; a wait that brought nothing returns 0."""
        limit = time.monotonic() + transactions.CALL_TIMEOUT
        try:
            awaited = next(operation)
            while True:
                if ready := (yield awaited):
                    limit = time.monotonic() + transactions.CALL_TIMEOUT
                elif time.monotonic() > limit:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has been silent for {transactions.CALL_TIMEOUT:.0f} s")
                awaited = operation.send(ready)
        except StopIteration as end:
            return cast(T, end.value)
