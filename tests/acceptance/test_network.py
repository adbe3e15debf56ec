"""PostgreSQL and workers on hosts of their own: links cut without a reset, in one direction, slow, or losing packets.

All faults run side by side, each with a study and two hosts of its own. A cut of 90 s, after which workers give up,
takes too long for a test: `python tests/support/fault_injection.py --cut 90`.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import network_hosts
import pytest
from fork_server import ForkServer
from network_faults import Fault, Run, carry_out, stop_during_a_cut, three_hosts, vanish_with_a_lock

FAULTS = {
    "5s": Fault(5.0),
    "30s": Fault(30.0),
    "requests": Fault(20.0, replies=False),
    "replies": Fault(20.0, requests=False),
    "commit1": Fault(20.0, requests=False, at_commit=1),
    "commit2": Fault(20.0, requests=False, at_commit=2),
    "slow": Fault(loss=0.02, delay=0.2),
}
HOSTS = {name: (f"{name}-1", f"{name}-2") for name in [*FAULTS, "stop", "lock"]}
Results = dict[str, Future[Any]]


@pytest.fixture(scope="module")
def results(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """What happened in the run of each fault."""
    if reason := network_hosts.missing():
        pytest.skip(reason)
    hosts = [host for pair in HOSTS.values() for host in pair]
    with three_hosts(hosts) as (network, server), ThreadPoolExecutor(len(HOSTS)) as pool:

        def new_run() -> Run:
            return Run(network, server, fork_server, tmp_path_factory.mktemp("run"))

        futures: Results = {
            name: pool.submit(carry_out, fault, new_run(), HOSTS[name]) for name, fault in FAULTS.items()
        }
        futures["stop"] = pool.submit(stop_during_a_cut, new_run(), HOSTS["stop"])
        futures["lock"] = pool.submit(vanish_with_a_lock, new_run(), HOSTS["lock"])
        yield futures


def test_a_stopped_worker_that_is_cut_off_ends_within_5_s(results: Results) -> None:
    assert results["stop"].result() < 5


@pytest.mark.parametrize("name", FAULTS)
def test_every_trial_is_finished_once_by_workers_that_continue(name: str, results: Results) -> None:
    counts = results[name].result()
    assert (counts["gave up"], counts["lost"]) == (0, 0)


@pytest.mark.parametrize("name", ["30s", "replies"])
def test_a_wait_is_said_within_10_s(name: str, results: Results) -> None:
    assert results[name].result()["warned after"] <= 10


def test_a_worker_that_vanishes_with_a_lock_does_not_end_the_others(results: Results) -> None:
    results["lock"].result()
