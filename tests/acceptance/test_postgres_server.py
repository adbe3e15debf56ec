"""The tests' own PostgreSQL server leaves nothing behind, even where the test is killed."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from postgres_server import PostgresServer

PROGRAM = """
import os, signal, postgres_server
server = postgres_server.PostgresServer()
print(server.folder, server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_keeps_what_it_had_and_then_nothing() -> None:
    server = PostgresServer()
    url = server.create()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    server.stop("immediate")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    server.close()
    assert not server.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_nothing_is_left_when_the_test_is_killed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parent, capture_output=True, text=True)
    folder, port = done.stdout.split()
    assert done.returncode == -9
    end = time.monotonic() + 30
    while Path(folder).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://hpo@127.0.0.1:{port}/postgres", connect_timeout=2)
