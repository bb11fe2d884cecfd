"""A real Slurm in a temporary folder: a controller and two nodes on this machine, with GPUs that are only names.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge; `make test-slurm` installs them and sets MAET_TEST_SLURM.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_SECONDS = 300

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
GresTypes=gpu
KillWait=5
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES State=UP PriorityTier=1 GraceTime=60 DefMemPerCPU=100
PartitionName=urgent Nodes=n1,n2 State=UP PriorityTier=10 PreemptMode=OFF DefMemPerCPU=100
"""


def wait_for(condition, seconds: float = PATIENCE_SECONDS):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.2)
    return found


class Slurm:
    """`slurm("squeue", "-h")` runs a command of it and returns what it printed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}

    def __call__(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def answers(self, wanted: str, *command: str) -> bool:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return ended.returncode == 0 and wanted in ended.stdout

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def stop(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start_controller(self) -> None:
        self.start("slurmctld", program("slurmctld"), "-D")
        wait_for(lambda: self.answers("UP", "scontrol", "ping"))


def start_munge(made: Slurm) -> None:
    """With a key and a socket of its own, so that a munge of this machine is left alone."""
    key = made.folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    made.start(
        "munged",
        program("munged"),
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={made.folder}/munge.socket",
        f"--pid-file={made.folder}/munged.pid",
        f"--log-file={made.folder}/munged.log",
        f"--seed-file={made.folder}/munged.seed",
    )
    wait_for((made.folder / "munge.socket").exists)


def program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or sys.exit(
        f"{name} is not installed"
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
