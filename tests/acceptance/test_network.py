"""PostgreSQL and workers on hosts of their own: links cut without a reset, in one direction, slow, or losing packets.

All faults run side by side, each with a study and two hosts of its own.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import network_hosts
import pytest
from fork_server import ForkServer
from network_faults import DATABASE, Fault, Run, carry_out, stop_during_a_cut
from network_hosts import Network
from postgres_server import PostgresServer

FAULTS = {
    "5 s": Fault(5.0),
    "30 s": Fault(30.0),
    "requests": Fault(10.0, replies=False),
    "replies": Fault(20.0, requests=False),
    "commit 1": Fault(20.0, requests=False, at_commit=1),
    "commit 2": Fault(20.0, requests=False, at_commit=2),
    "commit 3": Fault(20.0, requests=False, at_commit=3),
    "slow": Fault(loss=0.02, delay=0.2),
}
Results = dict[str, Future[Counter[str]]]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if reason := network_hosts.missing():
        pytest.skip(reason)
    network = Network([DATABASE, *(f"{name}-{n}".replace(" ", "") for name in [*FAULTS, "stop"] for n in (1, 2))])
    yield network
    network.close()


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[PostgresServer]:
    host = network.hosts[DATABASE]
    server = PostgresServer(host.address, host.namespace)
    yield server
    server.close()


def pair(name: str) -> tuple[str, str]:
    """The two hosts of a fault."""
    name = name.replace(" ", "")
    return f"{name}-1", f"{name}-2"


@pytest.fixture(scope="module")
def results(
    network: Network, server: PostgresServer, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    """What happened in the run of each fault."""

    def run(name: str) -> Counter[str]:
        return carry_out(FAULTS[name], Run(network, server, fork_server, tmp_path_factory.mktemp("run")), pair(name))

    with ThreadPoolExecutor(len(FAULTS)) as pool:
        yield {name: pool.submit(run, name) for name in FAULTS}


def test_a_stopped_worker_that_is_cut_off_ends_within_5_s(
    network: Network, server: PostgresServer, fork_server: ForkServer, tmp_path: Path
) -> None:
    assert stop_during_a_cut(Run(network, server, fork_server, tmp_path), pair("stop")) < 5


@pytest.mark.parametrize("name", FAULTS)
def test_every_trial_is_finished_once_by_workers_that_continue(name: str, results: Results) -> None:
    counts = results[name].result()
    assert (counts["gave_up"], counts["lost"]) == (0, 0)


@pytest.mark.parametrize("name", ["30 s", "replies"])
def test_a_wait_is_said_within_10_s(name: str, results: Results) -> None:
    assert results[name].result()["first warning after"] <= 10
