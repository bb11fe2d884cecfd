"""Random kills at random moments over merges and trainings, seeded; then every output is compared with an undisturbed run's.

`python tests/jobs/chaos.py --kills 300` goes on until docs/reliability.md tells of that many. It writes the page, and the .json beside it, after
every job that has come to its end: a run that was stopped has told the truth so far, and the same command goes on with it.
tests/jobs/test_chaos.py does a few kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from small_workspace import build_workspace

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs.outputs import leftovers
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import Run
from maet_core.recipe import Recipe

PROJECT = Path(__file__).resolve().parents[2]
VICTIMS = ("worker", "supervisor", "both at once", "cancelled")
KINDS = ("merge", "training")
PATIENCE_SECONDS = 600


@dataclass
class Tally:
    """One run, by its seed and the size of its models. Kills are counted by "kind, victim", the rest by kind."""

    seed: int = 1
    scale: int = 1
    begun: str = ""
    rounds: int = 0  # jobs that have come to their end
    seconds: float = 0.0
    kills: Counter = field(default_factory=Counter)
    attempts: Counter = field(default_factory=Counter)
    outputs: Counter = field(default_factory=Counter)
    resumed_from_work: Counter = field(default_factory=Counter)  # attempts that began with unfinished work on disk
    wrong: list[str] = field(default_factory=list)  # everything that must not happen

    @classmethod
    def from_json(cls, content: dict) -> Tally:
        return cls(**{name: Counter(value) if isinstance(value, dict) else value for name, value in content.items()})

    @property
    def total(self) -> int:
        return sum(self.kills.values())


class Chaos:
    """Merges and trainings under kills. The scale makes the models larger, so that kills hit the writing."""

    def __init__(self, folder: Path, tally: Tally):
        self.workspace = build_workspace(folder / "workspace", tally.scale)
        self.tally = tally
        corpus = self.workspace / "corpora" / "lines.txt"
        corpus.parent.mkdir(exist_ok=True)
        corpus.write_text("".join(f"Line {number} of the text says {number * number}.\n\n" for number in range(120)))
        self.recipe = Recipe.load(self.workspace / "recipes" / "demo.yaml").to_yaml()
        self.calm = {kind: self._undisturbed(kind) for kind in KINDS}

    def submit(self, kind: str) -> Run:
        output = f"models/{kind}"
        if kind == "merge":
            command = [
                "maet",
                "merge",
                "{run}/recipe.yaml",
                "--relative-to",
                "recipes",
                "-o",
                output,
                "--device",
                "cpu",
            ]
            made = jobs.submit(self.workspace, command, output=output, recipe=self.recipe, grace_seconds=20)
        else:
            command = ["maet", "train", "--base", "models/general-en", "--corpus", "corpora/lines.txt", "-o", output]
            command += ["--steps", "14", "--save-every", "2", "--row-tokens", "48", "--batch-rows", "2"]
            made = jobs.submit(self.workspace, command, output=output, grace_seconds=20)
        return Run.find(self.workspace, made.job.id)

    def _undisturbed(self, kind: str) -> tuple[dict[str, bytes], float]:
        """The output's files, and how long the job took in seconds."""
        run, started = self.submit(kind), time.monotonic()
        ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
        seconds = time.monotonic() - started
        assert ended.name == "done", ended.state.error
        return self._take(run), seconds

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
        self, kills: int, seconds: float = float("inf"), told: Callable[[Tally], None] = lambda tally: None
    ) -> Tally:
        """Until that many kills have hit, or the time is over; each job is killed one to four times, then left in peace.

        `told` gets the tally after every job.
        """
        until, earlier, started = time.monotonic() + seconds, self.tally.seconds, time.monotonic()
        while self.tally.total < kills and time.monotonic() < until:
            # a draw of its own for every job: a run that goes on does what an uninterrupted one would have done
            self.random = random.Random(f"{self.tally.seed} {self.tally.rounds}")
            kind = self.random.choices(KINDS, (3, 2))[0]
            run = self.submit(kind)
            self.tally.attempts[kind] += 1
            for _ in range(self.random.randint(1, 4)):
                if self.tally.total < kills and not self._disturb(kind, run):
                    break
            self._finish(kind, run)
            self.tally.rounds += 1
            self.tally.seconds = earlier + time.monotonic() - started
            told(self.tally)
        return self.tally

    def stop(self) -> None:
        """Ends what is under way: a job outlives whoever submitted it."""
        for now in jobs.listed(self.workspace):
            if now.name not in jobs.ENDED:
                jobs.cancel(self.workspace, now.job.id)
                jobs.wait(self.workspace, now.job.id, PATIENCE_SECONDS)

    def _disturb(self, kind: str, run: Run) -> bool:
        """One kill, and the job going again; False when it had ended before."""
        victim = self.random.choice(VICTIMS)
        self._moment(kind, run)
        if jobs.status(self.workspace, run.id).name not in ("queued", "running"):
            return False
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
        self.tally.kills[f"{kind}, {victim}"] += 1
        if victim == "supervisor" and self.random.random() < 0.5:
            self._refused(run)
            jobs.cancel(self.workspace, run.id)  # still reaches the worker
        ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
        if ended.name == "done":
            return False
        if ended.name == "failed":
            self.tally.wrong.append(f"{kind}: failed after {victim}: {ended.state.error}")
        self.tally.resumed_from_work[kind] += bool(leftovers(ended.job.output))
        jobs.resume(self.workspace, run.id)
        self.tally.attempts[kind] += 1
        return True

    def _moment(self, kind: str, run: Run) -> None:
        """A random moment of the job's life: of its whole time, or shortly after it has told some progress."""
        until = time.monotonic() + self.random.random() * self.calm[kind][1]
        if self.random.random() < 0.6:
            seen = self.random.randint(1, 8)
            while jobs.status(self.workspace, run.id).name in ("queued", "running") and _told(run) < seen:
                time.sleep(0.01)
            until = time.monotonic() + self.random.random() * 0.2
        while time.monotonic() < until and jobs.status(self.workspace, run.id).name in ("queued", "running"):
            time.sleep(0.01)

    def _refused(self, run: Run) -> None:
        """While an orphaned worker lives, nobody may start beside it."""
        if not run.alive:
            return
        try:
            jobs.submit(self.workspace, ["maet", "merge", "x", "-o", "x"], output=run.job().output)
        except JobError:
            return
        self.tally.wrong.append(f"{run.id}: a second job for the output of a living one was taken")

    def _finish(self, kind: str, run: Run) -> None:
        ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
        while ended.name in jobs.RESUMABLE:
            jobs.resume(self.workspace, run.id)
            self.tally.attempts[kind] += 1
            ended = jobs.wait(self.workspace, run.id, PATIENCE_SECONDS)
            if ended.name == "failed":
                self.tally.wrong.append(f"{kind}: {ended.state.error}")
                jobs.remove(self.workspace, run.id)
                return
        if scraps := leftovers(ended.job.output):
            self.tally.wrong.append(f"{kind}: left behind: {[path.name for path in scraps]}")
        files = self._take(run)
        differing = sorted(
            name for name in {*files, *self.calm[kind][0]} if files.get(name) != self.calm[kind][0].get(name)
        )
        if differing:
            self.tally.wrong.append(f"{kind}: differs from the undisturbed run: {differing}")
        self.tally.outputs[kind] += 1
        print(
            f"{self.tally.total} kills, {sum(self.tally.outputs.values())} outputs, wrong: {self.tally.wrong}",
            flush=True,
        )


