"""Random kills at random moments over merges and trainings, seeded; then every output is compared with an undisturbed run's.

`python tests/jobs/chaos.py --kills 300` goes on until docs/reliability.json tells of that many; where it does, it begins anew. It writes the file,
and the page beside it, after every job that has come to its end: a run that was stopped has told the truth so far, and the same command goes on with it.
tests/jobs/test_chaos.py does a few kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kill_record import KINDS, VICTIMS, Kill, Record, Round, load, page, save
from small_workspace import build_workspace

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs.outputs import leftovers
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import Run
from maet_core.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600
TRAINING_SCALE = 8  # training is slower than merging: at the same width it would take nearly all the time


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: the output's files, how long the job took, and for how long of it unfinished work lay on disk."""

    files: dict[str, bytes]
    seconds: float
    unfinished_seconds: float


class Chaos:
    """Merges and trainings under kills. The record's scale makes the models that are merged wider, so that kills hit the writing."""

    def __init__(self, folder: Path, record: Record):
        self.workspace = build_workspace(folder / "workspace", record.scale)
        self.small = build_workspace(folder / "small", min(record.scale, TRAINING_SCALE))
        self.record = record
        corpus = self.workspace / "corpora" / "lines.txt"
        corpus.parent.mkdir(exist_ok=True)
        corpus.write_text("".join(f"Line {number} of the text says {number * number}.\n\n" for number in range(120)))
        recipe = Recipe.load(self.workspace / "recipes" / "demo.yaml").to_yaml()
        self.recipe = recipe.replace("5GB", "10MB")  # several shards
        self._undisturbed("merge")  # the first one compiles, which the others need not
        self.calm = {kind: self._undisturbed(kind) for kind in KINDS}

    def submit(self, kind: str) -> Run:
        output = f"models/{kind}"
        if kind == "merge":
            command = ["maet", "merge", "{run}/recipe.yaml", "--relative-to", "recipes", "-o", output, "--device", "cpu"]  # fmt: skip
            recipe = self.recipe
        else:
            base = os.path.relpath(self.small / "models" / "general-en", self.workspace)
            command = ["maet", "train", "--base", base, "--corpus", "corpora/lines.txt", "-o", output]
            command += ["--steps", "14", "--save-every", "2", "--row-tokens", "48", "--batch-rows", "2"]
            recipe = ""
        made = jobs.submit(self.workspace, command, output=output, recipe=recipe, grace_seconds=20)
        return Run.find(self.workspace, made.job.id)

    def _undisturbed(self, kind: str) -> Calm:
        run, started = self.submit(kind), time.monotonic()
        seen = []
        while self._goes(run):
            if _unfinished(run):
                seen.append(time.monotonic())
            time.sleep(0.005)
        ended, now = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS), time.monotonic()
        assert ended.name == "done", ended.state.error
        return Calm(self._take(run), now - started, seen[-1] - seen[0] if seen else 0.0)

    def _take(self, run: Run) -> dict[str, bytes]:
        """Reads the output, and takes it and the job away."""
        output = Path(run.job().output)
        files = {path.name: path.read_bytes() for path in sorted(output.iterdir())}
        for path in output.iterdir():
            path.unlink()
        output.rmdir()
        jobs.remove(self.workspace, run.id)
        if "training.json" in files:
            told = json.loads(files["training.json"])
            told.pop("seconds")
            files["training.json"] = json.dumps(told).encode()
        return files

    def run(
        self, kills: int, seconds: float = float("inf"), told: Callable[[Record], None] = lambda record: None
    ) -> Record:
        """Until that many kills have hit, or the time is over; each job is killed one to four times, then left in peace.

        `told` gets the record after every job.
        """
        until, earlier, started = time.monotonic() + seconds, self.record.seconds, time.monotonic()
        while self.record.kills < kills and time.monotonic() < until:
            # a draw of its own for every job: a run that goes on does what an uninterrupted one would have done
            self.random = random.Random(f"{self.record.seed} {len(self.record.rounds)}")
            now = Round(self.random.choices(KINDS, (3, 2))[0])
            run = self.submit(now.kind)
            for _ in range(self.random.randint(1, 4)):
                if self.record.kills + len(now.kills) == kills or not self._disturb(now, run):
                    break
            self._finish(now, run)
            self.record.rounds.append(now)
            self.record.seconds = earlier + time.monotonic() - started
            told(self.record)
        return self.record

    def stop(self) -> None:
        """Ends what is under way: a job outlives whoever submitted it."""
        for now in jobs.listed(self.workspace):
            if now.name not in jobs.ENDED:
                jobs.cancel(self.workspace, now.job.id)
                jobs.wait(self.workspace, now.job.id, PATIENCE_SECONDS)

    def _disturb(self, now: Round, run: Run) -> bool:
        """One kill, and the job going again; False when it had ended before, or has ended well in spite of it."""
        victim, started = self.random.choice(VICTIMS), time.monotonic()
        self._moment(now.kind, run)
        if not self._goes(run):
            return False
        kill = Kill(victim, now.attempts, round(time.monotonic() - started, 3), (_told(run) or [""])[-1])
        if victim == "cancelled":
            jobs.cancel(self.workspace, run.id)
        else:
            supervisor = [run.state().supervisor] if victim != "worker" else []
            workers = processes_of(run.path) if victim != "supervisor" else []
            if not any(supervisor + workers):
                return True  # there is no worker yet
            for process in filter(None, supervisor + workers):
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if victim == "supervisor" and self.random.random() < 0.5:
            self._refused(now, run)
            jobs.cancel(self.workspace, run.id)  # still reaches the worker
        ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
        kill.outcome, kill.unfinished = ended.name, _unfinished(run)
        now.kills.append(kill)
        if ended.name == "done":
            return False
        if ended.name == "failed":
            now.wrong.append(f"failed after {victim}: {ended.state.error}")
        jobs.resume(self.workspace, run.id)
        now.attempts += 1
        return True

    def _moment(self, kind: str, run: Run) -> None:
        """Waits for a random moment of the job's life: of its whole time, after some progress, or while work lies on disk."""
        calm, draw = self.calm[kind], self.random.random()
        which, progress = self.random.choice(("life", "told", "unfinished", "unfinished")), self.random.randint(1, 8)
        seconds = draw * calm.seconds
        if which == "told":
            self._until(run, lambda: len(_told(run)) >= progress)
            seconds = draw * 0.2
        elif which == "unfinished":
            self._until(run, lambda: _unfinished(run) and _told(run))
            seconds = draw * calm.unfinished_seconds
        until = time.monotonic() + seconds
        self._until(run, lambda: time.monotonic() >= until)

    def _until(self, run: Run, condition: Callable[[], bool]) -> None:
        while not condition() and self._goes(run):
            time.sleep(0.005)

    def _goes(self, run: Run) -> bool:
        return jobs.status(self.workspace, run.id).name not in jobs.ENDED

    def _refused(self, now: Round, run: Run) -> None:
        """While an orphaned worker lives, nobody may start beside it."""
        if not run.alive:
            return
        try:
            jobs.submit(self.workspace, ["maet", "merge", "x", "-o", "x"], output=run.job().output)
        except JobError:
            return
        now.wrong.append("a second job for the output of a living one was taken")

    def _finish(self, now: Round, run: Run) -> None:
        ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
        while ended.name in jobs.RESUMABLE:
            jobs.resume(self.workspace, run.id)
            now.attempts += 1
            ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
            if ended.name == "failed":
                now.wrong.append(ended.state.error)
                jobs.remove(self.workspace, run.id)
                return
        if scraps := leftovers(ended.job.output):
            now.wrong.append(f"left behind: {[path.name for path in scraps]}")
        files, calm = self._take(run), self.calm[now.kind].files
        if differing := sorted(name for name in {*files, *calm} if files.get(name) != calm.get(name)):
            now.wrong.append(f"differs from the undisturbed run: {differing}")


