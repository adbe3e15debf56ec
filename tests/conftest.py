"""Fixtures that several test files need."""

import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from fork_server import ForkServer
from postgres_server import PostgresServer
from storages import KINDS, PostgresStorage, SqliteStorage, Storage


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "where tests save pictures of pages; with it, the dashboard's study is really trained"
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help=text)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one process more than cores, since many tests wait for other processes; each takes a gigabyte."""
    return min(os.cpu_count() or 1, 8) + 1


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: the garbage collector need not search it, which takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder for pictures: that of the option, or a temporary one."""
    return request.config.getoption("--screenshots") or tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium; where there is none, the test is skipped."""
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: tests are small, and sums are then added in the same order everywhere."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that do not stop it."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/t.db"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts worker processes and commands."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def stoppable_postgresql() -> Iterator[PostgresStorage]:
    """One PostgreSQL server for all tests that stop it for a while."""
    server = PostgresStorage()
    yield server
    server.close()


@pytest.fixture(scope="session", params=KINDS)
def databases(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Databases of each kind that a test may make unavailable for a while."""
    if request.param == "postgresql":
        yield request.getfixturevalue("stoppable_postgresql")
        return
    databases = SqliteStorage()
    yield databases
    databases.close()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that runs in a test's process leaves no handler behind, which would print later tests' warnings."""
    handlers = list(logging.getLogger("hpo").handlers)
    yield
    assert logging.getLogger("hpo").handlers == handlers, "a handler was left behind"


@pytest.fixture(autouse=True)
def repeat_warnings() -> None:
    """A warning that a process gives once is given once a test; PyTorch is not imported for it."""
    module = sys.modules.get("hpo.user_code.messages")
    if module is not None:
        module.warn_once.cache_clear()
