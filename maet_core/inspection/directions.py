"""What a hidden unit reads from the residual stream and writes into it, in words: its weights against the tokens' vectors.

A unit's own weights are a vector of the model's width. Its product with every row of the unembedding says which tokens the
unit writes towards, with every row of the embedding which tokens it reads from (Geva et al. 2022, arXiv 2203.14680, project
the columns of `down_proj` this way). The gain of the norm in between is folded in: the final norm's where the unit writes, that
of the norm before its matrix where it reads (see `norms`). What the layers in between do is left out, and so is the size that
a norm divides by: the ranking is what counts, not the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.importance.scores import unit_axis
from maet_core.inspection.norms import as_read, as_written
from maet_core.progress import Progress, tell

GATED = ("gate_proj", "up_proj", "down_proj")  # one hidden unit: a row of the first two, a column of the last
_WRITING = ("o_proj", "down_proj")
_CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Unit:
    """One hidden unit: `index` within the module; `expert` where the layer has several."""

    layer: int
    module: str
    index: int
    expert: int | None = None


@dataclass(frozen=True)
class Vector:
    """A unit's weights in one tensor: float32 [width]. A matrix that computes units reads; one that takes them in writes.

    `direction`: the same with the norms' gains, as it meets the tokens' vectors.
    """

    tensor: str
    module: str
    side: Literal["reads", "writes"]
    weights: torch.Tensor
    direction: torch.Tensor


@dataclass(frozen=True)
class Token:
    """`product`: the unit's direction times the token's vector; `deviations`: how far that is above the vocabulary's mean."""

    id: int
    product: float
    deviations: float


def unit_vectors(base: Checkpoint, unit: Unit) -> list[Vector]:
    """The unit's vectors, those that read first. A unit of an MLP has up to three: its gate and up rows, its down column.

    Raises InputError for a unit that is not there, and for an architecture whose matrices are not known.
    """
    if not base.anatomy.known:
        raise InputError(
            f"{base.source}: architecture {base.architecture} is not known, so no telling what reads and what writes"
        )
    wanted = GATED if unit.module in GATED else (unit.module,)
    found = [vector for name in base.tensors for vector in _in_tensor(base, name, unit, wanted)]
    if not any(vector.module == unit.module for vector in found):
        raise InputError(f"{base.source}: layer {unit.layer} has no unit {unit.index} in {unit.module}")
    return sorted(found, key=lambda vector: (vector.side, wanted.index(vector.module)))


def _in_tensor(base: Checkpoint, name: str, unit: Unit, wanted: tuple[str, ...]) -> list[Vector]:
    place, shape = base.anatomy.place(name), base.tensors[name].shape
    modules = {part.module: part.units for part in place.parts} or {place.module: None}
    if place.layer != unit.layer or len(shape) < 2 or place.neuron_axis is None or not set(modules) & set(wanted):
        return []
    stacked = len(shape) == 3
    if (place.kind == "expert") != (unit.expert is not None) or (not stacked and place.expert != unit.expert):
        return []
    if stacked and not 0 <= unit.expert < shape[0]:
        return []
    vectors = []
    for module, units in modules.items():
        width = shape[unit_axis(place, shape)] if units is None else len(units)
        if module in wanted and 0 <= unit.index < width:
            index = unit.index if units is None else int(units[unit.index])
            weights = _slice(base, name, unit.expert if stacked else None, unit_axis(place, shape), index)
            writes = module in _WRITING
            direction = (as_written if writes else as_read)(base, place, weights)
            vectors.append(Vector(name, module, "writes" if writes else "reads", weights, direction))
    return vectors


def _slice(base: Checkpoint, name: str, expert: int | None, axis: int, index: int) -> torch.Tensor:
    shape = base.tensors[name].shape
    height, width = shape[-2], shape[-1]
    offset = 0 if expert is None else expert * height * width
    if axis == len(shape) - 2:  # a row lies in one piece
        start = offset + index * width
        return base.read(name, start, start + width).reshape(-1).float()
    matrix = base.read(name, offset, offset + height * width).reshape(height, width)
    return matrix[:, index].float()


def tokens_along(base: Checkpoint, vector: Vector, progress: Progress | None = None) -> np.ndarray:
    """The product of the direction with every token's row of the unembedding (writes) or the embedding (reads): float32 [tokens].

    Raises InputError where the model has no such matrix. Cost: one pass over it, in chunks.
    """
    name = _token_matrix(base, vector.side)
    rows, width = base.tensors[name].shape
    if width != vector.weights.numel():
        raise InputError(f"{base.source}: {name} is {width} wide, the unit's weights {vector.weights.numel()}")
    products = np.empty(rows, np.float32)
    step = max(1, _CHUNK_ELEMENTS // width)
    for first in range(0, rows, step):
        tell(progress, None, f"going through the vocabulary for {vector.module}", first, rows)
        last = min(first + step, rows)
        chunk = base.read(name, first * width, last * width).reshape(last - first, width)
        products[first:last] = (chunk.float() @ vector.direction).numpy()
    return products


def strongest(products: np.ndarray, count: int, lowest: bool = False) -> list[Token]:
    """The tokens with the `count` largest (or smallest) products, strongest first; ties by id."""
    mean, spread = float(products.mean(dtype=np.float64)), float(products.std(dtype=np.float64)) or 1.0
    order = np.argsort(products if lowest else -products, kind="stable")[:count]
    return [Token(int(i), float(products[i]), (float(products[i]) - mean) / spread) for i in order]


def _token_matrix(base: Checkpoint, side: str) -> str:
    places = base.anatomy.places
    embeddings = [
        name for name in places if places[name].module == "embed_tokens" and len(base.tensors[name].shape) == 2
    ]
    heads = [name for name in places if places[name].kind == "head" and len(base.tensors[name].shape) == 2]
    found = embeddings if side == "reads" else heads or (embeddings if base.tied_head else [])
    if len(found) != 1:
        raise InputError(
            f"{base.source}: found {len(found)} {'embeddings' if side == 'reads' else 'unembeddings'}, expected one"
        )
    return found[0]
