"""A Slurm cluster for the tests of launches."""

from collections.abc import Iterator

import pytest
import slurm_cluster
from slurm_cluster import SlurmCluster


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A real cluster of one node, where Slurm and submitit are installed and root may start them."""
    reason = slurm_cluster.missing()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("submitit", reason="no submitit: pip install 'hpo-studies[slurm]'")
    cluster = SlurmCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """The cluster, without jobs."""
    yield slurm
    slurm.cancel_all()
