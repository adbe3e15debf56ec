"""The server of the dashboard: it checks its address and database, prints its link, and stops at a signal."""

import logging
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import waitress

from hpo.dashboard.application import build
from hpo.dashboard.connections import BoundedChannel
from hpo.dashboard.middleware import is_loopback
from hpo.dashboard.refresher import Refresher
from hpo.errors import HpoError, UsageError
from hpo.output import logging_to, write_line
from hpo.storage.database import connect, connect_existing, is_available, is_read_only
from hpo.storage.ledger import names
from hpo.storage.optuna.studies import open_storage
from hpo.storage.url import file, read, redacted
from hpo.worker.signals import Stop

PASSWORD = "HPO_DASHBOARD_PASSWORD"


def serve(url: str, host: str, port: int, reports: Path, editable: bool) -> None:
    """Serves until a signal arrives.

    Args:
        url: the database's URL. port: 0 for any free port. editable: whether the pages may change the database.

    Raises:
        UsageError: the address is in use or not this machine's, or it needs a password and has none.
        HpoError: there is no database, or it cannot be used.
        Stopped: a signal arrived.
    """
    password = os.environ.get(PASSWORD) or None
    if not is_loopback(host) and not password:
        raise UsageError(f"--host {host} lets other machines connect; set the environment variable {PASSWORD}")
    address = read(url)
    if address.get_backend_name() == "sqlite" and not file(address).exists():
        raise HpoError(f"there is no database {redacted(url)}; `hpo run STUDY` creates it, --storage names another")
    engine = connect_existing(url) or connect(url)
    if editable and is_read_only(engine):
        raise UsageError(f"the database {redacted(url)} cannot be written here; leave out --allow-edit")
    if not names(engine):
        write_line("hpo: no studies yet; the page shows them once `hpo run STUDY` has created one", error=True)
    storage = open_storage(engine, reading=not editable)
    engine.dispose()  # the refresher reconnects where it writes a summary
    refresher = Refresher(storage.engine, engine)
    app = build(storage, reports, host, password, editable)
    listening = _listen(host, port)
    # `ident` would show the server's version to everyone; `select` fails for file numbers above 1023.
    limits = {"max_request_body_size": 1 << 24, "connection_limit": 500, "asyncore_use_poll": True}
    server = waitress.create_server(app, sockets=[listening], threads=8, ident=None, **limits)
    if password:
        server.channel_class = BoundedChannel
    write_line(f"dashboard: {_link(host, listening)}  (Ctrl-C stops it)")
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")  # one per plot of a short study
    stop = Stop()
    with logging_to(log_handler(storage.engine)):
        if not is_read_only(engine):
            refresher.start()
        with stop.installed(), stop.interruptible():
            server.run()  # returns when a signal handler raises in it
        refresher.stop()
    stop.check()


def log_handler(engine: Any) -> logging.Handler:
    """Prints what is logged, but no errors while the database is unavailable: the pages say so, tracebacks add nothing.

    Warnings do not ask the database: the server's loop, which must not wait, logs them.
    """
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno < logging.ERROR or is_available(engine))
    return handler


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        UsageError: the port is in use, or the host is not this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((str(address[0]), int(address[1])), family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: no valid host name
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error
        raise UsageError(f"cannot listen on {host}, port {port} ({reason}); give another --port or --host") from error


def _link(host: str, listening: socket.socket) -> str:
    """The server's URL for a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"
