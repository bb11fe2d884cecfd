"""How many threads a model's arithmetic is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

SMALL = 20_000_000  # parameters; below it a matrix product is over before a second thread has begun to help


@contextmanager
def fitting_threads(model: Any) -> Iterator[None]:
    """One thread for a small model, torch's own choice for others, until the end of the block.

    Threads of a product wait for one another by spinning: on a busy machine, where one of them has no core, a small model then answers tens of
    times more slowly, and on a calm one no faster than alone.
    """
    before = torch.get_num_threads()
    try:
        if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
