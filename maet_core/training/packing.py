"""Documents as rows of token ids: packed end to end, the loss over all tokens or over the answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from maet_core.errors import InputError
from maet_core.training.options import TrainingOptions

IGNORED = -100  # a label that the loss leaves out

Row = tuple[list[int], list[int]]


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


def rows(examples: Iterable[Example], row_tokens: int, answers_only: bool) -> Iterator[Row]:
    """Examples laid end to end, cut into rows of token ids and labels, one by one; what fills no row at the end is dropped.

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
        full = len(ids) // row_tokens * row_tokens
        for start in range(0, full, row_tokens):
            yield ids[start : start + row_tokens], labels[start : start + row_tokens]
        del ids[:full], labels[:full]


def pack(examples: Iterable[Example], row_tokens: int, answers_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """All `rows` at once: token ids and labels, both int64 [rows, row_tokens]."""
    return _tensors(list(rows(examples, row_tokens, answers_only)), row_tokens)


def batches(examples: Sequence[Example], options: TrainingOptions) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches; every pass shuffles the examples and packs them anew. In memory: a batch, and the order of a pass."""
    generator = torch.Generator().manual_seed(options.seed)
    while True:
        order = torch.randperm(len(examples), generator=generator).numpy()
        shuffled = (examples[int(number)] for number in order)
        filled, batch = 0, []
        for row in rows(shuffled, options.row_tokens, options.answers_only):
            filled += 1
            batch.append(row)
            if len(batch) == options.batch_rows:
                yield _tensors(batch, options.row_tokens)
                batch = []
        if filled < options.batch_rows:
            raise InputError(
                f"corpus fills {filled} rows of {options.row_tokens} tokens, a batch needs {options.batch_rows}; "
                "give more text, or a smaller batch"
            )


def _tensors(batch: list[Row], row_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids, labels = ([row[part] for row in batch] for part in (0, 1))
    shape = (len(batch), row_tokens)
    return torch.tensor(ids, dtype=torch.int64).view(shape), torch.tensor(labels, dtype=torch.int64).view(shape)
