"""Which values of a tensor belong to key neurons, a bit each, on the card."""

from __future__ import annotations

import torch

from maet_core.importance.key_neurons import KeyNeurons
from maet_core.importance.scores import unit_axis
from maet_core.live_on_card.inputs import Held, Part
from maet_core.live_on_card.jobs import packed

_STEP = 1 << 24  # a multiple of 8


def mask_of(name: str, keys: KeyNeurons, device: torch.device, held: dict[tuple[Part, str], Held]) -> torch.Tensor:
    """As `jobs.Term` has it. What the card can find out by itself it does: units are spread, magnitudes compared with their limit."""
    info = keys.scores.base.tensors[name]
    mask = torch.zeros(-(-info.numel // 8), dtype=torch.uint8, device=device)
    if not keys.counts.get(name):
        return mask
    step = _STEP
    if keys.scores.granularity == "unit" and len(info.shape) == 2:
        width = info.shape[1]
        step = max(8, _STEP // width // 8 * 8) * width
        axis = unit_axis(keys.scores.base.anatomy.place(name), info.shape) % 2
        neurons = keys.neurons(name).to(device)
        neurons = (neurons[:, None] if axis == 0 else neurons[None, :]).expand(info.shape)

        def chosen(start: int, stop: int) -> torch.Tensor:
            return neurons[start // width : stop // width].reshape(-1)

    else:

        def chosen(start: int, stop: int) -> torch.Tensor:
            found = _above(name, keys, device, held, start, stop)
            return keys.mask(name, start, stop).to(device) if found is None else found

    for start in range(0, info.numel, step):
        stop = min(start + step, info.numel)
        mask[start // 8 : -(-stop // 8)] = packed(chosen(start, stop))
    return mask


def _above(
    name: str, keys: KeyNeurons, device: torch.device, held: dict[tuple[Part, str], Held], start: int, stop: int
) -> torch.Tensor | None:
    """Whether each magnitude is above the limit; None where the card cannot tell."""
    judge = keys.scores.magnitude_of
    base, trained = held.get((None, name)), held.get((judge, name)) if judge is not None else None
    limit = keys.limit(name, start, stop)
    if base is None or trained is None or limit is None or not (base.finite and trained.finite):
        return None
    change = trained.values[start:stop].to(device).to(torch.float32)
    if not trained.is_difference:
        change = change - base.values[start:stop].to(device).to(torch.float32)
    return change.abs().view(torch.int32) > int(limit)
