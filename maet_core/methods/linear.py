"""Methods that give every tensor its coefficients and look at no single value: θ = θ_o + a·Σ γ_i·R(A_i) + l·Σ μ_j·R(L_j)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from maet_core.errors import RecipeError
from maet_core.methods.registry import Paper, method


@dataclass(frozen=True)
class Place:
    """One tensor: whether an ability has selected it (T_i), its layer (None outside of the layers), and how many there are."""

    selected: bool
    layer: int | None
    layers: int


@dataclass(frozen=True)
class Shares:
    """a and l of one tensor."""

    ability: float
    language: float


@method(
    "maet",
    Paper(
        "Extracting and Transferring Abilities For Building Multi-lingual Ability-enhanced Large Language Models",
        "Chen et al.",
        2024,
        "2410.07825",
    ),
    linear=True,
)
def maet(place: Place, eta: float) -> Shares:
    """Ability weights of the key neurons, added to the tensors that the languages change otherwise (Eq. 4).

    In T_i: γ_i·R(A_i) + η·R_Lang; elsewhere R_Lang alone.
    """
    return Shares(1.0, eta if place.selected else 1.0)


@method(
    "task-arithmetic",
    Paper("Editing Models with Task Arithmetic", "Ilharco et al.", 2023, "2212.04089"),
    linear=True,
)
def task_arithmetic(place: Place, eta: float) -> Shares:
    """The plain sum of all task vectors, each with its weight: θ_o + Σ γ_i·τ_i + η·Σ μ_j·τ_j."""
    return Shares(1.0, eta)


LayerCount = Annotated[int, Field(ge=0, description="Layers at this end that come from the languages.")]


@method(
    "layer-swap",
    Paper(
        "Layer Swapping for Zero-Shot Cross-Lingual Transfer in Large Language Models",
        "Bandarkar et al.",
        2025,
        "2410.01335",
    ),
    linear=True,
)
def layer_swap(
    place: Place,
    eta: float,
    *,
    bottom: LayerCount = 1,
    top: LayerCount = 1,
    transition: Annotated[int, Field(ge=0, description="Layers of passage between an end and the middle.")] = 1,
) -> Shares:
    """Bottom and top layers from the languages, the middle from the abilities, averages in between.

    The i-th of n layers of passage, counted from the end, takes i / (n + 1) of the ability: one layer is the plain average.
    What lies outside of the layers (embedding, last norm, head) goes with the ends. Raises RecipeError if the layers do not
    suffice.
    """
    if bottom + top + 2 * transition > place.layers:
        raise RecipeError(
            f"method: bottom, top and two passages are {bottom} + {top} + 2 · {transition} layers, but the model has "
            f"{place.layers}; take fewer"
        )
    if place.layer is None:
        return Shares(0.0, eta)
    from_end = 1 + min(place.layer - bottom, place.layers - 1 - top - place.layer)
    ability = min(max(from_end / (transition + 1), 0.0), 1.0)
    return Shares(ability, (1.0 - ability) * eta)
