"""The PostgreSQL server of the tests leaves no files, even if the test is killed."""

import subprocess
import sys
import time
from pathlib import Path

import postgres_server
import psycopg
import pytest

PROGRAM = """
import os, signal, postgres_server
server = postgres_server.PostgresServer()
print(server.folder, server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can stop a child when its parent ends")
def test_nothing_is_left_when_the_test_is_killed() -> None:
    folder = Path(postgres_server.__file__).parent
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    data, port = done.stdout.split()
    end = time.monotonic() + 30
    while Path(data).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://hpo@127.0.0.1:{port}/postgres", connect_timeout=2)
