"""How well a model expects texts: nats per token, with the interval that so many texts allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maet_core.errors import InputError
from maet_core.progress import Halted, Progress, tell
from maet_core.training import tokenize

_Z95 = 1.959964


@dataclass(frozen=True)
class Mean:
    """A mean over tokens and half the width of its 95 % interval (normal, over texts); the interval of one text is infinite."""

    value: float
    interval: float
    texts: int
    tokens: int


@dataclass(frozen=True)
class Losses:
    """Per text: the sum of −log p over the tokens that count (nats, float64), and their number."""

    sums: np.ndarray
    tokens: np.ndarray

    def mean(self) -> Mean:
        """Nats per token over all texts. Tokens of one text go together, so the interval is that of a ratio over texts."""
        return _ratio(self.sums, self.tokens)

    def change_from(self, before: Losses) -> Mean:
        """Mean change per token on the same texts: paired, so that hard and easy texts cancel."""
        if not np.array_equal(self.tokens, before.tokens):
            raise ValueError("losses of different texts cannot be paired")
        return _ratio(self.sums - before.sums, self.tokens)


def _ratio(sums: np.ndarray, tokens: np.ndarray) -> Mean:
    count, total = len(sums), int(tokens.sum())
    value = float(sums.sum()) / total
    spread = float(((sums - value * tokens) ** 2).sum())
    interval = _Z95 * (count / (count - 1) * spread) ** 0.5 / total if count > 1 else float("inf")
    return Mean(value, interval, count, total)


def answer_losses(
    model: torch.nn.Module,
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    rows: int = 8,
    most_tokens: int = 512,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> Losses:
    """Losses of the answers, the end-of-text token included; of a text without a prompt all tokens but the first count.

    `pairs`: (prompt, answer). Texts are cut at `most_tokens`; one whose answer lies behind the cut does not count. Raises
    InputError if none counts.
    """
    room = getattr(model.config, "max_position_embeddings", None) or most_tokens
    sequences = []
    for example in tokenize(tokenizer, pairs) if pairs else ():
        ids = example.tokens[: min(most_tokens, room)]
        first = max(1, example.answer_start)
        if len(ids) > first:
            sequences.append((ids, first))
    if not sequences:
        raise InputError("there is no text whose loss could be taken; choose another")
    sums, counts = [], []
    for start in range(0, len(sequences), rows):
        tell(progress, halted, "taking the loss", start, len(sequences))
        block = sequences[start : start + rows]
        sums += _sums(model, block)
        counts += [len(ids) - first for ids, first in block]
    return Losses(np.array(sums), np.array(counts))


@torch.inference_mode()
def _sums(model: torch.nn.Module, block: list[tuple[tuple[int, ...], int]]) -> list[float]:
    ids, mask = padded([ids for ids, _ in block], model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    sums = []
    for row, (tokens, first) in enumerate(block):
        expected = torch.tensor(tokens[first:], device=logits.device)
        scores = logits[row, first - 1 : len(tokens) - 1].float()
        sums.append(float(torch.nn.functional.cross_entropy(scores, expected, reduction="none").double().sum()))
    return sums


def padded(rows: Sequence[Sequence[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, zeros behind the end, and which are real: both int64 [rows, longest]."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)
