"""What an evaluation leaves behind, in one folder: every answer, and what it was an answer to.

evaluation.json            models with their identity, tasks, protocols, and what each cell came to
answers/CELL.parquet       question, answer, both readings and verdicts; one file a model, task and language
answers/CELL.jsonl.part    answers of a cell that is not finished: a run that was stopped goes on after them
texts/MODEL--LANG.parquet  the losses on general text
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from maet_core import locks
from maet_core.errors import InputError
from maet_core.evaluation.statistics import Share
from maet_core.whole_files import appearing

if TYPE_CHECKING:
    import pandas as pd

INDEX = "evaluation.json"


@dataclass(frozen=True)
class Cell:
    """What one model came to on one task in one language. `right` is the flexible reading, `strict` the strict one.

    `cut` answers reached the length limit, `too_long` questions did not fit the model. `key` changes with anything that an
    answer depends on.
    """

    model: str
    task: str
    language: str
    n: int
    right: int
    strict: int
    cut: int
    too_long: int
    tokens: int
    seconds: float
    key: str

    @property
    def share(self) -> Share:
        return Share(self.right, self.n)

    @property
    def strict_share(self) -> Share:
        return Share(self.strict, self.n)

    @property
    def file(self) -> str:
        return f"answers/{cell_name(self.model, self.task, self.language)}.parquet"


@dataclass(frozen=True)
class TextLoss:
    """Nats per token of one model on general text of one language, and half the 95 % interval."""

    model: str
    language: str
    source: str
    nats_per_token: float
    interval: float
    texts: int
    tokens: int
    key: str

    @property
    def file(self) -> str:
        return f"texts/{cell_name(self.model, self.language)}.parquet"


@dataclass
class Evaluation:
    """The content of a result folder. `baselines` and `protocols` are by task."""

    folder: Path
    models: list[dict[str, str]] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    texts: list[TextLoss] = field(default_factory=list)
    finished: bool = False

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Raises InputError for a folder that holds no evaluation."""
        folder = Path(folder)
        try:
            content = json.loads((folder / INDEX).read_text("utf-8"))
            cells = [Cell(**cell) for cell in content["cells"]]
            texts = [TextLoss(**text) for text in content["texts"]]
            return cls(folder, content["models"], content["tasks"], cells, texts, content["finished"])
        except FileNotFoundError:
            raise InputError(f"{folder}: holds no evaluation ({INDEX} is not there)") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder / INDEX}: cannot be read as an evaluation ({error})") from error

    def save(self) -> None:
        """Replaces evaluation.json in one step."""
        import maet_core

        content = {
            "maet_version": maet_core.__version__,
            "finished": self.finished,
            "models": self.models,
            "tasks": self.tasks,
            "cells": [asdict(cell) for cell in self.cells],
            "texts": [asdict(text) for text in self.texts],
        }
        write_whole(self.folder / INDEX, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())

    @property
    def labels(self) -> list[str]:
        return [model["label"] for model in self.models]

    def languages(self, task: str) -> list[str]:
        return list(dict.fromkeys(cell.language for cell in self.cells if cell.task == task))

    def cell(self, model: str, task: str, language: str) -> Cell | None:
        wanted = (model, task, language)
        return next((cell for cell in self.cells if (cell.model, cell.task, cell.language) == wanted), None)

    def answers(self, cell: Cell) -> pd.DataFrame:
        """One row a question, in the task's order."""
        import pandas as pd

        return pd.read_parquet(self.folder / cell.file)


def cell_name(*parts: str) -> str:
    """A file name that stays readable; a hash tells apart what reads the same."""
    plain = "--".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)[:120]
    return f"{plain}--{xxhash.xxh32_hexdigest(repr(parts).encode())}"


def write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as part:
        part.write_bytes(content)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as part:
        pd.DataFrame(rows).to_parquet(part, index=False)


class Journal:
    """Rows that are kept as they come. The first line says what they belong to; a torn last line is not counted."""

    def __init__(self, path: Path, key: str):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._read(key) if path.is_file() else None
        if kept is None:
            write_whole(path, (json.dumps({"key": key}) + "\n").encode())
        else:
            self.rows = kept
            write_whole(
                path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [{"key": key}, *kept]).encode()
            )

    def _read(self, key: str) -> list[dict[str, Any]] | None:
        found = []
        for line in self.path.read_text("utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found[1:] if found and found[0] == {"key": key} else None

    def add(self, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
        self.rows += rows

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One writer a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        locks.take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)
