"""Which of many values are the largest: what lies above a threshold, and of what equals it the first ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from maet_core import kernels

_REMEMBERED_CUTS = 1 << 15


@dataclass(frozen=True)
class Cut:
    """What lies above `threshold` is chosen, and what equals it before position `tie_stop`."""

    threshold: float
    tie_stop: int

    def chosen(self, values: np.ndarray, start: int) -> np.ndarray:
        """Whether each of `values`, flat float32 from position `start`, is chosen: bool."""
        chosen = np.empty(values.size, np.bool_)
        threshold = np.float32(self.threshold).view(np.uint32)
        kernels.largest(values.view(np.uint32), threshold, self.tie_stop - start, chosen)
        return chosen

    def limit(self, start: int, stop: int) -> np.uint32 | None:
        """What the bits of a magnitude must be above to be chosen between these positions; None if that does not tell."""
        threshold = np.float32(self.threshold).view(np.uint32)
        if start >= self.tie_stop:
            return threshold
        return threshold - np.uint32(1) if stop <= self.tie_stop and threshold > 0 else None


class Cuts:
    """Thresholds that were found, so that each is looked for once, whichever thread needs it first."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Future[Cut]] = {}
        self._lock = threading.Lock()

    def get(self, finders: Mapping[Hashable, Callable[[], Cut]]) -> list[Cut]:
        """The cuts under these keys; what nobody has looked for yet is looked for now, before what others look for is waited for."""
        futures = [self._begun(key, find) for key, find in finders.items()]
        return [future.result() for future in futures]

    def _begun(self, key: Hashable, find: Callable[[], Cut]) -> Future[Cut]:
        with self._lock:
            future = self._found.get(key)
            if mine := future is None:
                while len(self._found) >= _REMEMBERED_CUTS:
                    del self._found[next(iter(self._found))]
                future = self._found[key] = Future()
        if mine:
            try:
                future.set_result(find())
            except BaseException as error:
                with self._lock:
                    self._found.pop(key, None)
                future.set_exception(error)
        return future