def _told(run: Run) -> int:
    try:
        return (run.path / "log.txt").read_bytes().count(b"progress ")
    except OSError:
        return 0


def report(runs: list[Tally]) -> str:
    """The page: all runs together."""

    def count(name: str, key: str) -> int:
        return sum(getattr(run, name)[key] for run in runs)

    rows = [
        f"| {kind} | " + " | ".join(str(count("kills", f"{kind}, {victim}")) for victim in VICTIMS)
        + f" | {count('attempts', kind)} | {count('resumed_from_work', kind)} | {count('outputs', kind)} |"
        for kind in KINDS
    ]  # fmt: skip
    told = "; ".join(
        f"seed {run.seed}, model scale {run.scale}, {run.begun}, {run.seconds / 60:.0f} minutes, {run.total} kills"
        for run in runs
    )
    mean = statistics.mean([count("attempts", kind) / max(count("outputs", kind), 1) for kind in KINDS])
    wrong = "".join(f"\n- seed {run.seed}: {line}" for run in runs for line in run.wrong) or " none."
    return f"""# Reliability of background jobs

Written by `make chaos`, which goes on where it was stopped. Runs so far, on machines that do other work beside it: {told}.

Merges and trainings run as jobs and are killed at
random moments of their lives, one to four times each: the worker with SIGKILL, its supervisor with SIGKILL (half of the time the worker is then
cancelled, else left to finish alone), both at once as when a machine stops, or a plain cancel. Whatever did not finish by itself is resumed.
At the end every file of every output is compared, byte by byte, with the output of an undisturbed run.

| job | worker killed | supervisor killed | both at once | cancelled | attempts | resumed from unfinished work | finished outputs |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

{sum(run.total for run in runs)} kills, {mean:.1f} attempts an output on average. Outputs that differ, are missing, doubled, or left scraps behind:{wrong}

What else can happen has a test of its own in tests/jobs/test_survival.py: the app's server killed, the machine restarted, the disk full, two
submits and two resumes at once, clocks that jump.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300, help="of all runs on the page")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop sooner, with fewer kills")
    parser.add_argument("--seed", type=int, help="a run of its own  [default: the last one goes on]")
    parser.add_argument("--scale", type=int, default=12)
    parser.add_argument("--anew", action="store_true", help="forget the runs on the page")
    parser.add_argument("-o", "--output", type=Path, default=PROJECT / "docs" / "reliability.md")
    told = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kept = told.output.with_suffix(".json")
    runs = (
        [Tally.from_json(run) for run in json.loads(kept.read_text("utf-8"))]
        if kept.is_file() and not told.anew
        else []
    )
    seed = told.seed or (runs[-1].seed if runs else 1)
    tally = next((run for run in runs if (run.seed, run.scale) == (seed, told.scale)), None)
    if tally is None:
        tally = Tally(seed, told.scale, time.strftime("%Y-%m-%d"))
        runs.append(tally)

    def keep(_: Tally) -> None:
        kept.write_text(json.dumps([vars(run) for run in runs], indent=1) + "\n", "utf-8")
        told.output.write_text(report(runs), "utf-8")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAET_CACHE"] = f"{folder}/cache"
        chaos = Chaos(Path(folder), tally)
        try:
            chaos.run(told.kills - sum(run.total for run in runs if run is not tally), 60 * told.minutes, keep)
        except KeyboardInterrupt:
            chaos.stop()
            sys.exit(f"stopped; {told.output} tells what was seen until then, and the same command goes on")
    wrong = [line for run in runs for line in run.wrong]
    print(told.output, wrong or "clean")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
