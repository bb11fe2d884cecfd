"""What a search leaves behind: one line a setting, with every verdict, so that any two can be compared on the same questions.

search.json    the recipe, what is varied, the questions and the protocol
points.jsonl   settings, verdicts, change of the loss on general text; appended as they come
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maet_core.errors import InputError, OutputError
from maet_core.evaluation.results import write_whole
from maet_core.evaluation.statistics import Paired, Share

HEAD, POINTS = "search.json", "points.jsonl"


@dataclass(frozen=True)
class Point:
    """One setting. `right`: `task language` → a letter a question, 1 for right. `forgotten`: by language, nats per token more
    than the base on general text, and half the 95 % interval. `pruned`: given up after the questions it was asked."""

    settings: dict[str, float | str]
    right: dict[str, str]
    forgotten: dict[str, tuple[float, float]] = field(default_factory=dict)
    pruned: bool = False
    role: str = ""  # "base", "recipe": what the others are compared with
    seconds: float = 0.0

    @property
    def gain(self) -> float:
        """Mean over tasks and languages of the share that is right, in 0..1."""
        shares = [verdicts.count("1") / len(verdicts) for verdicts in self.right.values() if verdicts]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def forgetting(self) -> float | None:
        """Mean over languages, in nats per token; None where no general text was read."""
        changes = [change for change, _ in self.forgotten.values()]
        return sum(changes) / len(changes) if changes else None

    def share(self, key: str) -> Share:
        return Share(self.right[key].count("1"), len(self.right[key]))

    def against(self, other: Point) -> Paired:
        """Paired on the questions that both were asked, all languages together."""
        mine, its = [], []
        for key, verdicts in self.right.items():
            both = min(len(verdicts), len(other.right.get(key, "")))
            mine += [letter == "1" for letter in verdicts[:both]]
            its += [letter == "1" for letter in other.right.get(key, "")[:both]]
        return Paired.of(mine, its)

    def beside(self, own: Point | None) -> str:
        """What the pair comes to against the recipe as it stands, in words; empty for the base and the recipe itself."""
        if own is None or self is own or self.role == "base":
            return ""
        paired = self.against(own)
        return paired.text() + ("; inside the interval" if paired.is_luck else "")

    @property
    def label(self) -> str:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{value}" for name, value in self.settings.items()
        )


@dataclass
class Search:
    """The content of a search's folder. `head` holds kind (`sweep` or `tune`), recipe, axes, tasks with protocols, finished."""

    folder: Path
    head: dict[str, Any]
    points: list[Point]

    @classmethod
    def load(cls, folder: str | Path) -> Search:
        folder = Path(folder)
        try:
            head = json.loads((folder / HEAD).read_text("utf-8"))
            points = []
            if (folder / POINTS).is_file():
                for line in (folder / POINTS).read_text("utf-8").splitlines():
                    try:
                        row = json.loads(line)
                    except ValueError:
                        break  # the last line of a search that was killed while it wrote
                    row["forgotten"] = {key: tuple(pair) for key, pair in row["forgotten"].items()}
                    points.append(Point(**row))
            return cls(folder, head, points)
        except FileNotFoundError:
            raise InputError(f"{folder}: holds no search ({HEAD} is not there)") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder}: cannot be read as a search ({error})") from error

    @classmethod
    def begin(cls, folder: Path, head: dict[str, Any]) -> Search:
        """A new folder, or an earlier search of exactly the same kind that goes on. Raises OutputError for another one."""
        head = json.loads(json.dumps(head | {"finished": False}))
        if (folder / HEAD).is_file():
            found = cls.load(folder)
            before = {key: value for key, value in found.head.items() if key not in ("finished", "outcome", "budget")}
            if before != {key: value for key, value in head.items() if key not in ("finished", "outcome", "budget")}:
                raise OutputError(f"{folder}: holds another search; choose another name")
            # without a torn last line
            write_whole(folder / POINTS, "".join(_line(point) for point in found.points).encode())
            found.head |= {"finished": False, "budget": head.get("budget")}
        else:
            if folder.exists() and any(folder.iterdir()):
                raise OutputError(f"{folder}: holds something that is no search; choose another name")
            found = cls(folder, head, [])
        found.save()
        return found

    def save(self) -> None:
        write_whole(self.folder / HEAD, (json.dumps(self.head, ensure_ascii=False, indent=1) + "\n").encode())

    def add(self, point: Point) -> None:
        with (self.folder / POINTS).open("a", encoding="utf-8") as file:
            file.write(_line(point))
        self.points.append(point)

    def role(self, name: str) -> Point | None:
        return next((point for point in self.points if point.role == name), None)

    @property
    def tried(self) -> list[Point]:
        """All but the base."""
        return [point for point in self.points if point.role != "base"]

    @property
    def best(self) -> Point | None:
        """The highest gain among those that were asked everything; the first of equals."""
        whole = [point for point in self.tried if not point.pruned]
        return max(whole, key=lambda point: point.gain, default=None)

    @property
    def front(self) -> list[Point]:
        return pareto([point for point in self.tried if not point.pruned])


def _line(point: Point) -> str:
    return json.dumps(asdict(point), ensure_ascii=False) + "\n"


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both: more gain and no more forgetting, or as much gain and less. By gain, falling."""
    front: list[Point] = []
    ordered = sorted(
        (point for point in points if point.forgetting is not None), key=lambda point: (-point.gain, point.forgetting)
    )
    for point in ordered:
        if not front or point.forgetting < front[-1].forgetting:
            front.append(point)
    return front
