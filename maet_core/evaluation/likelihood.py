"""Multiple choice by log-likelihood: how likely the model finds each choice after the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maet_core.inspection.losses import padded
from maet_core.progress import Halted, Progress, tell


@dataclass(frozen=True)
class Likelihood:
    """log p of each choice, in nats, and its length in UTF-8 bytes."""

    sums: tuple[float, ...]
    nbytes: tuple[int, ...]

    @property
    def likeliest(self) -> int:
        """The choice with the highest log p."""
        return max(range(len(self.sums)), key=lambda i: self.sums[i])

    @property
    def likeliest_per_byte(self) -> int:
        """The same by log p a byte, which does not favour short choices."""
        return max(range(len(self.sums)), key=lambda i: self.sums[i] / max(1, self.nbytes[i]))


def choose(
    model: Any,
    tokenizer: Any,
    questions: Sequence[tuple[str, Sequence[str]]],
    batch_rows: int = 32,
    on_batch: Callable[[list[tuple[int, Likelihood]]], None] | None = None,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> list[Likelihood]:
    """The likelihoods of each question's choices, a space before each. `questions`: (prompt, choices).

    A question that does not fit the model's context is cut from the left, as the EleutherAI harness does.
    """
    found: list[Likelihood | None] = [None] * len(questions)
    order = sorted(range(len(questions)), key=lambda i: (len(questions[i][0]), i))
    done = 0
    while done < len(order):
        tell(progress, halted, "choosing", done, len(order))
        chosen, rows = [], []
        while done < len(order) and (not rows or len(rows) + len(questions[order[done]][1]) <= batch_rows):
            prompt, choices = questions[order[done]]
            chosen.append(order[done])
            rows += [_encode(tokenizer, prompt, f" {choice}") for choice in choices]
            done += 1
        sums = iter(_sums(model, rows))
        batch = []
        for i in chosen:
            choices = questions[i][1]
            likelihood = Likelihood(tuple(next(sums) for _ in choices), tuple(len(c.encode()) for c in choices))
            found[i] = likelihood
            batch.append((i, likelihood))
        if on_batch:
            on_batch(batch)
    tell(progress, halted, "choosing", len(order), len(order))
    return found


def _encode(tokenizer: Any, prompt: str, choice: str) -> tuple[list[int], int]:
    """Tokens of both, and how many at the end are the choice's: those that the prompt alone does not have."""
    before = tokenizer(prompt, return_token_type_ids=False)["input_ids"]
    both = tokenizer(prompt + choice, return_token_type_ids=False)["input_ids"]
    same = next((i for i, (a, b) in enumerate(zip(before, both, strict=False)) if a != b), min(len(before), len(both)))
    return both, max(1, len(both) - same)


@torch.inference_mode()
def _sums(model: Any, rows: list[tuple[list[int], int]]) -> list[float]:
    room = getattr(model.config, "max_position_embeddings", None)
    cut = [(ids[-room:] if room else ids, length) for ids, length in rows]
    ids, mask = padded([ids for ids, _ in cut], model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    sums = []
    for row, (tokens, length) in enumerate(cut):
        length = min(length, len(tokens) - 1)
        scores = logits[row, len(tokens) - length - 1 : len(tokens) - 1].float()
        wanted = torch.tensor(tokens[-length:], device=logits.device)
        sums.append(-float(torch.nn.functional.cross_entropy(scores, wanted, reduction="none").double().sum()))
    return sums
