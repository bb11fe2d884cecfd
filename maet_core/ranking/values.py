"""The values that are ranked, and a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from maet_core import kernels

Read = Callable[[str, int, int], np.ndarray]
"""read(name, start, stop): these of the flat float32 values under a name."""

Near = Callable[[str, int, int, np.uint32, np.uint32, np.ndarray], tuple[int, int]]
"""near(name, start, stop, low, high, inside): what `kernels.above_and_inside` tells of the bits of these values."""

Sampled = Callable[[str, int], np.ndarray]
"""sampled(name, size): of the values under a name about `size` from all over them, and no fewer, as float32."""

_SAMPLE, _SEGMENT = 1 << 20, 512
# Of one of very many tensors a smaller sample does.
_LEAST_SAMPLE, _LARGEST_SAMPLE, _LONG_SEGMENT = 1 << 15, 1 << 18, 1 << 12
# A rank in the sample is off by this many standard deviations at most; neighbours resemble each other, so it is many.
_DEVIATIONS = 8


@dataclass(frozen=True)
class Values:
    """How many values there are under each name, and how to look at them; `near` and `sampled` where there is a faster way than `read`."""

    sizes: Mapping[str, int]
    read: Read
    near: Near
    sampled: Sampled | None

    @classmethod
    def of(
        cls, sizes: Mapping[str, int], read: Read, near: Near | None = None, sampled: Sampled | None = None
    ) -> Values:
        def near_by_reading(
            name: str, start: int, stop: int, low: np.uint32, high: np.uint32, inside: np.ndarray
        ) -> tuple[int, int]:
            return kernels.above_and_inside(read(name, start, stop).view(np.uint32), low, high, inside)

        return cls(sizes, read, near or near_by_reading, sampled)

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def room(self, name: str) -> np.ndarray:
        """What `near` needs to put values into."""
        return np.empty(min(kernels.RANGE_ELEMENTS, self.sizes[name]) + kernels.FEW, np.uint32)

    def sample(self) -> np.ndarray:
        """The bits of the magnitudes of some values from all over them; of all if these are few."""
        size, segment, total = _SAMPLE, _SEGMENT, self.total
        if len(self.sizes) == 1:
            size, segment = min(_SAMPLE, max(total // 64, _LEAST_SAMPLE), _LARGEST_SAMPLE), _LONG_SEGMENT
            if self.sampled is not None and total > size:
                return np.abs(self.sampled(next(iter(self.sizes)), size)).view(np.uint32)
        spacing = max(1, total // max(1, size // segment))
        parts, passed = [], 0
        for name, numel in self.sizes.items():
            first = -passed % spacing if total > size else 0
            step, length = (spacing, segment) if total > size else (kernels.CHUNK_ELEMENTS, kernels.CHUNK_ELEMENTS)
            parts += [self.read(name, start, min(start + length, numel)) for start in range(first, numel, step)]
            passed += numel
        return np.abs(np.concatenate(parts)).view(np.uint32)

    def ends(self, sample: np.ndarray, count: int) -> tuple[int, int, int]:
        """The ranks, from the smallest on, between which the `count`-th largest of all lies in the sample, and its most likely one in
        the middle."""
        share = count / self.total
        whole = sample.size == self.total
        spread = 0 if whole else _DEVIATIONS * (sample.size * share * (1 - share)) ** 0.5 + _DEVIATIONS
        middle = sample.size * (1 - share)
        low, middle, high = (min(max(round(middle + way * spread), 0), sample.size - 1) for way in (-1, 0, 1))
        return low, middle, high
