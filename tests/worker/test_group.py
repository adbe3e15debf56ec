"""What the processes of a group tell one another."""

import torch
import torch.distributed as dist

from hpo import Stages
from hpo.gradients.shares import Share
from hpo.training.recipe import Member
from hpo.worker.group import Group, Job


def test_every_process_gets_the_job_of_the_leader() -> None:
    """With each kind of value that a training hyperparameter can have."""
    store, device = dist.HashStore(), torch.device("cpu")
    leader, other = Group(store, Share(0, 1), device), Group(store, Share(1, 2), device)
    training = (
        ("batch_size", Stages({0: 8, 2: 16})),
        ("model.width", 5),
        ("label_smoothing", 0.1),
        ("model.norm", None),
    )
    members = [Member(seed, {"learning_rate": 0.1}) for seed in range(2)]
    job = Job("A", False, training, members, label_fits=True, resumes=False)  # type: ignore[arg-type]
    leader.train(job, lambda *_: [])
    assert other.next_job() == job
