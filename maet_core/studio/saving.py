"""A merge to disk in the background: the very command that the page shows, as a process of its own.

Everything about it lies in a run directory of the workspace (the recipe, the result, the log), so a reload of the page, or
another person on this server, finds it again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from maet_core.errors import WorkspaceError
from maet_core.recipe import Recipe
from maet_core.studio import resources

_PROGRESS = re.compile(r"^progress (\d+) (\d+) ?(.*)$", re.MULTILINE)
GRACE_SECONDS = 10


@dataclass
class Save:
    """One running or ended merge. `result` is what `maet merge --json` printed."""

    name: str
    folder: Path
    process: subprocess.Popen
    stopped: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def progress(self) -> tuple[float, str]:
        """The share done, 0 to 1, and what is being done."""
        found = _PROGRESS.findall(self.log())
        if not found:
            return 0.0, "starting"
        done, total, phase = found[-1]
        return min(int(done) / max(int(total), 1), 1.0), phase

    def result(self) -> dict | None:
        try:
            return json.loads((self.folder / "result.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def error(self) -> str:
        """The command's own last line, without its progress."""
        lines = [line for line in _PROGRESS.sub("", self.log()).splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with status {self.process.returncode}"

    def log(self) -> str:
        return (self.folder / "log.txt").read_text("utf-8", errors="replace")

    def stop(self) -> None:
        """Asks the process to end; it takes away what it has written. One that does not listen is ended."""
        self.stopped = True
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def command(recipe_path: str, output: str, *options: str) -> list[str]:
    """`maet merge` as it is typed in the workspace folder."""
    return ["maet", "merge", recipe_path, "-o", output, *options]


def start(recipe: Recipe, name: str) -> Save:
    """Starts merging into models/`name`. Raises WorkspaceError for a name that is taken, or while another merge runs."""
    if any(save.running for save in current()):
        raise WorkspaceError("another merge is being saved; wait until it has ended")
    workspace = resources.workspace()
    output = workspace.new("models", name)
    folder = workspace.new("runs", f"merge-{time.strftime('%Y%m%d-%H%M%S')}-{name}"[:80])
    folder.mkdir()
    run = folder.relative_to(workspace.path).as_posix()
    workspace.portable(recipe, run).save(folder / "recipe.yaml")
    arguments = command(f"{run}/recipe.yaml", output.relative_to(workspace.path).as_posix(), "--json")
    with (folder / "result.json").open("wb") as result, (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            # -P: a file in the workspace that is called like a module must not be run
            [sys.executable, "-P", "-m", "maet_core", *arguments[1:]],
            cwd=workspace.path,
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "MAET_PROGRESS": "lines", "PYTHONPATH": str(resources.PROJECT)},
        )
    save = Save(name, folder, process)
    current()[:] = [save]
    return save


@st.cache_resource(show_spinner=False)
def _saves() -> list[Save]:
    return []


def current() -> list[Save]:
    """The merge that runs or ended last on this server: a list of one or none."""
    return _saves()
