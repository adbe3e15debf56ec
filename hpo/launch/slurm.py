"""Workers as an array job of Slurm, submitted through submitit.

Each array task is a job step that calls a `Task`, which starts the worker. The worker stops by itself before the time
limit, through `--max-time`; the `Task` then asks Slurm to requeue it, or exits with 0. For a worker that is late, Slurm
sends SIGUSR2 to the step shortly before the limit. On preemption the `Task` asks for the requeue (see
`hpo.worker.slurm_job`). A requeued array task starts the same command again.
"""

import io
import math
import os
import signal
import subprocess
import threading
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import HpoError, UsageError
from hpo.launch.launch import Launch, WorkerState, text_of
from hpo.worker import slurm_job

TIME_OVER = 128 + signal.SIGALRM  # what a worker exits with at the end of --max-time
STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGUSR1}
MARGIN = 60.0  # seconds before the time limit at which a worker stops; half of limits below two minutes
TIMEOUT = 60.0  # seconds that a command of Slurm gets
SIGNAL_SECONDS = 20  # before the limit, Slurm's own warning, for a worker that is late
TIME_IS_OVER = "the time is over and work is left; exit code 0, so that jobs that depend on this one start"


@dataclass(frozen=True)
class Slurm:
    """Submits workers as one array job.

    Attributes:
        partition, gpus_per_node, account, memory: as `sbatch` takes them; None leaves them to the cluster.
        seconds: the time limit of each task. requeue: start a task again after its time limit and after preemption.
    """

    partition: str | None = None
    seconds: float = 3600.0
    gpus_per_node: int | None = None
    cpus: int = 1
    memory: str | None = None
    account: str | None = None
    requeue: bool = True

    def hosts(self) -> set[str]:
        partition = ["-p", self.partition] if self.partition else []
        return set(_slurm("sinfo", "--noheader", "--Node", "--format=%N", *partition).split())

    def start(self, launch: Launch) -> dict[str, Any]:
        try:
            import submitit
        except ImportError as error:
            raise HpoError("launching on Slurm needs submitit: pip install 'hpo-studies[slurm]'") from error
        _slurm("srun", "--version")  # submitit needs it
        minutes = math.ceil(self.seconds / 60)
        executor = submitit.SlurmExecutor(folder=launch.folder, max_num_timeout=10**6)
        parameters = {
            "job_name": f"hpo-{launch.study}",
            "time": minutes,
            "partition": self.partition,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus,
            "mem": self.memory,
            "account": self.account,
            "signal_delay_s": SIGNAL_SECONDS,
            "array_parallelism": launch.workers,
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue" if self.requeue else "no-requeue": True},
        }
        executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        task = Task([*launch.command, "--max-time", f"{_working_seconds(minutes)}s"], self.requeue)
        try:
            with redirect_stderr(io.StringIO()), executor.batch():  # what sbatch says is in the error as well
                jobs = [executor.submit(task) for _ in range(launch.workers)]
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise HpoError(
                f"Slurm refused the job ({reason}); correct --partition, --account, --time, --memory, --threads or "
                "--gpus-per-node"
            ) from error
        return {"jobs": [job.job_id for job in jobs], "logs": [str(job.paths.stdout) for job in jobs]}

    def states(self, launch: Launch) -> list[WorkerState]:
        array = launch.data["jobs"][0].partition("_")[0]
        found = {}
        for line in _slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N", check=False).split():
            job, state, node = line.split("|")
            if job.partition("_")[0] == array:
                found[job] = (state, node)
        return [
            WorkerState(
                number,
                _state(found.get(job, ("",))[0]),
                " ".join(filter(None, [found.get(job, ("", ""))[1], f"job {job}"])),
            )
            for number, job in enumerate(launch.data["jobs"], start=1)
        ]

    def logs(self, launch: Launch) -> list[str]:
        return [text_of(Path(path)) for path in launch.data["logs"]]

    def stop(self, launch: Launch) -> None:
        _slurm("scancel", launch.data["jobs"][0].partition("_")[0])


class Task:
    """What an array task does: it runs the worker and leaves in the way that lets Slurm do what the user wants."""

    def __init__(self, command: list[str], requeue: bool) -> None:
        self.command, self.requeue = command, requeue
        self._worker: subprocess.Popen[bytes] | None = None
        self._code: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_worker": None, "_code": None}

    def __call__(self) -> None:
        """Runs the worker. Raises SystemExit where it failed, so that the job is marked as failed."""
        code = self._run(f"slurm {slurm_job.name()}")
        if code == TIME_OVER or (code in STOPPED and slurm_job.has_timed_out()):
            self._end_of_time()
        elif code:
            if code in STOPPED:
                slurm_job.let_preempted_job_be_requeued()
            raise SystemExit(code)

    def _end_of_time(self) -> None:
        if not self.requeue:
            slurm_job.say(TIME_IS_OVER)
        elif not slurm_job.requeue():
            slurm_job.say("this job cannot ask for its requeue, so work is left; exit code 0")

    def _run(self, launch: str) -> int:
        environment = {"PYTHONHASHSEED": "0", **os.environ, "HPO_LAUNCH": launch}
        # Slurm's warning before the limit reaches every process of the step; the worker inherits that it is blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self._worker = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, env=environment)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        # In a thread, since `checkpoint` interrupts this one, and Popen.wait is not reentrant.
        threading.Thread(target=self._wait, daemon=True).start()
        while self._code is None:
            time.sleep(0.2)
        return 128 - self._code if self._code < 0 else self._code

    def _wait(self) -> None:
        assert self._worker is not None
        self._code = self._worker.wait()

    def checkpoint(self) -> Any:
        """submitit calls this on Slurm's warning before the time limit or a preemption, and then requeues the task."""
        import submitit

        if self._worker:
            self._worker.terminate()
            deadline = time.monotonic() + SIGNAL_SECONDS / 2
            while self._code is None and time.monotonic() < deadline:
                time.sleep(0.1)
        if not self.requeue:
            slurm_job.say(TIME_IS_OVER)
            raise SystemExit(0)
        return submitit.helpers.DelayedSubmission(self)


def _working_seconds(minutes: int) -> int:
    """After how many seconds a worker stops whose time limit is that many minutes."""
    return int(60 * minutes - min(MARGIN, 30 * minutes))


def _state(slurm: str) -> str:
    if slurm in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED"):
        return "running"
    return "pending" if slurm in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESIZING") else "ended"


def _slurm(*command: str, check: bool = True) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {command[0]} here; run this on a machine that can submit to Slurm") from error
    except subprocess.TimeoutExpired as error:
        raise HpoError(
            f"{command[0]} did not answer within {TIMEOUT:g} seconds; run the same command when Slurm answers again"
        ) from error
    if check and done.returncode:
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise HpoError(
            f"{command[0]} failed ({said}); run this on a login node of the cluster, or start workers here with --on "
            "local"
        )
    return done.stdout
