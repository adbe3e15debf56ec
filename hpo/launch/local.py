"""Workers as processes of this machine, which go on when the terminal is closed."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpo.errors import UsageError
from hpo.launch.launch import Launch, WorkerState, text_of
from hpo.storage.ledger.worker_ids import has_ended, host, is_running, new_worker_id

GRACE = 10.0  # seconds that workers get to release their leases


@dataclass(frozen=True)
class Local:
    """Starts workers here; each writes its log into the launch's folder.

    Attributes:
        device: as `--device` names it; workers use all GPUs round-robin where it names no single one.
    """

    device: str = "auto"

    def hosts(self) -> set[str]:
        return {socket.gethostname()}

    def start(self, launch: Launch) -> dict[str, Any]:
        from hpo.training.devices import choose_device, worker_devices

        devices = worker_devices(choose_device(self.device), launch.workers, 1)
        environment = {"PYTHONHASHSEED": "0", **os.environ, "HPO_LAUNCH": f"local {launch.name}"}
        keys = []
        for number, device in enumerate(devices, start=1):
            with (launch.folder / f"worker-{number}.log").open("ab") as log:
                process = subprocess.Popen(
                    [*launch.command, "--device", device], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=environment, start_new_session=True,
                )  # fmt: skip
            keys.append(new_worker_id(process.pid))
        return {"worker_ids": keys}

    def states(self, launch: Launch) -> list[WorkerState]:
        return [
            WorkerState(number, _state(key), f"{_host(key).partition('+')[0]}, process {_pid(key)}")
            for number, key in enumerate(launch.data["worker_ids"], start=1)
        ]

    def logs(self, launch: Launch) -> list[str]:
        return [text_of(launch.folder / f"worker-{number}.log") for number in range(1, launch.workers + 1)]

    def stop(self, launch: Launch) -> None:
        elsewhere = [_host(key).partition("+")[0] for key in launch.data["worker_ids"] if _host(key) != host()]
        if elsewhere:
            raise UsageError(
                f"the workers of {launch.name} were started on {elsewhere[0]}, which is another machine, or another "
                "container or an earlier start of this one; if they still run, run the same command there"
            )
        alive = [key for key in launch.data["worker_ids"] if is_running(key)]
        for key in alive:
            with suppress(ProcessLookupError):
                os.kill(_pid(key), signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not all(map(has_ended, alive)):
            time.sleep(0.1)


def _state(worker_id: str) -> str:
    if _host(worker_id) != host():  # the process with its number here is another one
        return "unknown"
    return "ended" if has_ended(worker_id) else "running"


def _host(worker_id: str) -> str:
    return worker_id.partition(":")[0]


def _pid(worker_id: str) -> int:
    return int(worker_id.split(":")[1])
