"""Workers as detached actors of a Ray cluster (2.60).

Ray gives each its CPUs and GPUs. Actors stay when the command that created them ends; one that cannot be placed waits
for resources; one whose process or node is lost is created again on any node that has its resources.
"""

import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpo.errors import HpoError
from hpo.launch.launch import Launch, WorkerState
from hpo.launch.ray_worker import GRACE, KEEP_CHILDREN, WorkerActor, read_logs

NAMESPACE = "hpo"
ANSWER = 5.0  # seconds that an actor, a node or the cluster gets to answer
FOLDERS = ("HPO_CACHE", "HPO_CHECKPOINTS", "HPO_DATA", "HPO_WEIGHTS")
NOT_COPIED = ["/.hpo", "/reports", "*.db", "*.db-*", ".git"]  # of the current folder


@dataclass(frozen=True)
class Ray:
    """Starts workers as actors of a Ray cluster.

    Attributes:
        address: the cluster, as `ray.init` takes it. cpus, gpus: of each worker.
        folder: is copied to the nodes, where workers run in the copy; None if they need no file of the user.
        only_here: the workers must stay on this host, because their database is a file on it.
    """

    address: str = "auto"
    cpus: float = 1
    gpus: float = 0
    folder: Path | None = None
    only_here: bool = False

    def hosts(self) -> set[str]:
        return {node["NodeManagerHostname"] for node in _nodes(self._ray)}

    def start(self, launch: Launch) -> dict[str, Any]:
        ray = self._ray
        here = min(f"node:{node['NodeManagerAddress']}" for node in _nodes(ray))
        options = {
            "namespace": NAMESPACE,
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "resources": {here: 0.001} if self.only_here else {},
            "lifetime": "detached",
            "max_restarts": -1,
            "max_concurrency": 3,  # calls of `where` and `stop` side by side
            "runtime_env": {"env_vars": KEEP_CHILDREN},
        }
        actors = {}
        for number in range(1, launch.workers + 1):
            name = f"{launch.name}-{number}"
            environment = {**_environment(), "HPO_LAUNCH": f"ray {name}"}
            create = ray.remote(WorkerActor).options(name=name, **options).remote
            log = f"{launch.name}/{number}.log"
            actors[name] = create(launch.command[3:], log, environment, self.folder is not None)
        self._check_first(list(actors.values()))
        address = self.address if "://" in self.address else ray.get_runtime_context().gcs_address
        return {"address": address, "actors": list(actors)}

    def _check_first(self, actors: list[Any]) -> None:
        """Raises HpoError if the first actor that answers could not start, for example because its node has no hpo."""
        ray = self._ray
        answered, _ = ray.wait([actor.where.remote() for actor in actors], timeout=ANSWER)
        try:
            ray.get(answered)
        except ray.exceptions.RayError as error:
            if not getattr(error, "actor_init_failed", True):
                return  # it started and has ended since, or was lost: Ray starts it again
            for actor in actors:
                ray.kill(actor, no_restart=True)
            reason = str(error).strip().splitlines()[-1]
            raise HpoError(f"workers cannot start on Ray: {reason}; install hpo and ray on every node") from error

    def states(self, launch: Launch) -> list[WorkerState]:
        answers = {name: actor.where.remote() for name, actor in self._actors(launch).items()}
        if answers:
            self._ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER)
        names = enumerate(launch.data["actors"], start=1)
        return [WorkerState(number, *self._state(answers.get(name))) for number, name in names]

    def _state(self, answer: Any) -> tuple[str, str]:
        """The state and place of a worker, from the answer of its actor; None if the actor has ended."""
        errors = self._ray.exceptions
        try:
            return ("running", self._ray.get(answer, timeout=0)) if answer else ("ended", "")
        except errors.ActorDiedError:
            return "ended", ""
        except (errors.GetTimeoutError, errors.ActorUnavailableError):
            return "pending", ""

    def logs(self, launch: Launch) -> list[str]:
        ray = self._ray
        nodes = {node["NodeManagerHostname"]: node["NodeID"] for node in _nodes(ray)}  # one node of each host
        on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        read = [
            ray.remote(read_logs).options(num_cpus=0, scheduling_strategy=on(node, soft=False)).remote(launch.name)
            for node in nodes.values()
        ]
        answered, _ = ray.wait(read, num_returns=len(read), timeout=4 * ANSWER)
        found = ray.get(answered)
        numbers = range(1, launch.workers + 1)
        return ["".join(logs.get(f"{number}.log", "") for logs in found) for number in numbers]

    def stop(self, launch: Launch) -> None:
        ray = self._ray
        actors = list(self._actors(launch).values())
        if actors:
            ray.wait([actor.stop.remote() for actor in actors], num_returns=len(actors), timeout=GRACE)
        for actor in actors:  # also those that had not started
            ray.kill(actor, no_restart=True)

    def _actors(self, launch: Launch) -> dict[str, Any]:
        """The launch's actors that have not ended, by name."""
        actors = {}
        for name in launch.data["actors"]:
            with suppress(ValueError):
                actors[name] = self._ray.get_actor(name, namespace=NAMESPACE)
        return actors

    @cached_property
    def _ray(self) -> Any:
        """Ray's module, connected to the cluster.

        Raises:
            HpoError: there is no Ray here, or no cluster at this address.
        """
        try:
            import ray
        except ImportError as error:
            raise HpoError("launching on Ray needs ray: pip install 'hpo-studies[ray]'") from error
        address = os.environ.get("RAY_ADDRESS", "auto") if self.address == "auto" else self.address
        if ray.is_initialized():  # with another cluster
            ray.shutdown()
        copied = {"working_dir": str(self.folder), "excludes": NOT_COPIED} if self.folder else None
        try:
            _check_answers(address)
            ray.init(address, namespace=NAMESPACE, runtime_env=copied, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise HpoError(
                f"no connection to a Ray cluster at {address!r} ({reason}); give another --address"
            ) from error
        return ray


def _check_answers(address: str) -> None:
    """Raises OSError if nothing listens at an address, which `ray.init` would find out after minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), ANSWER).close()


def _nodes(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _environment() -> dict[str, str]:
    """The variables that workers on other hosts need; not part of what Ray's dashboard shows."""
    names = [name for name in os.environ if name.startswith(("HPO_", "PG")) and name != "HPO_DASHBOARD_PASSWORD"]
    return {name: str(Path(os.environ[name]).resolve()) if name in FOLDERS else os.environ[name] for name in names}
