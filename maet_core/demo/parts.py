"""Training, development and test, kept apart: whatever a problem is made of belongs to exactly one of them."""

from __future__ import annotations

import random

PARTS = {"train": 0.7, "dev": 0.1, "test": 0.2}
_SEED = 20240607  # what is held out does not depend on the seed of a build


def part_of(items: list, part: str, salt: str) -> tuple:
    """The items of one part, always the same; `salt` tells the lists apart."""
    shuffled = list(items)
    random.Random(f"{_SEED} {salt}").shuffle(shuffled)
    train = round(len(items) * PARTS["train"])
    dev = train + max(1, round(len(items) * PARTS["dev"]))
    return tuple({"train": shuffled[:train], "dev": shuffled[train:dev], "test": shuffled[dev:]}[part])
