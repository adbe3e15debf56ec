"""Workers as detached actors of a Ray cluster: Ray gives each its CPUs and GPUs, and starts lost ones again."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import HpoError
from hpo.launch.launch import Launch, WorkerState

NAMESPACE = "hpo"
ANSWER = 10.0  # seconds that an actor gets to answer
GRACE = 10.0  # seconds that a worker gets to release its leases


class WorkerActor:
    """One worker process on whichever node Ray chooses; when Ray restarts the actor, the worker starts again."""

    def __init__(self, command: list[str], folder: str, log: str, environment: Mapping[str, str]) -> None:
        self._stopping = False
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        self._log = Path(log)
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env={"PYTHONHASHSEED": "0", **os.environ, **environment},
            )  # fmt: skip
        threading.Thread(target=self._end_with_worker, daemon=True).start()

    def _end_with_worker(self) -> None:
        """Frees the actor's resources when the worker is done; a worker that was killed is started again by Ray."""
        import ray

        code = self._process.wait()
        if code == -signal.SIGKILL and not self._stopping:
            os._exit(1)  # Ray restarts the actor
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def where(self) -> str:
        """The node's address and the worker's process."""
        import ray

        return f"{ray.util.get_node_ip_address()}, process {self._process.pid}"

    def log(self) -> str:
        """What the worker has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Lets the worker release its leases and waits for it."""
        self._stopping = True
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()


@dataclass(frozen=True)
class Ray:
    """Starts workers as actors of a Ray cluster.

    Attributes:
        address: the cluster, as `ray.init` takes it. cpus, gpus: of each worker. memory: bytes of each worker, or None.
    """

    address: str = "auto"
    cpus: float = 1
    gpus: float = 0
    memory: float | None = None

    def hosts(self) -> set[str]:
        ray = self._connect()
        return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}

    def start(self, launch: Launch) -> dict[str, Any]:
        ray = self._connect()
        actor = ray.remote(WorkerActor)
        resources = {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory}
        kept = {"lifetime": "detached", "max_restarts": -1, "max_concurrency": 4}  # without this process, after a loss
        environment = {name: value for name, value in os.environ.items() if name.startswith(("HPO_", "PG"))}
        environment["HPO_LAUNCH"] = f"ray {launch.name}"
        names = [f"{launch.name}-{number}" for number in range(1, launch.workers + 1)]
        for name in names:
            log = str(launch.folder / f"{name}.log")
            actor.options(name=name, namespace=NAMESPACE, **resources, **kept).remote(
                launch.command, str(Path.cwd()), log, environment
            )
        return {"address": self.address, "actors": names}

    def states(self, launch: Launch) -> list[WorkerState]:
        ray = self._connect()
        found = []
        for number, name in enumerate(launch.data["actors"], start=1):
            actor = self._actor(ray, name)
            if actor is None:
                found.append(WorkerState(number, "ended", ""))
                continue
            try:
                found.append(WorkerState(number, "running", ray.get(actor.where.remote(), timeout=ANSWER)))
            except ray.exceptions.GetTimeoutError:
                found.append(WorkerState(number, "pending", ""))
            except ray.exceptions.RayActorError:
                found.append(WorkerState(number, "ended", ""))
        return found

    def log(self, launch: Launch, number: int) -> str:
        name = launch.data["actors"][number - 1]
        path = launch.folder / f"{name}.log"
        if path.exists():
            return path.read_text(encoding="utf-8", errors="replace")
        ray = self._connect()
        actor = self._actor(ray, name)
        try:
            return ray.get(actor.log.remote(), timeout=ANSWER) if actor else ""
        except ray.exceptions.RayError:
            return ""

    def stop(self, launch: Launch) -> None:
        ray = self._connect()
        actors = [actor for name in launch.data["actors"] if (actor := self._actor(ray, name))]
        if actors:
            ray.wait([actor.stop.remote() for actor in actors], num_returns=len(actors), timeout=GRACE + ANSWER)
        for actor in actors:  # those that had not started yet
            ray.kill(actor, no_restart=True)

    def _actor(self, ray: Any, name: str) -> Any:
        try:
            return ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return None

    def _connect(self) -> Any:
        try:
            import ray
        except ImportError as error:
            raise HpoError("launching on Ray needs ray: pip install 'hpo-studies[ray]'") from error
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError as error:
                raise HpoError(f"no Ray cluster answers at {self.address!r}; start one, or give --address") from error
        return ray
