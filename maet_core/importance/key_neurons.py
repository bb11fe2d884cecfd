"""N_i: the top k1 % of the neurons by importance, exactly, without holding all scores at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from maet_core.counting import percent_count
from maet_core.differences import Difference
from maet_core.importance.scores import Scores, unit_axis
from maet_core.lazy import torch
from maet_core.progress import Halted, Progress, each
from maet_core.ranking import Cut, Guess, Values, guess, largest_of_each
from maet_core.remembered import recall, remember

_KIND = "key-neurons"

Ranking = tuple[dict[str, Cut], dict[str, int]]
"""Of every tensor where its key neurons begin, and how many it has."""


class KeyNeurons:
    """Which neurons are key. Ties go by tensor name, then by position, so that exactly `count` neurons are chosen."""

    def __init__(
        self,
        scores: Scores,
        k1: float,
        scope: str,
        ranking: Ranking | None = None,
        about: Any | None = None,
    ):
        """`ranking`: of every tensor its threshold and how many neurons it leaves; without it they are found when they are asked for.
        `about`: what tells, for JSON, that these are the same key neurons as another time; None if nothing does."""
        self.scores, self.k1, self.scope = scores, k1, scope
        self.about = about
        self._ranking, self._lock = ranking, threading.RLock()
        self._units = lru_cache(maxsize=4)(self._neurons)  # some tensors' masks, for the threads that work on them

    @property
    def is_ranked(self) -> bool:
        return self._ranking is not None

    def rank(self, progress: Progress | None = None, halted: Halted | None = None) -> Ranking:
        """Finds the thresholds, once."""
        if self._ranking is None:
            with self._lock:
                if self._ranking is None:
                    self.settle(_rankings(self.scores, [self.k1], self.scope, progress, halted)[0])
        return self._ranking

    def settle(self, ranking: Ranking) -> None:
        """The thresholds have been found; the user's cache is told if it can know them by `about`."""
        self._ranking = ranking
        if self.about is not None:
            remember(_KIND, self.about, self.to_json())

    def guess(self) -> Guess | None:
        """What the threshold will probably be; None where a guess is of no use."""
        if self.scope != "global" or self.scores.magnitude_of is None:
            return None
        sizes = _sizes(self.scores)
        return guess(
            Values.of(sizes, self.scores.array, self.scores.magnitude_of.near),
            percent_count(self.k1, sum(sizes.values())),
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many neurons of each tensor are chosen."""
        return self.rank()[1]

    @property
    def _cuts(self) -> dict[str, Cut]:
        return self.rank()[0]

    @cached_property
    def count(self) -> int:
        return sum(self.counts.values())

    @cached_property
    def total(self) -> int:
        return sum(prod(shape) for shape in self.scores.shapes.values())

    def to_json(self) -> dict[str, Any]:
        """By tensor: its threshold with the position where ties end, and how many neurons are chosen."""
        return {
            name: ((float(cut.threshold), int(cut.tie_stop)), int(self.counts[name]))
            for name, cut in self._cuts.items()
        }

    def neurons(self, name: str) -> torch.Tensor:
        """Whether each neuron of a tensor is key: bool, in the shape of its scores."""
        return torch.from_numpy(self._neurons(name))

    def mask(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Whether each parameter belongs to a key neuron: bool, elements `start` to `stop` of the flattened tensor."""
        stop = self.scores.base.tensors[name].numel if stop is None else stop
        return torch.from_numpy(self.chosen(name, start, stop))

    def chosen(
        self, name: str, start: int, stop: int, change: Callable[[Difference], np.ndarray | None] | None = None
    ) -> np.ndarray:
        """The same as an array.

        `change(difference)` gives what the caller has read of it in this range already, flat float32, or None: where the scores are
        the magnitudes of that difference, nothing is read again.
        """
        info = self.scores.base.tensors[name]
        if not self.counts.get(name):
            return np.zeros(stop - start, np.bool_)
        if self.scores.granularity == "parameter":
            known = change(self.scores.magnitude_of) if change and self.scores.magnitude_of else None
            return self._cuts[name].chosen(self.scores.array(name, start, stop) if known is None else known, start)
        axis = unit_axis(self.scores.base.anatomy.place(name), info.shape)
        return spread(self._units(name), info.shape, axis, start, stop)

    def limit(self, name: str, start: int, stop: int) -> np.uint32 | None:
        """Where the scores are magnitudes of single parameters: what their bits, as float32, must be above in this range. None if
        that does not tell, and for other scores."""
        if self.scores.granularity != "parameter" or not self.counts.get(name):
            return None
        return self._cuts[name].limit(start, stop)

    def _neurons(self, name: str) -> np.ndarray:
        shape = self.scores.shapes[name]
        return self._cuts[name].chosen(self.scores.array(name, 0, prod(shape)), 0).reshape(shape)


def spread(units: np.ndarray, shape: tuple[int, ...], axis: int, start: int, stop: int) -> np.ndarray:
    """One value per unit, for the parameters `start` to `stop` of the flattened tensor of `shape`."""
    if len(shape) == 1:
        return units[start:stop].copy()
    width = shape[-1]
    first, last = start // width, -(-stop // width)
    axis %= len(shape)
    if len(shape) == 2:
        rows = units[first:last, None] if axis == 0 else units[None, :]
    else:
        expert = np.arange(first, last) // shape[1]
        rows = units[expert] if axis == 2 else units[expert, np.arange(first, last) % shape[1]][:, None]
    spread_out = np.broadcast_to(rows, (last - first, width)).reshape(-1)
    return spread_out[start - first * width : stop - first * width].copy()  # a view of one row could not be written to


def select_key_neurons(
    scores: Scores, k1: float, scope: str = "global", progress: Progress | None = None, halted: Halted | None = None
) -> KeyNeurons:
    """The top `k1` percent by importance, over the whole model or (`per-tensor`) within each tensor.

    The count is `k1` % of all neurons, rounded half up. Cost: about one pass over the scores, one chunk a
    thread in memory.
    """
    return select_for_each(scores, [k1], scope, progress, halted)[0]


def remembered_key_neurons(scores: Scores, k1: float, scope: str, about: Any | None) -> KeyNeurons:
    """From the user's cache if the same were selected before, else not ranked yet; `about` says all that they depend on."""
    found = None if about is None else recall(_KIND, about)
    if found is None:
        return KeyNeurons(scores, k1, scope, None, about)
    cuts = {name: Cut(*cut) for name, (cut, _) in found.items()}
    return KeyNeurons(scores, k1, scope, (cuts, {name: count for name, (_, count) in found.items()}), about)


def select_for_each(
    scores: Scores,
    k1s: Sequence[float],
    scope: str = "global",
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> list[KeyNeurons]:
    """`select_key_neurons` for several `k1`, in the same one pass."""
    rankings = _rankings(scores, k1s, scope, progress, halted)
    return [KeyNeurons(scores, k1, scope, ranking) for k1, ranking in zip(k1s, rankings, strict=True)]


def _sizes(scores: Scores) -> dict[str, int]:
    return {name: prod(shape) for name, shape in scores.shapes.items()}


def _rankings(
    scores: Scores, k1s: Sequence[float], scope: str, progress: Progress | None, halted: Halted | None
) -> list[Ranking]:
    sizes = _sizes(scores)
    near = scores.magnitude_of.near if scores.magnitude_of else None

    def of(part: dict[str, int]) -> list[Ranking]:
        counts = [percent_count(k1, sum(part.values())) for k1 in k1s]
        tells = (progress, halted) if part is sizes else (None, None)  # of single tensors it is `each` that tells
        return largest_of_each(part, counts, scores.array, *tells, near)

    if scope == "global":
        parts = [of(sizes)]
    else:
        parts = each([{name: size} for name, size in sizes.items()], of, "ranking", progress, halted)
    found: list[Ranking] = [({}, {}) for _ in k1s]
    for part in parts:
        for (cuts, counts), (more_cuts, more_counts) in zip(found, part, strict=True):
            cuts |= more_cuts
            counts |= more_counts
    return found
