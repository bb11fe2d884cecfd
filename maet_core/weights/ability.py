"""R(A_i) of a recipe: Eq. 2 over checkpoints or adapters, with or without key neurons, or a pack that holds the result."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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

    def part_chunk(self, part: Difference, name: str, start: int, stop: int, base_chunk: torch.Tensor) -> torch.Tensor:
        """Elements `start` to `stop` of one of the two differences, zero outside the key neurons."""
        if not part.touches(name):
            return torch.zeros_like(base_chunk)
        values = part.chunk(name, start, stop, base_chunk)
        if self.key_neurons is None:
            return values
        return torch.where(self.key_neurons.mask(name, start, stop).to(values.device), values, 0)

    def chunk(self, name: str, start: int, stop: int, base_chunk: torch.Tensor) -> torch.Tensor:
        """Elements `start` to `stop` of the flattened R(A), in the dtype of `base_chunk`."""
        ability = self.part_chunk(self.ability, name, start, stop, base_chunk)
        source = None
        if self.source_language is not None and self.beta != 0:
            source = self.part_chunk(self.source_language, name, start, stop, base_chunk)
        return equations.ability_weights(ability, source, self.alpha, self.beta)
