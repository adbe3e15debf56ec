"""Workers of several processes, as `torchrun` starts them: they train as one process does, and end together."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import CommandLine
from fork_server import ROOT, ForkServer, LoggedChild
from waiting import wait_for

from hpo.storage.database import connect
from hpo.storage.ledger import load_study, names

STUDY = """
import sys
import time
from pathlib import Path

from hpo import MLP, Configuration, Mnist1d, Regularizer, Study, SuccessiveHalving, log_range
from hpo.optim.regularizers import REGULARIZERS


def fault():
    # A file that exists tells a process to fail: hpo takes what a file contains for a part of the code.
    distributed = sys.modules.get("torch.distributed")
    rank = distributed.get_rank() if distributed and distributed.is_initialized() else None
    return Path(f"fault-{rank}").exists()


def grads(objective, params, state, hyper):
    if fault():
        raise RuntimeError("a fault")
    return REGULARIZERS["gnvr"].grads(objective, params, state, {"lambda": 0.1 + 0 * hyper["learning_rate"]})


def schedule(step, steps, steps_per_epoch):
    if step and not step % steps_per_epoch:
        time.sleep(0.5 if Path("slow").exists() else 0)
    return 1.0


RATE = {"learning_rate": log_range(1e-3, 1e-2), "weight_decay": 1e-3}
STUDY = Study(
    data=Mnist1d(samples=300),
    model=MLP((40, 16, 10)),
    batch_size=32,
    epochs=5,
    trials=4,
    seeds=2,
    tuning_runs=1,
    pruner=SuccessiveHalving(min_epochs=2, factor=2),
    schedule=schedule,
    baseline="Mine",
    configurations=(
        Configuration("Mine", regularizer=Regularizer("mine", grads, {}), space=RATE),
        Configuration("SAM", regularizer="sam", space=RATE, prediction="better"),
    ),
)
"""


class Work:
    """A folder with the study, its databases, and the groups that work on it."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self.folder = folder / "work"
        self.commands = CommandLine(server, self.folder, HPO_CACHE=str(folder.parent / "cache"))
        self.commands.write_study("small", STUDY)

    def torchrun(self, **environment: str) -> subprocess.Popen[bytes]:
        """A group as a person starts it."""
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "hpo", "worker", "small"]
        variables = os.environ | self.commands.environment | environment | {"PYTHONPATH": str(ROOT)}
        with (self.folder / "torchrun.txt").open("ab") as output:
            return subprocess.Popen(words, cwd=self.folder, env=variables, stdout=output, stderr=output)

    def group(self) -> list[LoggedChild]:
        """Both processes of a group, forked, with the variables that `torchrun` sets."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        shared = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": str(port)}
        shared |= {"MASTER_ADDR": "127.0.0.1"}
        return [
            self.commands.start("worker", "small", **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)
        ]

    def slots(self, database: str = "hpo.db") -> list[dict[str, object]]:
        path = self.folder / database
        engine = connect(f"sqlite:///{path}") if path.exists() else None
        return load_study(engine, "small").export()["slots"] if engine and "small" in names(engine) else []

    def states(self) -> set[object]:
        return {slot["state"] for slot in self.slots()}

    def wait_for_training(self) -> None:
        """Until slots are leased and their first epoch has probably ended."""
        wait_for(lambda: "leased" in self.states(), failure="no process leases anything")
        time.sleep(1)

    def followers(self, torchrun: int) -> list[int]:
        """Processes of a running `torchrun` but the first, which leads."""
        children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
        return [int(child) for child in children][1:]


@pytest.fixture
def work(fork_server: ForkServer, tmp_path: Path) -> Work:
    return Work(fork_server, tmp_path)


def test_a_killed_process_ends_its_group_and_another_group_completes_the_study_as_one_process_does(work: Work) -> None:
    checkpoints = {"HPO_CHECKPOINTS": str(work.folder / "checkpoints"), "HPO_CHECKPOINT_MINUTES": "0.0001"}
    slow = work.folder / "slow"
    slow.touch()
    first = work.torchrun(**checkpoints)
    wait_for(lambda: list(work.folder.glob("checkpoints/*.pt")), failure="no checkpoint")
    [follower] = work.followers(first.pid)
    os.kill(follower, signal.SIGKILL)
    seconds = wait_for(lambda: "leased" not in work.states(), failure="leases stay")
    assert first.wait(60) == 1 and seconds < 10
    assert work.states() == {"open"} and {slot["attempt"] for slot in work.slots()} == {0}

    slow.unlink()
    second = work.torchrun(**checkpoints)
    assert second.wait(120) == 0, (work.folder / "torchrun.txt").read_text()
    work.commands.run("worker", "small", HPO_STORAGE="sqlite:///alone.db")
    together, alone = work.slots(), work.slots("alone.db")
    assert len(together) == len(alone) == 2 * (4 + 2) and work.states() == {"done"}
    for one, other in zip(together, alone, strict=True):
        assert (one["setting"], one["cause"], one["seed"]) == (other["setting"], other["cause"], other["seed"])
        assert one["value"] == pytest.approx(other["value"], abs=1e-6)
        assert one["result"] == pytest.approx(other["result"], rel=1e-5)
    assert "pruned" in {slot["cause"] for slot in together}


@pytest.mark.parametrize("stalled", [False, True])
def test_a_group_releases_its_leases_after_a_signal(work: Work, stalled: bool) -> None:
    """Also if another process no longer takes part, so that the leader waits for it."""
    (work.folder / "slow").touch()
    leader, follower = work.group()
    work.wait_for_training()
    if stalled:
        follower.send_signal(signal.SIGSTOP)
        time.sleep(1)
    start = time.monotonic()
    leader.send_signal(signal.SIGTERM)
    assert leader.wait() == 128 + signal.SIGTERM and time.monotonic() - start < 5
    assert work.states() == {"open"}, leader.text()
    if stalled:
        follower.kill()
    else:
        assert follower.wait() == 1 and "another process of the group has ended" in follower.text()


def test_a_killed_leader_ends_its_group_and_its_trials_are_leased_again(work: Work) -> None:
    slow = work.folder / "slow"
    slow.touch()
    leader, follower = work.group()
    work.wait_for_training()
    leader.kill()
    assert follower.wait() == 1
    slow.unlink()
    work.commands.run("worker", "small")
    assert work.states() == {"done"} and len(work.slots()) == 2 * (4 + 2)


def test_a_fault_in_one_process_ends_the_group_and_counts_as_no_failure(work: Work) -> None:
    (work.folder / "fault-1").touch()
    leader, follower = work.group()
    assert follower.wait() == 1 and "RuntimeError: a fault" in follower.text()
    leader.send_signal(signal.SIGTERM)  # as torchrun does then
    leader.wait()
    assert work.states() == {"open"} and {slot["attempt"] for slot in work.slots()} == {0}


def test_a_fault_in_all_processes_is_a_failure_and_the_group_continues(work: Work) -> None:
    # Not in the middle of the space, where a step is made before training.
    study = STUDY.replace("    if fault():", '    if hyper["rank"] != 500:').replace(
        "import MLP", "import integers, MLP"
    )
    rank = '{"rank": integers(0, 1000)}, static=("rank",))'
    work.commands.write_study(
        "small", study.replace('Regularizer("mine", grads, {})', f'Regularizer("mine", grads, {rank}')
    )
    leader, _ = work.group()
    assert leader.wait() == 0, leader.text()
    states = {(slot["configuration"], slot["state"]) for slot in work.slots()}
    assert ("SAM", "done") in states and ("SAM", "failed") not in states
    assert ("Mine", "done") not in states
