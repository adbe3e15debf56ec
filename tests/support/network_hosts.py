"""Hosts made of Linux network namespaces; their packets pass through this process, which loses, delays or drops them.

Each host has a TUN device whose other end this process holds. So no packet filter or traffic control of the kernel is
needed (many kernels are built without netem), and a fault has an exact beginning and end.
"""

import ctypes
import fcntl
import heapq
import importlib
import logging
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEVICE = Path("/dev/net/tun")
SET_DEVICE, TUN, WITHOUT_HEADER = 0x400454CA, 0x0001, 0x1000  # TUNSETIFF, IFF_TUN, IFF_NO_PI
NEW_HOST_NAME = 0x04000000  # CLONE_NEWUTS
IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def missing() -> str:
    """Why no hosts can be made here; '' if they can."""
    if sys.platform != "linux" or not DEVICE.exists():
        return "no TUN devices here"
    if not IP:
        return "no ip: apt-get install iproute2"
    return "" if os.geteuid() == 0 else "only root can make network namespaces"


@dataclass(frozen=True)
class Host:
    """A host: its namespace ('' for the one in which the tests run), address and this process's end of its device."""

    namespace: str
    address: str
    end: int


@dataclass
class Link:
    """What happens to packets from one host to another: the share that is lost, the seconds that each takes."""

    loss: float = 0.0
    delay: float = 0.0
    cut: bool = False
    on_packet: Callable[[bytes], None] | None = None  # called with each packet that passes


class Network:
    """Hosts by name, "here" among them, and the links between them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.hosts: dict[str, Host] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._random = random.Random(0)
        try:
            for number, name in enumerate(["here", *names], start=1):
                self.hosts[name] = self._make_host(number, "" if name == "here" else f"hpo-{os.getpid()}-{name}")
        except subprocess.CalledProcessError:
            self._remove()
            raise
        self._by_address = {socket.inet_aton(host.address): name for name, host in self.hosts.items()}
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def link(self, source: str, target: str) -> Link:
        """The link from one host to another, in this direction; its fields may be changed at any time."""
        with self._lock:
            return self._links.setdefault((source, target), Link())

    def close(self) -> None:
        self._closed.set()
        self._thread.join(10)
        self._remove()

    def _make_host(self, number: int, namespace: str) -> Host:
        device = f"hpo{os.getpid()}n{number}"
        end = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, SET_DEVICE, struct.pack("16sH22x", device.encode(), TUN | WITHOUT_HEADER))
        host = Host(namespace, f"198.18.{os.getpid() % 256}.{number}", end)
        inside = [IP, "-n", namespace] if namespace else [IP]
        commands = [[IP, "netns", "add", namespace], [IP, "link", "set", device, "netns", namespace]]
        commands = commands if namespace else []
        commands += [
            [*inside, "addr", "add", f"{host.address}/24", "dev", device],
            *([*inside, "link", "set", name, "up"] for name in ("lo", device)),
        ]
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        return host

    def _remove(self) -> None:
        for host in self.hosts.values():
            os.close(host.end)
            if host.namespace:
                subprocess.run([IP, "netns", "del", host.namespace], check=False, capture_output=True)

    def _forward(self) -> None:
        """Carries packets between the hosts until the network is closed."""
        with suppress(PermissionError):  # a busy machine must not make the links slow
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        names = {host.end: name for name, host in self.hosts.items()}
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._closed.is_set():
            timeout = max(0.0, min(0.2, waiting[0][0] - time.monotonic())) if waiting else 0.2
            for end in select.select(list(names), [], [], timeout)[0]:
                packet = os.read(end, 65536)
                target = self._by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                if target is None:
                    continue
                link = self.link(names[end], target)
                if not link.cut and self._random.random() >= link.loss:
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + link.delay, count, self.hosts[target].end, packet))
                    if link.on_packet:
                        link.on_packet(packet)
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                with suppress(BlockingIOError):  # a full queue loses packets, as a router does
                    os.write(end, packet)


def call_on(namespace: str, function: str, *arguments: Any, **options: Any) -> None:
    """Calls "module:function" on a host: this process gets its network and its name, and logs to standard error."""
    library = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as file:
        if library.setns(file.fileno(), 0) or library.unshare(NEW_HOST_NAME):
            raise OSError(ctypes.get_errno(), "cannot enter the host")
    socket.sethostname(namespace)
    importlib.import_module("hpo.storage.ledger.worker_ids").host.cache_clear()
    logging.getLogger("hpo").addHandler(logging.StreamHandler())
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(*arguments, **options)
