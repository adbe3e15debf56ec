"""Reads images in the worker processes of a PyTorch DataLoader, ahead of their use.

The processes come from a fork server, which has neither this process's threads and connections nor its GPU. They get
whole requests, so that they hold no list of files, and end with this process, whatever ends it.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hpo.data.image_reading import BrokenImage, Crops, Request, read_images
from hpo.errors import HpoError

PREFETCHED = 2  # requests per process
PRELOADED = ["hpo.data.image_loader", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"]  # by the fork server


class ImageLoader:
    """Reads requests in order; use it for one pass at a time, and close it."""

    def __init__(self, crops: Crops, processes: int, pinned: bool) -> None:
        """
        Args:
            processes: 0 reads in this process. pinned: whether the pixels lie in memory that a GPU copies at once.
        """
        self._requests = _Requests()
        self._processes: set[Any] = set()
        if processes:
            multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        self._loader: Any = DataLoader(
            _Reader(crops),
            sampler=self._requests,
            batch_size=None,
            num_workers=processes,
            multiprocessing_context="forkserver" if processes else None,
            prefetch_factor=PREFETCHED if processes else None,
            persistent_workers=processes > 0,
            pin_memory=pinned,
            worker_init_fn=_end_with_parent,
            generator=torch.Generator(),  # DataLoader draws a seed, and the global generators are not for that
        )

    def read(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """The pixels of each request; the requests are made when they are due.

        Raises:
            HpoError: a file cannot be decoded, or a process has ended.
        """
        self._requests.pending = requests
        before = set(multiprocessing.active_children())
        with _hidden_main_module():
            batches = iter(self._loader)
        self._processes |= set(multiprocessing.active_children()) - before
        while True:
            try:
                pixels = next(batches, None)
            except (RuntimeError, EOFError, OSError) as error:  # the last two: it ended while it handed a batch over
                if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                    raise
                raise HpoError(
                    "a process that reads images ended unexpectedly, probably because memory or shared memory (/dev/"
                    "shm) ran out; make more available (docker run --shm-size), or give ImageFolder fewer `processes`"
                ) from error
            if pixels is None:
                return
            if isinstance(pixels, BrokenImage):
                raise HpoError(f"{pixels.path} cannot be decoded ({pixels.reason}); replace it with an intact copy")
            yield pixels

    def close(self) -> None:
        """Ends the processes, also amid a pass; DataLoader would wait for what they are reading."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._loader = None


class _Requests:
    """The order in which DataLoader reads: whatever is pending when a pass begins."""

    def __init__(self) -> None:
        self.pending: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.pending)


class _Reader(Dataset[Any]):
    """What a worker process does with a request."""

    def __init__(self, crops: Crops) -> None:
        self._crops = crops

    def __getitem__(self, request: Request) -> Tensor | BrokenImage:
        return read_images(request, self._crops)


def _end_with_parent(_number: int) -> None:
    """DataLoader's own check compares parent process ids, and the parent of these processes is the fork server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too, and the main process decides
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Processes that start inside do not import the main program, which need not be importable."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
