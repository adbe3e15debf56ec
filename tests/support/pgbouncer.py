"""Debian's pgbouncer in front of the tests' PostgreSQL server, handing out its connections by transaction."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from postgres_server import USER, PostgresServer
from sqlalchemy.engine import make_url

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PgBouncer:
    """A pooler with `size` connections to the server for each database."""

    def __init__(self, server: PostgresServer, size: int) -> None:
        if not PROGRAM:
            pytest.skip("no pgbouncer: apt-get install pgbouncer")
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-pgbouncer-"))
        self.folder.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user={USER} password={server.password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {size}\nlogfile = {self.folder}/log\n"
        )
        self._account = "nobody" if os.geteuid() == 0 else None
        if self._account:
            shutil.chown(self.folder, self._account)
            settings.chmod(0o644)
        self.start()

    def start(self) -> None:
        command = [PROGRAM, "-q", str(self.folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, user=self._account, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("pgbouncer does not start")

    def stop(self) -> None:
        """As by a crash."""
        self._process.kill()
        self._process.wait(20)

    def url(self, url: str) -> str:
        """The same database through the pooler."""
        return make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
