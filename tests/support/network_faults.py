"""Two workers on two hosts and PostgreSQL on a third, and what the network between them can do."""

import itertools
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fork_server import ForkServer, LoggedChild
from network_hosts import Network
from postgres_server import PostgresServer
from storage_checks import check, read
from storage_study import make
from storage_worker import read_logs
from worker_processes import wait_for_training

from hpo.storage import schema
from hpo.storage.database import connect

DATABASE, WORKERS = "database", ("one", "two")


@dataclass(frozen=True)
class Fault:
    """What happens to the links between the database's host and the workers' hosts once all workers train.

    Attributes:
        seconds: for which the links are cut; packets vanish, nothing is reset. requests, replies: which directions.
        at_commit: the cut begins with the reply to that many commits of the first worker; 0: at once.
        loss, delay: the share of packets that are lost, and the seconds that those of the database take, until the end.
    """

    seconds: float = 0.0
    requests: bool = True
    replies: bool = True
    at_commit: int = 0
    loss: float = 0.0
    delay: float = 0.0


@contextmanager
def three_hosts(workers: Sequence[str] = WORKERS) -> Iterator[tuple[Network, PostgresServer]]:
    """A network of these workers' hosts, and a server on a host of its own."""
    network = Network([DATABASE, *workers])
    try:
        server = PostgresServer(network.hosts[DATABASE].address, network.hosts[DATABASE].namespace)
        try:
            yield network, server
        finally:
            server.close()
    finally:
        network.close()


class Run:
    """A study and its workers, which train three slots side by side for 0.4 s."""

    def __init__(self, network: Network, server: PostgresServer, fork_server: ForkServer, folder: Path) -> None:
        self.network, self.fork_server, self.folder = network, fork_server, folder
        self.url = server.create()
        self.ledger = make(connect(self.url), trials=6, seeds=2)
        self.started = 0

    def start(self, host: str, lease: float = 60.0, seconds: float = 0.4) -> LoggedChild:
        """A worker on that host, which logs the waits for the database to its output."""
        name, self.started = self.started, self.started + 1
        output, log = self.folder / f"{name}.txt", str(self.folder / f"{name}.log")
        call = ("network_hosts:call_on", self.network.hosts[host].namespace, "storage_worker:work")
        options = {"seconds": (seconds, seconds), "population": 3, "lease": lease}
        return self.fork_server.start(*call, self.url, "s", log, name, output=output, **options)

    def cut(self, hosts: Sequence[str], cut: bool, fault: Fault) -> None:
        for host in hosts:
            self.network.link(host, DATABASE).cut = cut and fault.requests
            self.network.link(DATABASE, host).cut = cut and fault.replies

    def check(self) -> Counter[str]:
        """Checks all tables of the finished study; returns counts of attempts that were lost or late."""
        log = read_logs(self.folder)
        check(self.ledger, self.url, log)
        late = sum(line["what"] == "late" for line in log)
        return Counter(lost=len(read(self.ledger, schema.failures)), late=late)


def carry_out(fault: Fault, run: Run, hosts: Sequence[str] = WORKERS) -> Counter[str]:
    """Runs workers through a fault to the end of their study; returns counts of what happened.

    If one gives up, a new one continues.
    """
    workers = [run.start(host) for host in hosts]
    for worker in workers:
        wait_for_training(worker)
    for host in hosts:
        run.network.link(host, DATABASE).loss = run.network.link(DATABASE, host).loss = fault.loss
        run.network.link(DATABASE, host).delay = fault.delay
    if fault.seconds:
        if fault.at_commit:
            commits = itertools.count(1)
            last = fault.at_commit
            _cut_after(run.network, hosts[0], lambda packet: b"COMMIT" in packet and next(commits) == last)
        run.cut(hosts, True, fault)
        time.sleep(fault.seconds)
        run.cut(hosts, False, fault)
    codes = [worker.wait(180) for worker in workers]
    assert set(codes) <= {0, 1}, [worker.text() for worker in workers]
    counts = Counter({"gave up": codes.count(1), "warned after": min(map(_warning, workers))})
    if 1 in codes:
        assert run.start(hosts[0]).wait(180) == 0
    return counts + run.check()


def stop_during_a_cut(run: Run, hosts: Sequence[str]) -> float:
    """Stops the first worker while it is cut off, and lets the second finish; returns how long the first took."""
    first, second = run.start(hosts[0], 3.0, 60.0), run.start(hosts[1], 3.0)
    wait_for_training(first)
    run.cut(hosts[:1], True, Fault())
    time.sleep(2.0)
    sent = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM
    seconds = time.monotonic() - sent
    assert second.wait() == 0, second.text()
    run.cut(hosts[:1], False, Fault())
    run.check()
    return seconds


def vanish_with_a_lock(run: Run, hosts: Sequence[str]) -> None:
    """Cuts the first worker off for good while it holds the lock on the study; the second must finish without it."""
    first, second = (run.start(host, lease=3.0) for host in hosts)
    for worker in (first, second):
        wait_for_training(worker)
    _cut_after(run.network, hosts[0], lambda packet: b"FROM hpo_studies" in packet and b"FOR UPDATE" in packet)
    assert second.wait(90) == 0, second.text()
    assert "has not answered for 38 s" not in second.text()  # its second warning
    first.kill()
    run.check()


def _cut_after(network: Network, host: str, is_last: Callable[[bytes], bool]) -> None:
    """Cuts a host's link in both directions once it has sent a packet that `is_last` chooses."""
    link, reached = network.link(host, DATABASE), threading.Event()

    def look(packet: bytes) -> None:
        if not reached.is_set() and is_last(packet):
            link.cut = network.link(DATABASE, host).cut = True
            reached.set()

    link.on_packet = look
    assert reached.wait(30)


def _warning(worker: LoggedChild) -> int:
    """After how many seconds a worker first said that the database does not answer; 1000: never."""
    return min(map(int, re.findall(r"has not answered for (\d+) s", worker.text())), default=1000)
