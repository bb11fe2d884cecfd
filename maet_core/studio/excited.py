"""The texts that excite a unit most, computed once for all units of a module and kept in memory."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.inspection.directions import GATED
from maet_core.studio import in_memory, resources, waiting
from maet_core.studio.texts import Texts, pairs

if TYPE_CHECKING:
    import numpy as np

    from maet_core.inspection.directions import Unit

MOST_TOKENS, MOST_KEPT = 256, 16  # of a large module one may take 57 MB


@dataclass(frozen=True)
class Example:
    """One text and the unit's activation at each of its tokens; `spans` are where the tokens stand in the text."""

    text: str
    spans: list[tuple[int, int]]
    activations: np.ndarray


def examples(
    path: str, unit: Unit, texts: Texts, count: int, shown: int, lowest: bool
) -> tuple[list[Example], int] | None:
    """The `shown` texts of the first `count` in which the unit goes highest (or lowest), and how many were read; None after a Stop."""
    from maet_core.inspection.excitation import excitations, trace

    base = resources.model_entry(path).checkpoint
    speaker = in_memory.speaker(path, "")
    module = "down_proj" if unit.module in GATED else unit.module
    special = frozenset(speaker.tokenizer.all_special_ids)
    written = [prompt + answer for prompt, answer in pairs(texts, count)]

    def encode(text: str):
        return speaker.tokenizer(text, truncation=True, max_length=MOST_TOKENS, return_offsets_mapping=True)

    def work(progress):
        ids = [encode(text)["input_ids"] for text in written]
        return excitations(speaker.model, base, unit.layer, module, ids, special, progress=progress)

    signature = (path, resources.stamp(path), unit.layer, module, texts.id, hash(tuple(written)))
    found = waiting.result("neurons-excited", signature, work, f"Reading {len(written)} texts", MOST_KEPT)
    if found is None:
        return None
    best = []
    for position in found.texts(unit.index, shown, lowest):
        coded = encode(written[position])
        activations = trace(speaker.model, base, unit, coded["input_ids"])
        activations[[token in special for token in coded["input_ids"]]] = 0
        best.append(Example(written[position], coded["offset_mapping"], activations))
    return best, len(written)


def show(example: Example, reach: float, language: str) -> None:
    """The text with every token shaded by the activation, from −`reach` (blue) to `reach` (orange)."""
    pieces, end = [], 0
    peak = int(abs(example.activations).argmax())
    for position, ((start, stop), value) in enumerate(zip(example.spans, example.activations, strict=True)):
        start = max(start, end)  # tokens of one character share its place
        if stop <= start:
            continue
        strength = min(abs(float(value)) / reach, 1.0) if reach else 0.0
        kind = "up" if value >= 0 else "down"
        mark = " peak" if position == peak else ""
        pieces.append(html.escape(example.text[end:start]))
        pieces.append(
            f"<span class='maet-token {kind}{mark}' style='--strength:{strength:.2f}' title='{float(value):+.3g}'>"
            f"{html.escape(example.text[start:stop])}</span>"
        )
        end = stop
    pieces.append(html.escape(example.text[end:]))
    value = float(example.activations[peak])
    tag = f" lang='{html.escape(language, quote=True)}'" if language else ""
    st.html(f"<div class='maet-example'><b>{value:+.2f}</b><div{tag} dir='auto'>{''.join(pieces)}</div></div>")
