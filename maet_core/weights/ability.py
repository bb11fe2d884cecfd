"""R(A_i) of a recipe: Eq. 2 over checkpoints or adapters, with or without key neurons, or a pack that holds the result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maet_core import equations
from maet_core.differences import Difference
from maet_core.importance.key_neurons import KeyNeurons


@dataclass(frozen=True)
class AbilityWeights:
    """R(A) = α · (θ_{A,L0} − θ_o) − β · (θ_{L0} − θ_o), on the key neurons only if there are some.

    A pack is the case of α = 1 and no source-language difference: its values are R(A) already.
    """

    ability: Difference
    source_language: Difference | None
    alpha: float
    beta: float
    key_neurons: KeyNeurons | None = None

    def touches(self, name: str) -> bool:
        """False where R(A) is known to be zero everywhere."""
        if self.key_neurons is not None and not self.key_neurons.counts.get(name):
            return False
        return any(part.touches(name) for part in self.parts)

    @property
    def parts(self) -> list[Difference]:
        return [self.ability] if self.source_language is None else [self.ability, self.source_language]

    @property
    def as_difference(self) -> Difference | None:
        """The difference that R(A) is, where it is one as it stands."""
        alone = self.source_language is None or self.beta == 0
        return self.ability if alone and self.alpha == 1 and self.key_neurons is None else None

    def values(self, name: str, start: int, stop: int, base_values: np.ndarray) -> np.ndarray:
        """Elements `start` to `stop` of the flattened R(A), in the dtype of `base_values`, the base's values of that range."""
        parts, chosen = self._read(name, start, stop, base_values, self.parts if self.beta != 0 else self.parts[:1])
        for values in parts if chosen is not None else ():
            values[~chosen] = 0
        return equations.ability_weights(parts[0], parts[1] if len(parts) > 1 else None, self.alpha, self.beta)

    def _read(
        self, name: str, start: int, stop: int, base_values: np.ndarray, wanted: list[Difference]
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Differences on all neurons, and which neurons are key."""
        found = {
            part: part.values(name, start, stop, base_values) if part.touches(name) else np.zeros_like(base_values)
            for part in wanted
        }
        if self.key_neurons is None:
            return [found[part] for part in wanted], None
        # the ranking is on float32 scores, and what is read in another precision is not what was ranked
        known = found.get if base_values.dtype == np.float32 else None
        return [found[part] for part in wanted], self.key_neurons.chosen(name, start, stop, known)
