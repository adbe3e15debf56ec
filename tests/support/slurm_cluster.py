"""A Slurm cluster of one node in a folder of its own: Debian's munge, slurmctld and slurmd, run by root.

A requeued job starts again after `cred_expire`, which is two minutes unless it is set. The controller looks at time
limits and the end of grace times every 30 s, which cannot be changed.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from waiting import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
CONFIGURATION = """\
ClusterName=hpo
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=5
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why no cluster can be started here; '' if one can."""
    absent = [name for name in PROGRAMS if not _program(name)]
    if absent:
        return f"no {absent[0]}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "only root can start Slurm's daemons"


class SlurmCluster:
    """One node with 8 CPUs and two partitions: jobs of `high` preempt those of `low`, after 5 seconds of grace.

    Attributes:
        environment: the variables with which Slurm's commands find this cluster. node: the name of its node.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hpo-slurm-"))
        self.folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir()
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for path in (self.folder / "munge", key):
            shutil.chown(path, "munge", "munge")
        ports = {"controller": _free_port(), "daemon": _free_port()}
        self.node = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(host=self.node, folder=self.folder, **ports)
        (self.folder / "slurm.conf").write_text(text)
        files = {name: f"{self.folder}/munge/{name}" for name in ("socket", "pid", "log", "seed")}
        munge = [f"--key-file={key}", f"--socket={files['socket']}", f"--pid-file={files['pid']}"]
        munge += [f"--log-file={files['log']}", f"--seed-file={files['seed']}", "--foreground"]
        self._daemons = [subprocess.Popen([_program("munged"), *munge], user="munge", stderr=subprocess.DEVNULL)]
        wait_for(lambda: Path(files["socket"]).exists(), failure="munge does not start")
        for name in ("slurmctld", "slurmd"):
            command = [_program(name), "-D", "-f", str(self.folder / "slurm.conf")]
            self._daemons.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        idle = ("sinfo", "--noheader", "--format=%T")
        wait_for(lambda: "idle" in self.run(*idle, check=False), failure="Slurm's daemons do not start")

    def run(self, *command: str, check: bool = True, environment: Mapping[str, str] = os.environ) -> str:
        """One of Slurm's commands; returns what it printed. The variables of `environment` are those of a job."""
        variables = {**environment, **self.environment}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """The fields of a job, such as JobState, ExitCode and Restarts."""
        words = self.run("scontrol", "show", "job", job, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def was_preempted(self, job: str) -> bool:
        """Whether the job makes room for another one, or has done so: its requeue removes the time of preemption."""
        fields = self.job(job)
        return fields["Restarts"] != "0" or fields["PreemptTime"] != "None"

    def cancel_all(self) -> None:
        """Ends all jobs; asks again for those that were being requeued when they were cancelled."""

        def none_left() -> bool:
            self.run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            self.run("scancel", "--user=root", check=False)
            return not self.run("squeue", "--noheader", check=False)

        try:
            wait_for(none_left)
        except AssertionError:
            log = (self.folder / "slurmctld.log").read_text().splitlines()[-40:]
            raise AssertionError("\n".join(["jobs do not end:", self.run("squeue"), self.run("sinfo"), *log])) from None

    def close(self) -> None:
        """Ends all jobs and daemons."""
        self.cancel_all()
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
