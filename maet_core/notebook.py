"""What people noted down while they worked: votes, and settings that they kept. One JSONL file each, in the workspace.

A row is only ever appended, under a lock, so that several people can write at the same time and nothing is lost. A row with the
`id` of an earlier one stands for it from then on; `removed` takes it out.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from datetime import UTC, datetime

from maet_core.errors import WorkspaceError
from maet_core.workspace import Workspace

FOLDER = "notebook"


class Notebook:
    def __init__(self, workspace: Workspace, name: str):
        self._workspace, self.path = workspace, workspace.resolve(f"{FOLDER}/{name}.jsonl")

    def add(self, row: dict) -> str:
        """Appends a row and returns its id; its `time` (UTC, ISO 8601) is set if it has none. Raises WorkspaceError."""
        self._workspace.need_writable()
        row = {"id": secrets.token_hex(6), "time": datetime.now(UTC).isoformat(timespec="seconds"), **row}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("ab") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if stream.tell() and not self._ends_whole():
                    line = b"\n" + line  # somebody's line was cut off by a full disk; it must not spoil this one
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise WorkspaceError(f"{FOLDER}/{self.path.name}: cannot be written ({error.strerror})") from error
        return row["id"]

    def change(self, identity: str, **fields) -> None:
        """The row with other values of these fields."""
        row = next((row for row in self.rows() if row["id"] == identity), None)
        if row is not None:
            self.add({**row, **fields})

    def rows(self) -> list[dict]:
        """What stands, oldest first. Lines that cannot be read are passed over: a note is no reason to stop working."""
        found: dict[str, dict] = {}
        try:
            text = self.path.read_text("utf-8", errors="replace")
        except OSError:
            return []
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                found[row["id"]] = row
        return [row for row in found.values() if not row.get("removed")]

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
