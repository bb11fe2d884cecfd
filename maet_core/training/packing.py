"""Documents as rows of token ids: packed end to end, the loss over all tokens or over the answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from maet_core.errors import InputError
from maet_core.training.options import TrainingOptions

IGNORED = -100  # a label that the loss leaves out


@dataclass(frozen=True)
class Example:
    """One document as token ids; the answer starts at `answer_start` (0: the text has no prompt)."""

    tokens: tuple[int, ...]
    answer_start: int = 0


def tokenize(tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[str, str]]) -> list[Example]:
    """(prompt, answer) texts as examples that end in the end-of-text token; the prompt may be empty."""
    pairs = list(pairs)
    texts = tokenizer([prompt + answer for prompt, answer in pairs])["input_ids"]
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    return [
        Example((*ids, tokenizer.eos_token_id), len(prompt_ids) if prompt else 0)
        for (prompt, _), ids, prompt_ids in zip(pairs, texts, prompts, strict=True)
    ]


def pack(examples: Sequence[Example], row_tokens: int, answers_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples laid end to end in rows: token ids and labels, both int64 [rows, row_tokens]; the rest is dropped.

    With `answers_only` the labels of prompts are `IGNORED` (a text without a prompt counts whole), and an example
    that would be cut by a row's end moves to the next row, so that no answer is learned without its question.
    """
    ids: list[int] = []
    labels: list[int] = []
    for example in examples:
        if answers_only:
            room = -len(ids) % row_tokens
            if len(example.tokens) > row_tokens:
                continue
            if room < len(example.tokens):
                ids += [example.tokens[-1]] * room
                labels += [IGNORED] * room
            shown = max(1, example.answer_start)
            labels += [IGNORED] * shown + list(example.tokens[shown:])
        else:
            labels += example.tokens
        ids += example.tokens
    rows = len(ids) // row_tokens
    shape = (rows, row_tokens)
    return torch.tensor(ids[: rows * row_tokens]).view(shape), torch.tensor(labels[: rows * row_tokens]).view(shape)


def batches(examples: Sequence[Example], options: TrainingOptions) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches; every pass shuffles the examples and packs them anew."""
    generator = torch.Generator().manual_seed(options.seed)
    while True:
        order = torch.randperm(len(examples), generator=generator).tolist()
        ids, labels = pack([examples[i] for i in order], options.row_tokens, options.answers_only)
        if len(ids) < options.batch_rows:
            raise InputError(
                f"corpus fills {len(ids)} rows of {options.row_tokens} tokens, a batch needs {options.batch_rows}; "
                "give more text, or a smaller batch"
            )
        for start in range(0, len(ids) - options.batch_rows + 1, options.batch_rows):
            rows = slice(start, start + options.batch_rows)
            yield ids[rows], labels[rows]
