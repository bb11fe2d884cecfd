"""The directory that a merge writes: hidden until it is whole, one writer at a time, resumed after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from maet_core import locks
from maet_core.errors import OutputError
from maet_core.progress import in_a_job
from maet_core.safetensors_writer import output_error

_JOURNAL = "journal.json"


class Partial:
    """`path` is a hidden directory beside the output; `done` maps tensors that are written to what was noted of them.

    Written means: the kernel has the bytes, and a killed process cannot take them back. A machine that goes down can, so the
    journal holds only until the next start of the machine. `sync`: whether the end waits for the disk.
    """

    def __init__(self, path: Path, work: str, sync: bool):
        self.path, self.sync = path, sync
        self._work = {"work": work, "boot": _boot()}
        self.done: dict[str, int] = self._resume()

    def _resume(self) -> dict[str, int]:
        try:
            journal = json.loads((self.path / _JOURNAL).read_text("utf-8"))
            done = journal.pop("done")
            if journal == self._work and self._work["boot"]:
                return done
        except (OSError, ValueError, KeyError):
            pass
        for entry in self.path.iterdir():  # another recipe, other inputs, or damage: begin again
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return {}

    def note(self, done: dict[str, int]) -> None:
        """Records tensors as done; all their bytes have been written."""
        self.done |= done
        part = self.path / f"{_JOURNAL}.part"
        part.write_text(json.dumps({**self._work, "done": self.done}), "utf-8")
        os.replace(part, self.path / _JOURNAL)

    def forget(self) -> None:
        """Removes the journal, once nothing is left to do."""
        (self.path / _JOURNAL).unlink(missing_ok=True)


@contextmanager
def new_directory(output: Path, needed_bytes: int, work: Any, sync: bool = True) -> Iterator[Partial]:
    """Yields the partial directory; it takes the name `output` when the block ends well, and vanishes when it raises.

    A process that is killed leaves it behind, as does a background job that is told to stop, and the next call for the same `work`
    (anything JSON can hold) goes on there. With `sync` the name is given when all bytes are on the disk, so that not even a power cut
    leaves a directory with holes under it.
    Raises OutputError if the output exists, another process is writing it, or there is no room.
    """
    if output.exists() or output.is_symlink():
        raise OutputError(f"{output}: exists already; choose another name or remove it first")
    created = [parent for parent in output.parents if not parent.exists()]
    path = output.parent / f".{output.name}.partial"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _sole_writer(path, output):
            fingerprint = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
            try:
                partial = Partial(path, fingerprint, sync)
                _check_room(output, needed_bytes, path)
                yield partial
                if sync:
                    for entry in (*path.iterdir(), path):
                        _sync(entry)
                os.rename(path, output)
                if sync:
                    _sync(output.parent)
            except BaseException as error:
                if not (isinstance(error, SystemExit) and in_a_job()):  # a job that is told to stop may be resumed
                    shutil.rmtree(path, ignore_errors=True)
                raise
    except BaseException as error:
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only if it is empty
        if isinstance(error, OSError):
            raise output_error(output, error) from error
        raise


@contextmanager
def _sole_writer(path: Path, output: Path) -> Iterator[None]:
    """Holds the lock on the directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        locks.take(descriptor, output)
        if not path.exists() or os.fstat(descriptor).st_ino != path.stat().st_ino:  # another has just finished it
            raise locks.taken(output)
        yield
    finally:
        os.close(descriptor)


def _check_room(output: Path, needed_bytes: int, partial: Path) -> None:
    present = sum(file.stat().st_blocks * 512 for file in partial.iterdir())
    free = shutil.disk_usage(output.parent).free + present
    if free < needed_bytes:
        raise OutputError(
            f"{output}: the merged model needs {needed_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; free some, or choose another place"
        )


def _sync(path: Path) -> None:
    """Returns when a file's bytes, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _boot() -> str:
    """What tells this start of the machine from others; empty if the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        pass
    try:
        asked = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False)
        return asked.stdout.strip()
    except OSError:
        return ""
