"""What the chaos test keeps about every kill, and the page that it makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

VICTIMS = ("worker", "supervisor", "both at once", "cancelled")
KINDS = ("merge", "training")


@dataclass
class Kill:
    """One kill: when it hit, and what became of the attempt that it hit."""

    victim: str
    attempt: int
    seconds: float  # since the attempt was started
    progress: str  # what the command had said last; "" before its first word
    outcome: str = ""  # the job's state when nothing of it ran any more
    unfinished: bool = False  # unfinished work was on disk then, for the next attempt to go on from


@dataclass
class Round:
    """One job from its submission to its output."""

    kind: str
    kills: list[Kill] = field(default_factory=list)
    attempts: int = 1
    wrong: list[str] = field(default_factory=list)  # everything that must not happen


@dataclass
class Record:
    """One run of the chaos test, which its seed and the width of its models make again, up to the machine's speed."""

    seed: int
    scale: int
    begun: str = ""
    seconds: float = 0.0
    rounds: list[Round] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(len(one.kills) for one in self.rounds)

    @property
    def wrong(self) -> list[str]:
        return [f"job {number}, {one.kind}: {line}" for number, one in enumerate(self.rounds) for line in one.wrong]


def save(records: list[Record], path: Path) -> None:
    """A round a line: few enough to read, and a difference shows what came."""
    parts = []
    for record in records:
        head = {name: value for name, value in vars(record).items() if name != "rounds"}
        rounds = ",\n".join("  " + json.dumps(asdict(one)) for one in record.rounds)
        parts.append(json.dumps(head)[:-1] + ', "rounds": [\n' + rounds + "\n]}")
    path.write_text("[" + ",\n".join(parts) + "]\n", "utf-8")


def load(path: Path) -> list[Record]:
    """[] where there is no file yet."""
    if not path.is_file():
        return []
    return [
        Record(**{**run, "rounds": [Round(**{**one, "kills": [Kill(**kill) for kill in one["kills"]]}) for one in run["rounds"]]})
        for run in json.loads(path.read_text("utf-8"))
    ]  # fmt: skip


def page(records: list[Record]) -> str:
    """All runs together."""
    rounds = [one for record in records for one in record.rounds]
    runs = "; ".join(
        f"seed {one.seed}, model width × {one.scale}, {one.begun}, {one.seconds / 60:.0f} minutes, {one.kills} kills in {len(one.rounds)} jobs"
        for one in records
    )
    wrong = "".join(f"\n- seed {one.seed}, {line}" for one in records for line in one.wrong) or " none."
    attempts = sum(one.attempts for one in rounds) / max(len(rounds), 1)
    return f"""# Reliability of background jobs

Written by `make chaos`, which goes on where it was stopped. [reliability.json](reliability.json) has every kill with its moment and outcome. Runs so
far, on machines that do other work beside it: {runs}.

Merges and trainings run as jobs and are killed at random moments, one to four times each: the worker with SIGKILL, its supervisor with SIGKILL
(half of the time the worker is then cancelled, else left to finish alone), both at once as when a machine stops, or a plain cancel. A quarter of
the moments come from the whole life of the job, a quarter from shortly after it told some progress, half from the time in which it has unfinished
work on disk. Whatever did not finish by itself is resumed. At the end every file of every output is compared, byte by byte, with the output of an
undisturbed run.

| what was killed | merges | trainings | nothing more ran: interrupted or cancelled | had finished, or went on and did | failed |
|---|---|---|---|---|---|
{_by_victim(rounds)}

| while it was | {" | ".join(_phases(rounds))} |
|---|{"---|" * len(_phases(rounds))}
| kills | {" | ".join(str(count) for count in _phases(rounds).values())} |

{sum(one.kills for one in records)} kills, {attempts:.1f} attempts an output on average. After {sum(kill.unfinished for kill in _kills(rounds))} of them unfinished
work lay on disk, which the next attempt went on from. {len(rounds)} jobs, {sum(not one.wrong for one in rounds)} outputs equal to the undisturbed
run's. Outputs that differ, are missing, doubled, or left scraps behind:{wrong}

What else can happen has a test of its own in tests/jobs/test_survival.py (the app's server killed, the machine restarted, the disk full, two submits
and two resumes at once, clocks that jump) and in tests/browser/test_background.py (the browser closed, then the app's server killed).
"""


def _kills(rounds: list[Round]) -> Iterator[Kill]:
    return (kill for one in rounds for kill in one.kills)


def _by_victim(rounds: list[Round]) -> str:
    lines = []
    for victim in VICTIMS:
        found = [(one.kind, kill.outcome) for one in rounds for kill in one.kills if kill.victim == victim]
        counts = [sum(kind == wanted for kind, _ in found) for wanted in KINDS]
        counts += [sum(outcome in wanted for _, outcome in found) for wanted in (("interrupted", "cancelled"), ("done",), ("failed",))]  # fmt: skip
        lines.append(f"| {victim} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def _phases(rounds: list[Round]) -> dict[str, int]:
    """Kills by what the command was doing, in the words of its progress (`12 29 measuring similarity`)."""
    counts: dict[str, int] = {}
    for kill in _kills(rounds):
        name = kill.progress.split(" ", 2)[2].partition(",")[0] if kill.progress else "starting"
        counts[name] = counts.get(name, 0) + 1
    return counts
