"""Answers to many prompts: batches of similar length, padded on the left, with a key/value cache; greedy or sampled.

A batch computes a little differently from one prompt alone (other sums, other rounding), which can tip a choice between two tokens
that are almost equally likely. In float32 every row whose choice ever was that close is answered again alone, so that batched
answers are the answers one by one. In 16 bits ties are too common for that; the protocol says so by naming the dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from maet_core.conversation import Decoding
from maet_core.errors import Cancelled, InputError
from maet_core.generation import Sampler, end_tokens, generation_settings
from maet_core.progress import Halted, Progress, tell

CLOSE_CALL = 2e-3  # float32 logits of padded and unpadded rows differ by some 1e-5
TAIL_TOKENS = 24  # a stop text is looked for in the last so many tokens


@dataclass(frozen=True)
class Reply:
    """What the model said, up to a stop text. `finished`: `end`, `stop`, `length`, or `too long` for a prompt that does not fit."""

    text: str
    tokens: int
    finished: str


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    decoding: Decoding,
    stops: Sequence[Sequence[str]] = (),
    batch_rows: int = 32,
    on_batch: Callable[[list[tuple[int, Reply]]], None] | None = None,
    progress: Progress | None = None,
    halted: Halted | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Reply]:
    """One reply a prompt, in their order. `stops`: for each prompt, texts that end its answer.

    Sampling draws from a generator of each prompt's own, seeded by `decoding.seed` and `seeds` (the default is the prompt's position):
    the batch size changes nothing. `on_batch` gets (position, reply) as soon as a batch is done. Raises Cancelled when `halted` says so, within a token.
    """
    ids = [tokenizer(prompt, return_token_type_ids=False)["input_ids"] for prompt in prompts]
    if any(not row for row in ids):
        raise InputError("a prompt is empty")
    seeds = range(len(ids)) if seeds is None else seeds
    speaker = _Speaker(model, tokenizer, decoding, halted)
    replies: list[Reply | None] = [None] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
    fitting = [i for i in order if speaker.room(len(ids[i])) > 0]
    start, done = 0, len(ids) - len(fitting)
    beyond = [(i, Reply("", 0, "too long")) for i in order if speaker.room(len(ids[i])) <= 0]
    _keep(beyond, replies, on_batch)
    tell(progress, halted, "answering", done, len(ids))
    while start < len(fitting):
        # the last ones may have too little room for a whole answer: those go alone, so that none is cut for its neighbour's sake
        roomy = speaker.room(len(ids[fitting[min(start + batch_rows, len(fitting)) - 1]])) == decoding.max_new_tokens
        chosen = fitting[start : start + (batch_rows if roomy else 1)]
        ends = [tuple(stops[i]) if stops else () for i in chosen]
        try:
            found = speaker.batch([ids[i] for i in chosen], ends, [seeds[i] for i in chosen])
        except torch.OutOfMemoryError:
            if batch_rows == 1:
                raise
            found = None
        if found is None:  # by now the error is gone, and with it what its frames held on the card
            batch_rows //= 2
            torch.cuda.empty_cache()
            continue
        _keep(list(zip(chosen, found, strict=True)), replies, on_batch)
        start += len(chosen)
        done += len(chosen)
        tell(progress, halted, "answering", done, len(ids))
    return replies


def _keep(found: list[tuple[int, Reply]], replies: list[Reply | None], on_batch: Callable | None) -> None:
    for position, reply in found:
        replies[position] = reply
    if on_batch and found:
        on_batch(found)


class _Speaker:
    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, halted: Halted | None):
        self.model, self.tokenizer, self.decoding, self.halted = model, tokenizer, decoding, halted
        self.ends = end_tokens(model, tokenizer)
        self.exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
        self.limit = getattr(model.config, "max_position_embeddings", None)

    def room(self, length: int) -> int:
        """Tokens that an answer to a prompt of this length may have."""
        most = self.decoding.max_new_tokens
        return most if self.limit is None else min(most, self.limit - length)

    def batch(self, rows: list[list[int]], stops: list[tuple[str, ...]], seeds: list[int]) -> list[Reply]:
        tokens, close = self._generate(rows, stops, seeds)
        if self.exact and len(rows) > 1:
            for i in (i for i, is_close in enumerate(close) if is_close):
                tokens[i] = self._generate([rows[i]], [stops[i]], [seeds[i]])[0][0]
        return [self._reply(row, ends, self.room(len(ids))) for row, ends, ids in zip(tokens, stops, rows, strict=True)]

    @torch.inference_mode()
    def _generate(
        self, rows: list[list[int]], stops: list[tuple[str, ...]], seeds: list[int]
    ) -> tuple[list[list[int]], list[bool]]:
        """New tokens of every row, the end token included, and whether one of its choices was close."""
        longest = max(map(len, rows))
        settings = generation_settings(self.room(longest), self.ends, self.tokenizer)
        pad = settings.pad_token_id if settings.pad_token_id is not None else 0
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        calls = _CloseCalls(longest, self.ends)
        draw = [Sampler(self.decoding, seeds)] if self.decoding.temperature else []
        out = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=LogitsProcessorList([*draw, calls]),
            stopping_criteria=StoppingCriteriaList([_Stops(stops, longest, self.tokenizer, self.halted)]),
        )
        new = out[:, longest:].tolist()
        return [self._up_to_end(row) for row in new], calls.close(len(rows))

    def _up_to_end(self, tokens: list[int]) -> list[int]:
        first = min((tokens.index(end) for end in self.ends if end in tokens), default=None)
        return tokens if first is None else tokens[: first + 1]

    def _reply(self, tokens: list[int], stops: tuple[str, ...], room: int) -> Reply:
        ended = bool(tokens) and tokens[-1] in self.ends
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        if places:
            return Reply(text[: min(places)].strip(), len(tokens), "stop")
        return Reply(text.strip(), len(tokens), "end" if ended else "length" if len(tokens) >= room else "stop")


class _CloseCalls(LogitsProcessor):
    """Remembers which rows ever had to choose between two tokens that were almost equal; changes nothing."""

    def __init__(self, prompt_length: int, ends: list[int]):
        self.prompt_length, self.ends = prompt_length, ends
        self.found: torch.Tensor | None = None
        self.over: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.found is None:
            self.found = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
            self.over = torch.zeros_like(self.found)
        elif self.ends:
            self.over |= torch.isin(input_ids[:, -1], torch.tensor(self.ends, device=input_ids.device))
        first, second = scores.topk(2, dim=-1).values.unbind(-1)
        self.found |= ~self.over & (first - second < CLOSE_CALL)
        return scores

    def close(self, rows: int) -> list[bool]:
        return [False] * rows if self.found is None else self.found.tolist()


class _Stops(StoppingCriteria):
    """Ends a row whose latest text holds one of its stop texts; the whole batch when the work should stop."""

    def __init__(self, stops: list[tuple[str, ...]], prompt_length: int, tokenizer: Any, halted: Halted | None):
        self.stops, self.prompt_length, self.tokenizer, self.halted = stops, prompt_length, tokenizer, halted
        self.done = [False] * len(stops)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        if self.halted and self.halted():
            raise Cancelled("stopped during: answering")
        start = max(self.prompt_length, input_ids.shape[1] - TAIL_TOKENS)
        waiting = [i for i, stops in enumerate(self.stops) if stops and not self.done[i]]
        if waiting:
            tails = self.tokenizer.batch_decode(input_ids[waiting, start:])
            for i, tail in zip(waiting, tails, strict=True):
                self.done[i] = any(stop in tail for stop in self.stops[i])
        return torch.tensor(self.done, device=input_ids.device)
