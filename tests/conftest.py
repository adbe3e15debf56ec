"""Fixtures that several test files need."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from fork_server import ForkServer
from postgres_server import PostgresServer
from storages import KINDS, Storage, storage


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "where tests leave pictures of pages, of studies that are really trained"
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help=told)


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder for pictures: the one asked for, else one that is thrown away."""
    return request.config.getoption("--screenshots") or tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium; where there is none, the test is skipped."""
    made = Browser()
    yield made
    made.close()


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
    """One PostgreSQL server for all tests that ask; none may stop it."""
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
    made = server.create()
    yield made
    server.drop(made)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Where tests start worker processes."""
    made = ForkServer()
    yield made
    made.close()


@pytest.fixture(scope="session", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Databases of each kind that a test may take away for a while."""
    made = storage(request.param)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def told_again() -> None:
    """What is told once a process is told once a test; PyTorch is not imported for it."""
    module = sys.modules.get("hpo.user_code.messages")
    if module is not None:
        module.warn_once.cache_clear()
