"""The small process beside every job: waits for its turn, starts the command, tells how far it is, writes down how it ended.

python -m maet_core.jobs.supervisor RUN --lock FD       what `submit` starts; the descriptor holds the run's lock
python -m maet_core.jobs.supervisor RUN --on-cluster    what a cluster starts
python -m maet_core.jobs.supervisor RUN --end           ends the worker of a supervisor that was killed
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from maet_core.errors import JobError
from maet_core.jobs import config, launching, outputs, processes, reading, turns
from maet_core.jobs.files import take_lock
from maet_core.jobs.record import ENDED, Run
from maet_core.jobs.status import conclude, settle, was_told_to_stop

TICK_SECONDS = 0.25
_RESERVE_BYTES = 1 << 15


class Supervisor:
    """One attempt of one run."""

    def __init__(self, run: Run, held: list[int], on_cluster: bool):
        self.run, self.job, self.state = run, run.job(), run.state()
        self.held = held  # descriptors of locks; the worker inherits them
        self.engine = config.engine(self.job.engine) if on_cluster else None
        self.told_to_stop = False
        self._worked = self.state.seconds
        self._devices: list[str] | None = None
        self._phase_from: tuple[str, int, float] = ("", 0, 0.0)
        self._noted = 0.0

    def supervise(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self.state.supervisor, self.state.host = os.getpid(), socket.gethostname()
        with contextlib.suppress(OSError):
            # room for the last word, should the disk be full by then
            (self.run.path / "reserve").write_bytes(os.urandom(_RESERVE_BYTES))
        exit_status = None
        try:
            if self._wait_for_turn():
                exit_status = self._work()
        except (OSError, JobError) as error:
            print(f"maet: {error}", flush=True)
            exit_status = 1
        conclude(self.run, self.job, self.state, exit_status)
        if self.state.state == "interrupted" and self._cluster_wants_it(exit_status):
            self._requeue()
        self._end()

    def _stop(self, *_: object) -> None:
        self.told_to_stop = True

    def _wait_for_turn(self) -> bool:
        """True with tickets and the output's lock in hand; False if the job is to end before it began."""
        runs = self.run.path.parent
        self._write()
        devices: list[str] | None = None
        while self.engine is None:
            if self.run.cancel_wanted or self.told_to_stop or not self.run.path.is_dir():
                return False
            if turns.position(runs, self.job.gpus, self.run.id) == 1 and (taken := turns.take_tickets(self.job.gpus)):
                self.held += taken[0]
                devices = taken[1]
                break
            time.sleep(TICK_SECONDS)
        if self.job.output:
            lock = take_lock(self.run.output_lock(self.job.output), 2.0)
            if lock is None:
                raise JobError(f"{self.job.output}: another job is making it")
            self.held.append(lock)
            outputs.sweep(self.job.output, only_scraps=True)
        self.state.state, self.state.devices = "running", devices or []
        self.state.started = self.state.started or _now()
        self._devices = devices
        self._write()
        turns.leave(runs, self.run.id)
        return True

    def _work(self) -> int:
        (self.run.path / "exit").unlink(missing_ok=True)
        begun = time.monotonic()
        with (self.run.path / "log.txt").open("ab") as log, (self.run.path / "result.json").open("wb") as result:
            if self.state.attempt > 1:
                log.write(f"--- attempt {self.state.attempt}, {_now()} ---\n".encode())
                log.flush()
            worker = subprocess.Popen(
                launching.worker_command(self.run, self.job, self.engine),
                cwd=self.job.folder,
                env=launching.worker_environment(self.run, self._devices if self.engine is None else None),
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=log,
                start_new_session=True,
                pass_fds=self.held,
            )
        self.state.worker = worker.pid
        self._write()
        ended = threading.Event()
        threading.Thread(target=lambda: (worker.wait(), ended.set()), daemon=True).start()
        while not ended.wait(TICK_SECONDS):
            self.state.seconds = self._worked + time.monotonic() - begun
            self._follow()
            if self.run.cancel_wanted or self.told_to_stop:
                self._end_worker(lambda: not ended.is_set() or bool(processes.processes_of(self.run.path)))
        if processes.processes_of(self.run.path):  # it has ended, and some that it started have not
            self._end_worker(lambda: bool(processes.processes_of(self.run.path)))
        self.state.seconds = self._worked + time.monotonic() - begun
        self._follow()
        return worker.returncode

    def _end_worker(self, alive: Callable[[], bool]) -> None:
        processes.end(self.run.path, self.state.worker, self.job.grace_seconds, alive)

    def _follow(self) -> None:
        """Takes over how far the command says it is."""
        found = reading.progress(self.run.path / "log.txt")
        if found is None:
            self._write()
            return
        done, total, phase = found
        now, name = time.monotonic(), phase.partition(",")[0]
        if name != self._phase_from[0] or done < self._phase_from[1]:
            self._phase_from = (name, done, now)
        moved, seconds = done - self._phase_from[1], now - self._phase_from[2]
        self.state.done, self.state.total, self.state.phase = done, total, phase
        self.state.rate = moved / seconds if seconds > 0 else 0.0
        self.state.seconds_left = (total - done) / self.state.rate if moved > 0 else None
        self._write()
        if moved and now - self._noted >= 1.0:
            self._noted = now
            row = {
                "seconds": round(self.state.seconds, 2),
                "phase": name,
                "done": done,
                "total": total,
                "rate": self.state.rate,
            }
            with contextlib.suppress(OSError), (self.run.path / "rates.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _write(self) -> None:
        """A disk that is full now is no reason to leave the worker alone."""
        with contextlib.suppress(OSError):
            self.run.write(self.state)

    def _cluster_wants_it(self, exit_status: int | None) -> bool:
        """Whether the command ended because the cluster takes the machine back, and there is a queue to go to again."""
        if self.engine is None or not self.engine.requeue:
            return False
        if self.told_to_stop or was_told_to_stop(self.run, exit_status):
            return True
        if not self.engine.taken_back:
            return False
        try:
            said = launching.call(self.engine, "taken_back", launching.values(self.run, self.job, self.engine))
        except JobError as error:
            print(f"maet: {error}", flush=True)
            return False
        return said != "" and said not in self.engine.taken_back_unless

    def _requeue(self) -> None:
        """Where the cluster wants the machine back, the job goes to its queue again, and this process waits for its end.

        A job that somebody has taken out of the cluster stays out.
        """
        told = launching.values(self.run, self.job, self.engine)
        try:
            if not set(launching.call(self.engine, "status", told).split()) & set(self.engine.requeue_when):
                return
            again = replace(self.state, state="queued", error="", exit_status=None, attempt=self.state.attempt + 1)
            with contextlib.suppress(OSError):
                self.run.write(again)
            launching.call(self.engine, "requeue", told)
        except JobError as error:
            print(f"maet: {error}", flush=True)
            return
        print("maet: told to stop by the cluster; back in its queue", flush=True)
        while True:
            time.sleep(60)

    def _end(self) -> None:
        self.state.ended = _now()
        for attempt in range(600):
            with contextlib.suppress(OSError):
                (self.run.path / "reserve").unlink(missing_ok=True)
                self.run.write(self.state)
                turns.leave(self.run.path.parent, self.run.id)
                return
            if not self.run.path.is_dir():
                return  # somebody has removed it by hand
            time.sleep(min(0.1 * (attempt + 1), 1.0))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def end_orphan(run: Run) -> None:
    """Cancels a run whose supervisor is gone: ends the worker, then writes down how it ended."""
    processes.end(run.path, run.state().worker, run.job().grace_seconds, lambda: run.alive)
    settle(run, run.job())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--lock", type=int)
    parser.add_argument("--on-cluster", action="store_true")
    parser.add_argument("--end", action="store_true")
    told = parser.parse_args()
    run = Run(told.run)
    if told.end:
        end_orphan(run)
        return
    # on a cluster it may start while the one who submits it still holds the lock
    if (lock := take_lock(run.lock, 30.0) if told.lock is None else told.lock) is None:
        sys.exit(f"maet: {run.id}: it is running already")
    if run.state().state not in ENDED:
        Supervisor(run, [lock], told.on_cluster).supervise()


if __name__ == "__main__":
    main()
