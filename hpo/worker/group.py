"""A group: the processes that `torchrun` started as one worker, each of which computes a share of every minibatch.

The process of rank 0 leads. It alone leases, samples, prunes, stores and saves; it tells the others what to train
through the store of `torchrun`, and all of them call `training.loop.train` with the same arguments.
"""

import io
import json
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from hpo.errors import UsageError
from hpo.gradients.shares import LostProcess, Share, exchange
from hpo.space import as_json, from_json
from hpo.training.devices import choose_device
from hpo.training.loop import Checkpointer, Prune
from hpo.training.recipe import Member, Result
from hpo.worker.recipes import Static

TIMEOUT = timedelta(minutes=5)  # that an exchange waits for the slowest process
PATIENCE = 10.0  # seconds in which the others report that they failed as well
POLL = (0.001, 0.2)  # seconds between two looks at the store: at first, and at most

Run = Callable[[Prune, Checkpointer | None], list[Result]]


class Job(NamedTuple):
    """A population to train.

    Attributes:
        configuration, rerun, training: determine its recipe. members, label_fits: as `train` takes them.
        resumes: whether the leader may have a checkpoint of it.
    """

    configuration: str
    rerun: bool
    training: Static
    members: Sequence[Member]
    label_fits: bool
    resumes: bool


class _Abandoned(Exception):
    """The leader does not continue a job."""


class Group:
    """This process's view of its group.

    Attributes:
        share: of each minibatch. leads: whether this process has rank 0. device: this process's.
    """

    def __init__(self, store: dist.Store, share: Share, device: torch.device) -> None:
        self.share, self.device, self.leads = share, device, share.rank == 0
        self._store, self._jobs = store, 0

    def next_job(self) -> Job | None:
        """What the leader trains next; None when it has ended."""
        given = self._wait(f"job/{self._jobs}")
        if given is None:
            return None
        job = Job(*given)
        training = tuple((name, from_json(value)) for name, value in job.training)
        # Values only, no ranges.
        return job._replace(training=training, members=[Member(*each) for each in job.members])  # type: ignore[arg-type]

    def train(
        self, job: Job, run: Run, prune: Prune | None = None, checkpointer: Checkpointer | None = None
    ) -> list[Result]:
        """Trains a job in all processes.

        Args:
            run: calls `train` with `share` and the functions that it is given.
            prune, checkpointer: the leader's.

        Raises:
            LostProcess: another process has ended, or only some of them failed.
        """
        if self.leads:
            training = tuple((name, as_json(value)) for name, value in job.training)
            self._set(f"job/{self._jobs}", job._replace(training=training))
        self._jobs, sums = self._jobs + 1, Share.sums
        results: list[Result] = []
        failure = None
        try:
            results = run(partial(self._decide, prune), _SharedCheckpoint(self, checkpointer) if job.resumes else None)
        except LostProcess:
            raise
        except Exception as error:
            failure = error
        self._agree(failure, Share.sums - sums)
        if failure:
            raise failure
        return results

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The leader lets the other processes end."""
        if self.leads:
            with suppress(LostProcess):
                self._set(f"job/{self._jobs}", None)
        if kind is None:
            dist.destroy_process_group()

    def _decide(self, prune: Prune | None, epoch: int, results: Sequence[Result]) -> Collection[int]:
        """The members to stop after an epoch: the leader's decision."""
        decision = f"{self._jobs}/{epoch}"
        if self.leads:
            self._set(decision, sorted(prune(epoch, results)) if prune else [])
        members = self._wait(decision, unless=self._end_of(0))
        if members is None:
            raise _Abandoned("the leader does not continue this population")
        return list(members)

    def _agree(self, failure: Exception | None, sums: int) -> None:
        """Raises LostProcess unless all processes have come to the same point, or have all failed there."""
        entry = [sums, failure is not None, f"{type(failure).__name__}: {failure}" if failure else ""]
        self._set(self._end_of(self.share.rank), entry)
        deadline = time.monotonic() + PATIENCE if failure else math.inf
        for rank in range(self.share.count):
            other = self._wait(self._end_of(rank), deadline)
            if other is None or other[:2] != entry[:2]:
                cause = (other and other[2]) or entry[2]
                raise LostProcess(
                    f"not all processes of the group failed, but one did ({cause}); fix that, then run the same "
                    "command to resume"
                ) from failure

    def _end_of(self, rank: int) -> str:
        return f"{self._jobs}/end/{rank}"

    def _set(self, key: str, value: Any) -> None:
        exchange(lambda: self._store.set(key, json.dumps(value)))

    def _wait(self, key: str, deadline: float = math.inf, unless: str = "") -> Any:
        """The value of a key once it has one; None at the deadline, or when another key has one. Signals interrupt."""
        pause = POLL[0]
        while not exchange(lambda: self._store.check([key])):
            if time.monotonic() > deadline or (unless and exchange(lambda: self._store.check([unless]))):
                return None
            time.sleep(pause)
            pause = min(2 * pause, POLL[1])
        return json.loads(exchange(lambda: self._store.get(key)))

    def broadcast(self, content: bytes) -> bytes:
        """The leader's content, in every process."""
        size = torch.tensor([len(content)])
        exchange(lambda: dist.broadcast(size, 0))
        data = torch.zeros(int(size), dtype=torch.uint8)
        if self.leads:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        exchange(lambda: dist.broadcast(data, 0))
        return data.numpy().tobytes()


class _SharedCheckpoint:
    """The leader's `Checkpointer` in all processes."""

    def __init__(self, group: Group, checkpointer: Checkpointer | None) -> None:
        self._group, self._checkpointer = group, checkpointer

    def load(self) -> Sequence[Mapping[str, Any]] | None:
        buffer = io.BytesIO()
        torch.save(self._checkpointer.load() if self._checkpointer else None, buffer)
        states: Sequence[Mapping[str, Any]] | None = torch.load(
            io.BytesIO(self._group.broadcast(buffer.getvalue())), map_location="cpu", weights_only=True
        )
        return states

    def save(self, states: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        if self._checkpointer:
            self._checkpointer.save(states)


def join(device: str) -> Group | None:
    """Joins the group of this process, and waits for the others; None for a process that trains by itself.

    Args:
        device: as `--device`.

    Raises:
        UsageError: there is no GPU for each process.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        return None
    chosen = _device(device, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    rendezvous = dist.rendezvous("env://", timeout=TIMEOUT)
    store, rank, count = next(iter(rendezvous))
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    exchange(
        lambda: dist.init_process_group(
            backend, store=dist.PrefixStore("exchanges", store), rank=rank, world_size=count, timeout=TIMEOUT
        )
    )
    return Group(dist.PrefixStore("hpo", store), Share(rank, count), chosen)


def _device(name: str, rank: int, processes: int) -> torch.device:
    """The device of a process, the `rank`-th of so many on this machine."""
    chosen = choose_device(name)
    if chosen.type != "cuda":
        return chosen
    if chosen.index is not None:
        raise UsageError(f"--device is {name!r}, but under torchrun each process has its own GPU; use --device cuda")
    if torch.cuda.device_count() < processes:
        raise UsageError(
            f"torchrun started {processes} processes on this machine, where PyTorch sees {torch.cuda.device_count()} "
            "GPUs; start one process per GPU, or use --device cpu"
        )
    return torch.device("cuda", rank)
