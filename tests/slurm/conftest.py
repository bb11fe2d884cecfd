"""The cluster of the tests, booted once."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster import CONF, Slurm, free_ports, program, start_munge, wait_for

if not os.environ.get("MAET_TEST_SLURM"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def slurm():
    folder = Path(tempfile.mkdtemp(prefix="maet-slurm-"))
    folder.chmod(0o755)  # munge's socket is for everybody
    host, ports = socket.gethostname().split(".")[0], free_ports(3)
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=ports))
    devices = []
    for number in range(2):
        devices.append(folder / f"gpu{number}")
        os.mknod(devices[-1], 0o20666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        made = Slurm(folder)
        try:
            start_munge(made)
            made.start_controller()
            for node in ("n1", "n2"):
                made.start(node, program("slurmd"), "-D", "-N", node)
            wait_for(
                lambda: made("sinfo", "--noheader", "--Node", "--format=%T", "--partition=main").split() == ["idle"] * 2
            )
            yield made
        finally:
            subprocess.run(["scancel", "--user=root"], capture_output=True)
            for name in ("n1", "n2", "slurmctld", "munged"):
                if name in made.daemons:
                    made.stop(name)
            shutil.rmtree(folder, ignore_errors=True)
