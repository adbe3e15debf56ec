"""Connections to the dashboard: those that have not sent the password are few, so that they keep nobody out."""

from collections import Counter
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

WELCOME = "hpo.welcome"  # in a request's environment: tells the server that the visitor on its connection is welcome
MAX_STRANGERS = 64  # open connections that have not sent the password


class _Task(WSGITask):
    """A request that can tell its connection that it has the password."""

    def get_environment(self) -> WSGIEnvironment:
        environment: WSGIEnvironment = super().get_environment()
        environment[WELCOME] = self.channel.welcome
        return environment


class BoundedChannel(HTTPChannel):
    """A connection. If it is one too many without the password, it takes the place of an older one.

    The one that is closed belongs to the address that has most of them and is its oldest, so that a visitor who sends
    the password with the first request gets in although others open connections and send nothing, or byte by byte.
    """

    task_class = _Task
    has_password = False

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        super().__init__(server, *args, **options)
        strangers = [other for other in server.active_channels.values() if other is not self and other.is_stranger()]
        if len(strangers) >= MAX_STRANGERS:
            count = Counter(other.addr[0] for other in strangers)
            # Of several that are equal `min` takes the first, which is the oldest.
            min(strangers, key=lambda other: (bool(other.requests), -count[other.addr[0]])).will_close = True

    def welcome(self) -> None:
        self.has_password = True

    def is_stranger(self) -> bool:
        """Whether it has not sent the password and is not being closed."""
        return not self.has_password and not self.will_close
