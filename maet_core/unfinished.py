"""Long work that was stopped or killed: what it leaves beside its output, and how the same command goes on from there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maet_core import locks
from maet_core.errors import InputError
from maet_core.safetensors_writer import output_error

_ABOUT = "state.json"


class UnfinishedWork:
    """A folder with the state of work of one `kind` (training, locating): files `step-N.….safetensors`, and state.json, replaced in
    one move once they are on the disk, which says to which step it has come.

    `work` says what is done on what (anything that text can hold); a state of other work is an error, not a start. Never pickled.
    """

    def __init__(self, folder: Path, work: str, kind: str):
        self.folder, self.work, self.kind = Path(folder), work, kind

    def read(self, *facts: str) -> dict[str, Any] | None:
        """What `note` was told last: `step`, and these facts; None if there is no state. Raises InputError if it cannot be used."""
        if not self.kept(self.folder):
            return None
        path = self.folder / _ABOUT
        try:
            told = json.loads(path.read_text("utf-8"))
            work, *_ = [told[fact] for fact in ("work", "step", *facts)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.unreadable(path, error) from error
        if work != self.work:
            raise InputError(
                f"{self.folder}: the state of another {self.kind} (other data, options or base); finish that one, or remove it"
            )
        return told

    def note(self, step: int, **facts: Any) -> None:
        """From here the work goes on; files of other steps are no longer needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"work": self.work, "step": step, **facts})
        replace(self.folder / _ABOUT, lambda part: part.write_text(text, "utf-8"))
        for old in self.folder.glob("step-*.safetensors"):
            if not old.name.startswith(f"step-{step}."):
                old.unlink()

    @staticmethod
    def kept(folder: Path) -> bool:
        """There is a state to go on from."""
        return (folder / _ABOUT).exists()

    def unreadable(self, path: Path, error: Exception) -> InputError:
        return InputError(f"{path}: the state of a {self.kind} that cannot be read ({error}); remove it to begin again")


@contextmanager
def begun(output: Path, kind: str, doing: str) -> Iterator[Path]:
    """The folder beside an output for the state of the work on it, of one process at a time. It stays when the work ends early and has
    a state to go on from, in the folder or in one of its own. Raises OutputError."""
    folder, path = beside(output, kind), beside(output, f"{kind}.lock")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("w")
    except OSError as error:
        raise output_error(output, error) from error
    with opened as lock:
        locks.take(lock.fileno(), output, doing)
        done = False
        try:
            yield folder
            done = True
        finally:
            if done or not any(map(UnfinishedWork.kept, (folder, *folder.glob("*/")))):
                shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def beside(output: Path, suffix: str) -> Path:
    return output.parent / f".{output.name}.{suffix}"


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """The file is on the disk, whole, under its name."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, path)
