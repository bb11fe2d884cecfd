"""The largest of many magnitudes, exactly, without sorting or holding them. Key neurons and the comparators' thresholds come from here.

Magnitudes are compared by the bits of float32 numbers, which order like the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maet_core.progress import Halted, Progress
from maet_core.ranking import beginnings, bracket
from maet_core.ranking.cuts import Cut, Cuts
from maet_core.ranking.guess import Guess, guess
from maet_core.ranking.values import Near, Read, Sampled, Values

__all__ = ["Cut", "Cuts", "Guess", "Values", "guess", "largest", "largest_of_each"]


def largest(
    sizes: Mapping[str, int],
    count: int,
    read: Read,
    progress: Progress | None = None,
    halted: Halted | None = None,
    near: Near | None = None,
    sampled: Sampled | None = None,
) -> tuple[dict[str, Cut], dict[str, int]]:
    """The `count` largest magnitudes under the names in `sizes` (which says how many values each has): their cuts and counts.

    Ties go by the order of the names, then by position, so that exactly `count` are chosen. Cost: a sample and one pass over the
    values (a few where the sample misleads), one chunk a thread and the values next to the threshold in memory. `near` and `sampled`
    are used in the place of `read` where they can be.
    """
    return largest_of_each(sizes, [count], read, progress, halted, near, sampled)[0]


def largest_of_each(
    sizes: Mapping[str, int],
    counts: Sequence[int],
    read: Read,
    progress: Progress | None = None,
    halted: Halted | None = None,
    near: Near | None = None,
    sampled: Sampled | None = None,
) -> list[tuple[dict[str, Cut], dict[str, int]]]:
    """`largest` for several counts, in the same one pass over the values."""
    values, asked = Values.of(sizes, read, near, sampled), sorted({count for count in counts if count})
    found = {0: (dict.fromkeys(sizes, Cut(float("inf"), 0)), dict.fromkeys(sizes, 0))}
    one = bracket.find(values, asked[0], progress, halted) if len(asked) == 1 else None
    if one is not None:
        found[asked[0]] = one
    elif asked:
        found |= zip(asked, beginnings.find(values, asked, progress, halted), strict=True)
    return [found[count] for count in counts]
