"""What the threshold of the largest will probably be, so that work that needs it can go along with the pass that finds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from maet_core.ranking import bracket
from maet_core.ranking.cuts import Cut
from maet_core.ranking.values import Values


@dataclass
class Guess:
    """The likeliest threshold of the `count` largest, as bits of a float32 value, and of what equals it the share that is chosen. The
    pass tells what it has seen by `saw`, or looks by `look`; then `settled` says what the cuts are, and `right` where they were guessed."""

    values: Values
    count: int
    bits: np.uint32
    share: float
    failed: bool = False  # what was seen can't be counted, for instance because it is not finite
    _seen: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)

    @cached_property
    def _with_equals(self) -> frozenset[str]:
        """Where everything that equals the threshold is probably chosen: ties go by the order of the names."""
        passed = np.cumsum(list(self.values.sizes.values()))
        return frozenset(list(self.values.sizes)[: int(np.searchsorted(passed, self.share * passed[-1]))])

    def limit(self, name: str) -> np.uint32:
        """What the bits of a magnitude must probably be above to be chosen."""
        return self.bits - np.uint32(name in self._with_equals)

    def saw(self, name: str, above: int, equal: int) -> None:
        """Of the next `kernels.RANGE_ELEMENTS` values under a name, so many lie above the threshold, and so many equal it."""
        aboves, equals = self._seen.setdefault(name, ([], []))
        aboves.append(int(above))
        equals.append(int(equal))

    def look(self, name: str) -> None:
        """Reads what lies under a name, if nothing of it has been seen."""
        if name not in self._seen:
            found = bracket.look(self.values, name, self.bits, self.bits)
            self._seen[name] = [found.above], found.between

    def settled(self) -> tuple[dict[str, Cut], dict[str, int]] | None:
        """The cuts, and how many they leave under each name; None if it was another threshold. For when all has been seen."""
        if self.failed:
            return None
        looks = {name: bracket.Look(sum(aboves), equals) for name, (aboves, equals) in self._seen.items()}
        return bracket.cuts_at(self.values, self.count, self.bits, looks)

    def right(self, name: str, cut: Cut) -> bool:
        """Whether `limit` told which values are chosen."""
        if not any(self._seen[name][1]):
            return True
        return cut.tie_stop == (self.values.sizes[name] if name in self._with_equals else 0)


def guess(values: Values, count: int) -> Guess | None:
    """None where no value is alike so many others that it is likely the threshold."""
    if count == 0:
        return None
    sample, between, at = bracket.sampled(values, count)
    bits = between[at]
    if bits == 0 or not bracket.alike(between, at):
        return None
    above, equal = np.count_nonzero(sample > bits), np.count_nonzero(sample == bits)
    share = (sample.size * count / values.total - above) / equal
    return Guess(values, count, bits, min(max(share, 0.0), 1.0))
