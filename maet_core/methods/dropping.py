"""Methods that drop values of a task vector at random and scale up the rest: DARE and DELLA."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from maet_core.methods.registry import MethodSettings, Paper, method
from maet_core.methods.steps import Chance, Steps
from maet_core.methods.vectors import Density, Fuse, Scale, Seed, Vector, elect_and_fuse, weighted_sum

_DARE = Paper(
    "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch",
    "Yu et al.",
    2024,
    "2311.03099",
)


def _kept(vector: Vector, keep: float | np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """The vector's weight, and m·τ / keep with m drawn from Bernoulli(keep): its expectation is τ."""
    rescaled = vector.values * (1 / keep) if isinstance(keep, float) else vector.values / keep
    return vector.weight, rescaled * (vector.uniform(seed) < keep)


def _dare(vectors: list[Vector], density: float, seed: int) -> list[tuple[float, np.ndarray]]:
    if density == 0:
        return [(vector.weight, np.zeros_like(vector.values)) for vector in vectors]
    return [_kept(vector, float(density), seed) for vector in vectors]


@method("dare", _DARE, steps=lambda density, seed: Steps(Chance(density, seed)))
def dare(vectors: list[Vector], *, density: Density = 0.1, seed: Seed = 0) -> np.ndarray:
    """Each task vector with most of its values dropped at random and the rest scaled up, summed.

    Σ w_k · m_k ⊙ τ_k / (1 − p), m_k ~ Bernoulli(1 − p); `density` is 1 − p.
    """
    return weighted_sum(_dare(vectors, density, seed))


@method("dare-ties", _DARE, steps=lambda density, fuse, scale, seed: Steps(Chance(density, seed), fuse, scale))
def dare_ties(
    vectors: list[Vector], *, density: Density = 0.1, fuse: Fuse = "mean", scale: Scale = 1.0, seed: Seed = 0
) -> np.ndarray:
    """DARE in the place of the trim of TIES, then its election of signs and its merge."""
    return scale * elect_and_fuse(_dare(vectors, density, seed), fuse)


@model_validator(mode="after")
def _della_window(settings: MethodSettings) -> MethodSettings:
    if not settings.epsilon / 2 < settings.density <= 1 - settings.epsilon / 2:
        raise PydanticCustomError(
            "recipe",
            "{text}",
            {
                "text": f"density {settings.density:g} ± epsilon / 2 must stay above 0 and not go beyond 1; "
                f"found epsilon {settings.epsilon:g}"
            },
        )
    return settings


@method(
    "della",
    Paper(
        "DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based Sampling",
        "Deep et al.",
        2024,
        "2406.11617",
    ),
    check=_della_window,
    steps=lambda density, epsilon, fuse, scale, seed: Steps(Chance(density - epsilon / 2, seed, epsilon), fuse, scale),
)
def della(
    vectors: list[Vector],
    *,
    density: Density = 0.4,
    epsilon: Annotated[
        float, Field(ge=0, le=1, description="How far apart the chances of a row's smallest and largest value are.")
    ] = 0.2,
    fuse: Fuse = "mean",
    scale: Scale = 1.0,
    seed: Seed = 0,
) -> np.ndarray:
    """DARE with a larger chance to stay for larger values of a row, then election and merge as TIES has them.

    The value of rank r (0 to n − 1) in its row stays with the chance density − ε/2 + ε·r/(n − 1), and is divided by it.
    """
    lowest = density - epsilon / 2
    kept = [_kept(vector, lowest + epsilon * vector.row_ranks(), seed) for vector in vectors]
    return scale * elect_and_fuse(kept, fuse)
