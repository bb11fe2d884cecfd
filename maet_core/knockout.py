"""Key neurons off, as they are, or amplified, in a model in memory: what an ability rests on shows when it is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np
import torch

from maet_core.checkpoints import Checkpoint
from maet_core.importance import KeyNeurons, locate
from maet_core.progress import Progress, tell
from maet_core.ranking import largest
from maet_core.resident import Slot, parameter_slots


@contextmanager
def scaled(model: torch.nn.Module, base: Checkpoint, keys: KeyNeurons, factor: float) -> Iterator[int]:
    """Inside, every weight of a key neuron is `factor` times what it was (0: off, 1: as is); gives how many weights that are.

    The product is taken in float32 and rounded once. On leaving, whatever happened, the model's weights are those from before,
    bit for bit: they are kept, not computed back. Nobody else may use the model meanwhile: hold its lock. `base` says where the
    checkpoint's tensors lie; the model may have other values than it.
    """
    slots = parameter_slots(model, base, check=False) if factor != 1 else {}
    kept: list[tuple[Slot, np.ndarray, torch.Tensor]] = []
    try:
        for name in [name for name in keys.scores.shapes if name in slots and keys.counts[name]]:
            slot, mask = slots[name], keys.mask(name)
            flat = slot.values.view(-1)
            here = mask.to(flat.device)
            before = flat[here]
            kept.append((slot, np.packbits(mask.numpy()), before))
            flat[here] = (before.float() * factor).to(flat.dtype)
        yield sum(before.numel() for _, _, before in kept)
    finally:
        for slot, bits, before in kept:
            flat = slot.values.view(-1)
            mask = torch.from_numpy(np.unpackbits(bits, count=flat.numel()).view(np.bool_))
            flat[mask.to(flat.device)] = before


def random_like(keys: KeyNeurons, seed: int = 0, progress: Progress | None = None) -> KeyNeurons:
    """The control: as many random neurons in every tensor as `keys` has there."""
    base = keys.scores.base
    include = [name for name in keys.scores.shapes if name not in set(base.anatomy.default_neurons())]
    scores = locate("random", base, None, keys.scores.granularity, seed, include)
    cuts, counts = {}, {}
    for position, (name, shape) in enumerate(keys.scores.shapes.items()):
        tell(progress, None, "drawing the random control", position, len(keys.scores.shapes))
        found = largest({name: prod(shape)}, keys.counts[name], scores.array)
        cuts |= found[0]
        counts |= found[1]
    return KeyNeurons(scores, keys.k1, "per-tensor", (cuts, counts))
