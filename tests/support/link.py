"""A network link between workers and their database that fails as real ones do: it is slow, reset, or silent."""

import socket
import struct
import threading
import time
from contextlib import closing, suppress

DELAY = 0.2  # seconds that a slow link adds to what is sent in each direction


class Link:
    """Forwards TCP connections from its own port on 127.0.0.1 to another.

    Attributes:
        slow: everything arrives DELAY seconds later. cut: what is sent is lost, silently, "both" ways, or on its way
            "to" or "from" the server. A connection that has lost something stays silent.
    """

    def __init__(self, port: int) -> None:
        self.target, self.slow, self.cut = port, False, ""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Ends all connections with a reset instead of in order."""
        while self._connections:
            with suppress(OSError):
                connection = self._connections.pop()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)  # wakes the thread that reads, which then closes it

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.reset()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        """Both directions of one connection, until either side closes it."""
        with closing(client), suppress(OSError), socket.create_connection(("127.0.0.1", self.target), 5) as server:
            server.settimeout(None)
            ends = {client, server}
            self._connections |= ends
            back = threading.Thread(target=self._copy, args=(server, client, "from"), daemon=True)
            back.start()
            self._copy(client, server, "to")
            back.join()
            self._connections -= ends

    def _copy(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        lost = False
        with suppress(OSError):
            while data := source.recv(65536):
                lost |= self.cut in ("both", direction)
                if self.slow:
                    time.sleep(DELAY)
                if not lost:
                    target.sendall(data)
        if target in self._connections:  # the other side ended it in order
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
