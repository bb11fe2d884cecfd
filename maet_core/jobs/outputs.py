"""What a command leaves beside its output while it works. Only whoever holds the output's lock may touch it."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path


def leftovers(output: str) -> list[Path]:
    """Unfinished work beside an output: a merge's partial directory, the state of a training or of locating, files that were being written."""
    if not output:
        return []
    path = Path(output)
    name = re.escape(path.name)
    unfinished = re.compile(rf"^\.{name}\.(partial|part|(training|locating)(\.lock)?)$|^\.{name}\.\w{{8}}\.part$")
    try:
        return [one for one in path.parent.iterdir() if unfinished.match(one.name)]
    except OSError:
        return []


def sweep(output: str, only_scraps: bool = False) -> None:
    """Removes unfinished work; `only_scraps` leaves what the next attempt can go on from."""
    for path in leftovers(output):
        if only_scraps and not path.name.endswith(".part"):
            continue
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
