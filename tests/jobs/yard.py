"""A workspace whose jobs are small shell scripts that wait to be told what to do: nothing here depends on how fast the machine is."""

import os
import signal
import time
from pathlib import Path

from maet_core import jobs
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import Run

PATIENCE_SECONDS = 300  # a busy machine may be slow; nothing waits that long on a calm one


def wait_for(condition, seconds: float = PATIENCE_SECONDS):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
    return found


class Yard:
    """The workspace, and jobs in it that go on until they are let go."""

    def __init__(self, path: Path):
        self.path = path

    def script(self, name: str, before: str = "", after: str = "") -> list[str]:
        """Says `name` in the file `order`, waits for the file go-NAME, then makes out-NAME in one move."""
        body = f'{before}\necho {name} >> order\nwhile [ ! -e go-{name} ]; do sleep 0.02; done\n{after}\necho "$MAET_RUN" > part-{name} && mv part-{name} out-{name}'
        return ["sh", "-c", body]

    def start(self, name: str, before: str = "", after: str = "", **options) -> Run:
        made = jobs.submit(self.path, self.script(name, before, after), output=f"out-{name}", **options)
        return Run.find(self.path, made.job.id)

    def started(self, name: str, times: int = 1) -> None:
        wait_for(lambda: self.order().count(name) >= times)

    def order(self) -> list[str]:
        try:
            return (self.path / "order").read_text().split()
        except FileNotFoundError:
            return []

    def go(self, name: str) -> None:
        (self.path / f"go-{name}").touch()

    def made(self, name: str) -> bool:
        return (self.path / f"out-{name}").exists()

    def status(self, run: Run):
        return jobs.status(self.path, run.id)

    def wait(self, run: Run):
        return jobs.wait(self.path, run.id, PATIENCE_SECONDS)

    def kill_supervisor(self, run: Run) -> None:
        kill(run.state().supervisor)

    def kill_worker(self, run: Run) -> None:
        """The command with all that it started."""
        leader = wait_for(lambda: run.state().worker)
        os.killpg(leader, signal.SIGKILL)
        wait_for(lambda: not any(map(running, processes_of(run.path))))


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not running(process))


def running(process: int) -> bool:
    """A zombie has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
