"""Which texts excite a hidden unit: its activations while the model reads, taken by a hook.

The activation of a unit of an MLP is what `down_proj` takes in (gate, up and down are the same unit); of `o_proj`, what it
takes in; of any other matrix, what it puts out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.inspection.directions import GATED, Unit
from maet_core.inspection.losses import padded
from maet_core.progress import Halted, Progress, tell
from maet_core.resident import parameter_slots

Ids = Sequence[int]


@dataclass(frozen=True)
class Excitations:
    """The highest and the lowest activation of every unit of one module in every text: float32 [texts, units]."""

    highest: np.ndarray
    lowest: np.ndarray

    def texts(self, unit: int, count: int, lowest: bool = False) -> list[int]:
        """The texts in which the unit goes highest (or lowest), strongest first; ties by position."""
        peaks = self.lowest[:, unit] if lowest else -self.highest[:, unit]
        return np.argsort(peaks, kind="stable")[:count].tolist()


def excitations(
    model: torch.nn.Module,
    base: Checkpoint,
    layer: int,
    module: str,
    texts: Sequence[Ids],
    ignored: Collection[int] = (),
    rows: int = 16,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> Excitations:
    """One pass over the texts, given as token ids, for all units of a layer's module at once.

    Tokens in `ignored` do not count: the first one of every text is the same special token, and excites some units in all of them.
    `base`: the checkpoint that the model was loaded from, or one of the same architecture. Raises InputError for a module whose
    units cannot be listened to (experts, whose matrices are stacked).
    """
    highest, lowest = [], []
    for start in range(0, len(texts), rows):
        tell(progress, halted, "reading the corpus", start, len(texts))
        block = texts[start : start + rows]
        for text, activations in zip(block, _activations(model, base, layer, module, block), strict=True):
            counting = [position for position, token in enumerate(text) if token not in ignored]
            activations = activations[counting] if counting else torch.zeros_like(activations[:1])
            highest.append(activations.amax(dim=0).numpy())
            lowest.append(activations.amin(dim=0).numpy())
    if not highest:
        raise InputError("the corpus is empty; choose another")
    return Excitations(np.stack(highest), np.stack(lowest))


def trace(model: torch.nn.Module, base: Checkpoint, unit: Unit, text: Ids) -> np.ndarray:
    """The unit's activation at every token of one text: float32 [tokens]."""
    return _activations(model, base, unit.layer, unit.module, [text])[0][:, unit.index].numpy()


@torch.inference_mode()
def _activations(
    model: torch.nn.Module, base: Checkpoint, layer: int, module: str, texts: Sequence[Ids]
) -> list[torch.Tensor]:
    """Per text, float32 [tokens, units]."""
    ids, mask = padded(texts, model.device)
    heard: list[torch.Tensor] = []
    with _listening(model, base, layer, module, heard.append):
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    values = heard[0].float().cpu()
    return [values[row, : len(text)] for row, text in enumerate(texts)]


@contextmanager
def _listening(model: torch.nn.Module, base: Checkpoint, layer: int, module: str, take: Callable[[torch.Tensor], None]):
    wanted = "down_proj" if module in GATED else module
    part, holder = _holder(model, base, layer, wanted)
    if wanted in ("o_proj", "down_proj"):
        hook = holder.register_forward_pre_hook(lambda _, inputs: take(inputs[0]))
    else:
        hook = holder.register_forward_hook(
            lambda _, inputs, output: take(output if part is None else output[..., part])
        )
    try:
        yield
    finally:
        hook.remove()


def _holder(model: torch.nn.Module, base: Checkpoint, layer: int, module: str):
    """The layer's part of the model that multiplies with this module's matrix, and the indices of its units if it is fused."""
    owners = {id(value): owner for owner in model.modules() for value in owner.parameters(recurse=False)}
    slots = parameter_slots(model, base, check=False)
    for name, slot in slots.items():
        place = base.anatomy.place(name)
        if place.layer != layer or place.kind not in ("attention", "mlp") or len(base.tensors[name].shape) != 2:
            continue
        units = {found.module: found.units for found in place.parts}
        if module == place.module or module in units:
            indices = torch.as_tensor(list(units[module])) if module in units else None
            return indices, owners[id(slot.parameter)]
    raise InputError(
        f"{base.source}: the units of {module} in layer {layer} cannot be listened to; choose another module"
    )
