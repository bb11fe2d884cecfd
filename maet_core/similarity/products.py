"""The inner products of an ability, kept: for any coefficients they say how long sums are, and how alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Products:
    """Inner products within each of some tensors, float64 [tensors, differences, differences]. Order of these: the ability's one or two,
    then the languages."""

    names: tuple[str, ...]
    grams: np.ndarray

    def to_json(self) -> dict[str, Any]:
        return {"names": self.names, "shape": self.grams.shape, "values": self.grams.ravel().tolist()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Products:
        return cls(tuple(found["names"]), np.array(found["values"], np.float64).reshape(found["shape"]))

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Of every tensor the inner product of two sums, each given by its coefficients."""
        return np.einsum("i,nij,j->n", first, self.grams, second)

    def scale(self, weights: np.ndarray) -> np.ndarray:
        """What the square would be if nothing cancelled."""
        lengths = np.sqrt(np.maximum(np.diagonal(self.grams, axis1=1, axis2=2), 0))
        return (lengths @ np.abs(weights)) ** 2
