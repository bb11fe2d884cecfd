"""Files that appear whole: whoever reads finds the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Where to write what will be the file `path`, which it becomes in one move if the block ends well (`durable`: once it is on the
    disk); else the old file stays. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
