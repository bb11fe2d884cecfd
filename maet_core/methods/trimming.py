"""Methods that keep the values of a task vector by their magnitude: TIES and Model Breadcrumbs."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from maet_core.methods.registry import MethodSettings, Paper, method
from maet_core.methods.steps import Largest, Steps
from maet_core.methods.vectors import Density, Fuse, Scale, Vector, elect_and_fuse, weighted_sum


@method(
    "ties",
    Paper("TIES-Merging: Resolving Interference When Merging Models", "Yadav et al.", 2023, "2306.01708"),
    steps=lambda density, fuse, scale: Steps(Largest(density), fuse, scale),
)
def ties(vectors: list[Vector], *, density: Density = 0.2, fuse: Fuse = "mean", scale: Scale = 1.0) -> np.ndarray:
    """Trim, elect, merge: the largest values of each task vector, and of those the ones with the sign of the majority.

    λ · mean{w_k·τ̂_k : sgn(w_k·τ̂_k) = sgn(Σ w·τ̂)}, where τ̂ keeps the `density` of τ with the largest magnitude, tensor by
    tensor (the paper ranks the whole model at once).
    """
    trimmed = [(vector.weight, vector.values * vector.largest(density)) for vector in vectors]
    return scale * elect_and_fuse(trimmed, fuse)


@model_validator(mode="after")
def _not_all(settings: MethodSettings) -> MethodSettings:
    if settings.density + settings.outliers > 1:
        text = f"density {settings.density:g} and outliers {settings.outliers:g} are more than 1 together; take less of one"
        raise PydanticCustomError("recipe", "{text}", {"text": text})
    return settings


@method(
    "breadcrumbs",
    Paper(
        "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks",
        "Davari and Belilovsky",
        2023,
        "2312.06795",
    ),
    check=_not_all,
    steps=lambda density, outliers: Steps(Largest(_together(density, outliers), outliers)),
)
def breadcrumbs(
    vectors: list[Vector],
    *,
    density: Density = 0.1,
    outliers: Annotated[float, Field(ge=0, le=1, description="Share of the largest values that is dropped.")] = 0.01,
) -> np.ndarray:
    """The largest values of each task vector without the very largest ones, summed.

    Σ w_k·τ̂_k, where τ̂ drops from each tensor the `outliers` share with the largest magnitude and keeps the `density` share below it.
    """
    together = _together(density, outliers)
    kept = [
        (vector.weight, vector.values * (vector.largest(together) & ~vector.largest(outliers))) for vector in vectors
    ]
    return weighted_sum(kept)


def _together(density: float, outliers: float) -> float:
    return round(density + outliers, 12)  # 0.1 + 0.2 is 0.3