def _unfinished(run: Run) -> bool:
    """Whether work lies on disk that the next attempt could go on from."""
    return any(path.name.endswith((".partial", ".training")) for path in leftovers(run.job().output))


def _told(run: Run) -> list[str]:
    """The progress that this attempt has told, line by line."""
    try:
        log = (run.path / "log.txt").read_text("utf-8", "replace")
    except OSError:
        return []
    attempt = run.state().attempt
    if attempt > 1:
        log = log.partition(f"--- attempt {attempt},")[2]
    return [line.removeprefix("progress ") for line in log.splitlines() if line.startswith("progress ")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300, help="of all runs on the page")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop sooner, with fewer kills")
    parser.add_argument("--seed", type=int, help="a run of its own  [default: the last one goes on]")
    parser.add_argument("--scale", type=int, default=32)
    parser.add_argument("--anew", action="store_true", help="forget what has been measured, though it is not complete")
    parser.add_argument("-o", "--output", type=Path, default=PROJECT / "docs" / "reliability.md")
    told = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kept = told.output.with_suffix(".json")
    records = [] if told.anew else load(kept)
    if sum(one.kills for one in records) >= told.kills:
        records = []  # it is complete: all of it is measured again
    seed = told.seed or (records[-1].seed if records else 1)
    record = next((one for one in records if (one.seed, one.scale) == (seed, told.scale)), None)
    if record is None:
        record = Record(seed, told.scale, time.strftime("%Y-%m-%d"))
        records.append(record)

    def keep(_: Record) -> None:
        save(records, kept)
        told.output.write_text(page(records), "utf-8")
        kills, wrong = sum(one.kills for one in records), [line for one in records for line in one.wrong]
        print(f"{kills} kills, {sum(len(one.rounds) for one in records)} jobs, wrong: {wrong}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAET_CACHE"] = f"{folder}/cache"
        chaos = Chaos(Path(folder), record)
        try:
            chaos.run(told.kills - sum(one.kills for one in records if one is not record), 60 * told.minutes, keep)
        except KeyboardInterrupt:
            chaos.stop()
            sys.exit(f"stopped; {told.output} tells what was seen until then, and the same command goes on")
    wrong = [line for one in records for line in one.wrong]
    print(told.output, wrong or "clean")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
