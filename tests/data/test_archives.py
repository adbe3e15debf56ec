"""Fetching an archive, from a server on this machine: whole, half, altered, not at all, and side by side."""

import errno
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cifar_archives as archives
import pytest
import torch

from hpo.data import Cifar10
from hpo.data import archives as archives_module
from hpo.data.archives import ARCHIVES, Archive, obtain
from hpo.errors import HpoError

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = "cifar-10-binary.tar.gz"


class Server(ThreadingHTTPServer):
    """Serves one file under any name, in one of several ways; counts the requests."""

    content = b""
    way = "whole"
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{FILE}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        content, way = self.server.content, self.server.way
        if way == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        if way != "of unknown length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if way == "half":
            content = content[: len(content) // 2]
        elif way == "altered":
            content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Publishes a small CIFAR-10 archive; its checksum is accepted."""
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as serving:
        serving.content = archives.publish(monkeypatch, tmp_path / "made", "cifar-10", 3).read_bytes()
        archives.accept(monkeypatch, "cifar-10", serving.content, serving.url)
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["whole", "of unknown length"])
def test_an_archive_is_fetched_once(
    way: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(archives_module, "BLOCK", 4096)
    server.way = way
    folder = tmp_path / "not there yet" / "images"
    with caplog.at_level(logging.WARNING, "hpo"):
        loaded = Cifar10(folder=folder).load()
    assert (folder / FILE).read_bytes() == server.content
    assert torch.equal(loaded.inputs, Cifar10(folder=tmp_path / "made").load().inputs)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith(f"fetching {server.url}")
    assert lines[0].endswith(f" into {folder}")
    assert len(lines) == (11 if way == "whole" else 1)  # a line a tenth, where the length is known
    if way == "whole":
        assert lines[-1] == f"{FILE}: 0.1 MB of 0.1 MB"

    caplog.clear()
    Cifar10(folder=folder).load()
    assert server.requests == 1
    assert not caplog.records
    assert [path.name for path in folder.iterdir()] == [FILE]


def refused(folder: Path) -> str:
    with pytest.raises(HpoError) as caught:
        Cifar10(folder=folder).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("half", "the connection ended after "),
        ("altered", "what came has the MD5 "),
        ("missing", "HTTP Error 404: Not Found"),
    ],
)
def test_what_did_not_come_whole_is_never_taken_for_the_archive(
    way: str, reason: str, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    server.way = way
    message = refused(folder)
    assert message.startswith(f"{FILE} is not in {folder} and could not be fetched ({reason}")
    assert f"download {server.url} yourself and put it there as {FILE}" in message
    assert list(folder.iterdir()) == []
    server.way = "whole"  # and the next attempt begins afresh
    assert len(Cifar10(folder=folder).load().labels) == 15


def test_without_a_network_one_sentence_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    archives.accept(monkeypatch, "cifar-10", b"")  # nobody listens there
    monkeypatch.setenv("HPO_DATA", str(tmp_path / "images"))
    with pytest.raises(HpoError) as caught:
        Cifar10().load()
    message = str(caught.value)
    assert message.startswith(f"{FILE} is not in {tmp_path / 'images'} and could not be fetched (")
    assert "refused" in message
    assert message.endswith(
        f"download {ARCHIVES['cifar-10'].url} yourself and put it there as {FILE}, or name its folder by `folder` "
        "or HPO_DATA"
    )
    assert "\n" not in message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_download_that_is_broken_off_leaves_nothing(
    error: BaseException, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or a full disk, after the first block."""
    whole: Callable[..., Generator[bytes, None, None]] = archives_module._received  # type: ignore[assignment]

    def breaks(archive: Archive, path: Path) -> Iterator[bytes]:
        with closing(whole(archive, path)) as blocks:
            yield next(blocks)
        raise error

    monkeypatch.setattr(archives_module, "BLOCK", 4096)
    monkeypatch.setattr(archives_module, "_received", breaks)
    folder = tmp_path / "images"
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else HpoError
    with pytest.raises(expected) as caught:
        obtain(ARCHIVES["cifar-10"], folder)
    assert list(folder.iterdir()) == []
    if expected is HpoError:
        assert str(caught.value) == (
            f"{folder / FILE} cannot be kept or read (No space left on device); set HPO_DATA to a folder that can "
            "be used"
        )
    assert server.requests == 1


def test_a_folder_that_cannot_be_used_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder is needed")
    message = refused(tmp_path / "file")
    assert message.startswith(f"{tmp_path / 'file' / FILE} cannot be kept or read (")
    (tmp_path / "images" / FILE).mkdir(parents=True)
    assert "cannot be kept or read (Is a directory)" in refused(tmp_path / "images")
    assert server.requests == 0


def test_workers_that_start_together_fetch_once(server: Server, tmp_path: Path) -> None:
    """Threads stand for processes: each has a handle of its own on the folder, as a process would."""
    start = threading.Barrier(4)
    folder = tmp_path / "images"

    def fetch(_: int) -> Path:
        start.wait(30)
        return obtain(ARCHIVES["cifar-10"], folder)

    with ThreadPoolExecutor(4) as workers:
        assert set(workers.map(fetch, range(4))) == {folder / FILE}
    assert server.requests == 1
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_where_nothing_can_be_locked_each_fetches_on_its_own(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert obtain(ARCHIVES["cifar-10"], tmp_path / "images").read_bytes() == server.content
