"""Which device computes, and why."""

from __future__ import annotations

import sys
from pathlib import Path

from maet_core.errors import InputError
from maet_core.lazy import torch

# Buffers and sums of a merge on a card need less.
_ROOM_BYTES = 1 << 30


def choose_device(wanted: str) -> tuple[str, str]:
    """One device, as torch calls it, and why. Raises InputError if the wanted one is not there.

    `auto` is the first CUDA card with room, else the CPU. Where the machine has no NVIDIA driver at all, torch is not even asked.
    """
    if wanted == "cpu":
        return wanted, "asked for"
    if wanted == "auto":
        if not _has_nvidia_driver():
            return "cpu", "no CUDA card here"
        if not torch.cuda.is_available():
            return "cpu", "torch cannot use the CUDA card of this machine"
        free = _free_bytes()
        roomy = [card for card, there in enumerate(free) if there > _ROOM_BYTES]
        if not roomy:
            return "cpu", f"the CUDA card has only {max(free) / 2**30:.1f} GiB free"
        name = "cuda" if roomy[0] == 0 else f"cuda:{roomy[0]}"
        return name, f"a CUDA card with {free[roomy[0]] / 2**30:.1f} GiB free"
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(["cuda"] if cards else []), *(f"cuda:{card}" for card in range(cards))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if wanted not in available:
        raise InputError(f"--device: {wanted} is not available here; available: auto, {', '.join(available)}")
    return wanted, "asked for"


def choose_cards(wanted: str) -> tuple[list[torch.device], str]:
    """The accelerators that share a merge, none for the processor, and why. Raises InputError if the wanted one is not there.

    `auto` and `cuda` are all CUDA cards with room (`cuda` every card if none has), `cuda:1` is this one.
    """
    target, reason = choose_device(wanted)
    if target == "cpu":
        return [], reason
    if wanted not in ("auto", "cuda"):
        return [torch.device(target)], reason
    free = _free_bytes()
    roomy = [card for card, there in enumerate(free) if there > _ROOM_BYTES] or list(range(len(free)))
    if len(roomy) > 1:
        reason = f"{len(roomy)} CUDA cards share the tensors, " + ", ".join(
            f"{free[card] / 2**30:.1f} GiB free on {card}" for card in roomy
        )
    return [torch.device("cuda", card) for card in roomy], reason


def _free_bytes() -> list[int]:
    return [torch.cuda.mem_get_info(card)[0] for card in range(torch.cuda.device_count())]


def _has_nvidia_driver() -> bool:
    return sys.platform == "win32" or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
