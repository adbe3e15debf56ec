"""The Slurm job that a worker runs in: why it was stopped, and asking for its requeue.

Slurm (22.05) requeues a preempted job only if the job is still there to be killed. A step that `srun` started gets
SIGTERM when the grace time begins; if it then exits, its job is FAILED and not requeued. A batch script gets SIGTERM
when the grace time is over, and its job is requeued whatever its exit code.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.output import write_line

ANSWER_TIMEOUT = 10.0  # seconds that Slurm's controller gets to answer
STAY = 3600.0  # seconds that a stopped worker waits for Slurm to kill it


def name() -> str:
    """The job as `scontrol` names it, such as "12_3" for a task of an array; "" outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def requeue() -> bool:
    """Asks Slurm to end this job and start it again; returns False if Slurm refuses or does not answer."""
    return _scontrol("requeue", name()) is not None


def has_timed_out() -> bool:
    """Whether this job was stopped because its time limit was over."""
    return _fields().get("Reason") == "TimeLimit"


def let_preempted_job_be_requeued() -> None:
    """Called before a stopped worker exits; only has an effect in a job step that Slurm preempts.

    There it asks for the requeue. If Slurm refuses or does not answer, it waits until Slurm kills it: an exit would
    leave the job FAILED. In a worker that `hpo launch` started it leaves that to the process that started the worker.
    """
    if not os.environ.get("SLURM_STEP_ID", "").isdigit() or "HPO_LAUNCH" in os.environ:
        return
    with _sigterm_ignored():  # Slurm may repeat it while this process asks
        fields = _fields()
        may_exit = (bool(fields) and fields.get("PreemptTime", "None") == "None") or requeue()
    if not may_exit:
        say("this job cannot ask for its requeue; waiting until Slurm ends it, so that Slurm requeues it")
        time.sleep(STAY)


@contextmanager
def _sigterm_ignored() -> Iterator[None]:
    """Has no effect outside the main thread, where Python does not allow it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """One line of the worker's log."""
    write_line(f"hpo: {text}", error=True)


def _fields() -> dict[str, str]:
    """The job's fields as `scontrol show job` prints them; {} if Slurm does not answer."""
    words = (_scontrol("show", "job", name(), "--oneliner") or "").split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def _scontrol(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["scontrol", *words], capture_output=True, text=True, errors="replace", timeout=ANSWER_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
