"""Downloads from a server on this machine: complete, cut off, altered, missing, and by several workers at once."""

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
    way = "complete"
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
        if way == "cut off":
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
    monkeypatch.setattr(archives_module, "BLOCK", 4096)
    with Server(("127.0.0.1", 0), Handler) as serving:
        serving.content = archives.publish(monkeypatch, tmp_path / "published", "cifar-10", 3).read_bytes()
        archives.accept(monkeypatch, "cifar-10", serving.content, serving.url)
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def refusal(folder: Path | None) -> str:
    with pytest.raises(HpoError) as caught:
        Cifar10(folder=folder).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("way", ["complete", "of unknown length"])
def test_an_archive_is_downloaded_once(
    way: str, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.way = way
    folder = tmp_path / "new folder" / "images"
    with caplog.at_level(logging.WARNING, "hpo"):
        loaded = Cifar10(folder=folder).load()
    assert (folder / FILE).read_bytes() == server.content
    assert torch.equal(loaded.inputs, Cifar10(folder=tmp_path / "published").load().inputs)
    lines = [record.getMessage() for record in caplog.records]
    assert server.url in lines[0] and lines[0].endswith(str(folder))
    assert len(lines) == (11 if way == "complete" else 1)  # a line for every tenth of a known length
    if way == "complete":
        assert lines[-1] == f"{FILE}: 0.1 MB of 0.1 MB"
    caplog.clear()
    Cifar10(folder=folder).load()
    assert server.requests == 1
    assert not caplog.records
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize(("way", "reason"), [("cut off", "bytes"), ("altered", "MD5"), ("missing", "HTTP Error 404")])
def test_an_incomplete_download_is_never_used(way: str, reason: str, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    server.way = way
    message = refusal(folder)
    assert str(folder / FILE) in message and reason in message and server.url in message and "HPO_DATA" in message
    assert list(folder.iterdir()) == []
    server.way = "complete"
    assert len(Cifar10(folder=folder).load().labels) == 15


def test_without_a_network_the_message_names_file_and_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    archives.accept(monkeypatch, "cifar-10", b"")  # nobody listens on this port
    monkeypatch.setenv("HPO_DATA", str(tmp_path / "images"))
    message = refusal(None)
    for words in (str(tmp_path / "images" / FILE), "refused", ARCHIVES["cifar-10"].url, "`folder`", "HPO_DATA"):
        assert words in message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_download_leaves_nothing(
    error: BaseException, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or a full disk, after the first block."""
    receive: Callable[..., Generator[bytes, None, None]] = archives_module._receive  # type: ignore[assignment]

    def breaks(archive: Archive, path: Path) -> Iterator[bytes]:
        with closing(receive(archive, path)) as blocks:
            yield next(blocks)
        raise error

    monkeypatch.setattr(archives_module, "_receive", breaks)
    folder = tmp_path / "images"
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else HpoError
    with pytest.raises(expected) as caught:
        obtain(ARCHIVES["cifar-10"], folder)
    assert list(folder.iterdir()) == []
    if expected is HpoError:
        assert str(folder / FILE) in str(caught.value) and "No space left on device" in str(caught.value)
    assert server.requests == 1


def test_an_unusable_folder_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder is needed")
    assert str(tmp_path / "file" / FILE) in refusal(tmp_path / "file")
    (tmp_path / "images" / FILE).mkdir(parents=True)
    assert "(Is a directory)" in refusal(tmp_path / "images")
    assert server.requests == 0


def test_workers_that_start_together_download_once(server: Server, tmp_path: Path) -> None:
    """Threads stand for processes: each locks the folder through its own handle, as a process would."""
    start = threading.Barrier(4)
    folder = tmp_path / "images"

    def download(_: int) -> Path:
        start.wait(30)
        return obtain(ARCHIVES["cifar-10"], folder)

    with ThreadPoolExecutor(4) as workers:
        assert set(workers.map(download, range(4))) == {folder / FILE}
    assert server.requests == 1
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_without_locks_each_process_downloads(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert obtain(ARCHIVES["cifar-10"], tmp_path / "images").read_bytes() == server.content
