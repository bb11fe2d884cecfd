"""What a method does with single values, told in a few words: `kernels.merge_kept` does it in one loop, and the methods' own functions say
it as the papers do. Both agree bit for bit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Largest:
    """The `share` of a tensor's values with the largest magnitude stays, but for the `without` share of the very largest."""

    share: float
    without: float = 0.0


@dataclass(frozen=True)
class Chance:
    """Each value stays with a chance, and is divided by it: `lowest`, or from there up to `epsilon` more by its rank in its row."""

    lowest: float
    seed: int
    epsilon: float | None = None


@dataclass(frozen=True)
class Steps:
    """Which values stay, whether signs are elected (`fuse` says what becomes of the agreeing values; None: all are summed), and λ."""

    keep: Largest | Chance
    fuse: str | None = None
    scale: float = 1.0
