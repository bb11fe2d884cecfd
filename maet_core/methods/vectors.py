"""What a method that looks at single values is given: one range of one tensor of every task vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from operator import add
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from maet_core import kernels

Density = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="Share of the values that is kept.")]
Scale = Annotated[float, Field(allow_inf_nan=False, description="λ, which the merged task vector is multiplied by.")]
Seed = Annotated[int, Field(ge=0, description="Which random values are dropped.")]
Fuse = Annotated[
    Literal["mean", "weighted-mean", "sum"],
    Field(description="What becomes of the agreeing values: their mean, Σ w·τ / Σ |w|, or their sum."),
]


class Vector(ABC):
    """A task vector τ = θ_trained − θ_o (of an ability: R(A) by Eq. 2), and its weight w: γ_i, or η·μ_j of a language.

    What it tells is about the range `values`, but means the whole tensor, so that the result does not depend on the ranges.
    """

    weight: float
    values: np.ndarray
    """τ without the weight: flat, float32 or float64."""

    @abstractmethod
    def largest(self, share: float) -> np.ndarray:
        """Whether each value is among the `share` of the tensor's values with the largest magnitude (rounded half up; ties by
        position): bool. Magnitudes are compared in float32."""

    @abstractmethod
    def row_ranks(self) -> np.ndarray:
        """The rank of each magnitude within its row of the stored tensor, from 0 (smallest) to 1 (largest), float32; 0.5 in a
        row of one. A tensor of one dimension is one row."""

    @abstractmethod
    def uniform(self, seed: int) -> np.ndarray:
        """Random numbers in [0, 1), float32, that depend on seed, vector, tensor and position alone."""


def weighted_sum(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Σ_k w_k · τ_k, in the order given."""
    return reduce(add, (weight * values for weight, values in parts))


def elect_and_fuse(parts: list[tuple[float, np.ndarray]], fuse: str) -> np.ndarray:
    """Sign election and disjoint merge of TIES: each value of the result is made of those w_k·τ_k alone whose sign is that of
    Σ_k w_k·τ_k (+ where the sum is zero).

    `fuse`: `mean` divides their sum by their number, `weighted-mean` by Σ|w_k| over them, `sum` by nothing.
    """
    sizes = {"mean": [1.0] * len(parts), "weighted-mean": [abs(weight) for weight, _ in parts], "sum": []}[fuse]
    first = parts[0][1]
    weighted = np.empty((len(parts), first.size), first.dtype)
    for row, (weight, values) in zip(weighted, parts, strict=True):
        np.multiply(values, weight, out=row)
    if weighted.dtype == np.float32:
        total = np.empty_like(weighted[0])
        kernels.elect(weighted, np.array(sizes, np.float32), total)
        return total
    upwards = reduce(add, weighted) >= 0
    agreeing = (weighted != 0) & ((weighted > 0) == upwards)
    total = reduce(add, weighted * agreeing)
    if not sizes:
        return total
    divisor = reduce(add, (size * agrees for size, agrees in zip(sizes, agreeing, strict=True)))
    return total / np.where(divisor == 0, 1, divisor)
