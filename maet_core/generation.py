"""Streamed answers from several models at once.

One thread a model puts token ids into one queue; the caller's thread turns them into text. A character whose bytes are
spread over several tokens (every Bengali letter in a byte-level vocabulary) is held back until it is whole.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from maet_core.conversation import Answer, Decoding, Speaker
from maet_core.errors import Cancelled, InputError

_log = logging.getLogger(__name__)
POLL_SECONDS = 0.05
BUSY_SECONDS = 0.5  # who waits longer for a model is told so
JOIN_SECONDS = 2.0
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def stream(
    speakers: Sequence[Speaker], prompt: str, decoding: Decoding, halt: threading.Event | None = None
) -> Iterator[Answer]:
    """Yields an `Answer` whenever a model has said more, and a finished one for each at the end.

    Setting `halt`, or closing the iterator, stops all of them after the token they are at; what they said is kept. A
    model that fails ends with `finished == "error"`, and the others go on. `seconds` runs from the model's own start.
    """
    halt = halt or threading.Event()
    pieces: queue.SimpleQueue = queue.SimpleQueue()
    runs = [_Run(speaker, position) for position, speaker in enumerate(speakers)]
    threads = [
        threading.Thread(
            target=_work, args=(run, prompt, decoding, halt, pieces), daemon=True, name=f"answer-{run.position}"
        )
        for run in runs
    ]
    try:
        for thread in threads:
            thread.start()
        while not all(run.done for run in runs):
            for run in _drain(pieces, runs):
                yield run.answer()
            for run in runs:
                if run.waits_long():
                    yield run.answer()
    finally:
        halt.set()
        for thread in threads:
            if thread.ident:
                thread.join(JOIN_SECONDS)  # one that still waits for its model gives up as soon as it has it


def generate(speaker: Speaker, prompt: str, decoding: Decoding) -> Answer:
    """The whole answer of one model."""
    return list(stream([speaker], prompt, decoding))[-1]


@dataclass
class _Run:
    speaker: Speaker
    position: int
    ids: list[int] = field(default_factory=list)
    begun: bool = False
    asked: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    finished: str = ""
    error: str = ""
    waiting: bool = False

    def waits_long(self) -> bool:
        """True once, when the model has kept it waiting for a while."""
        if self.begun or self.waiting or self.done or time.monotonic() - self.asked < BUSY_SECONDS:
            return False
        self.waiting = True
        return True

    @property
    def done(self) -> bool:
        return bool(self.finished)

    def answer(self) -> Answer:
        text = self.speaker.tokenizer.decode(self.ids, skip_special_tokens=True) if self.ids else ""
        if not self.done:
            text = text.rstrip(_REPLACEMENT)
        return Answer(self.speaker.label, text, len(self.ids), self.seconds, self.finished, self.error, self.waiting)


def _drain(pieces: queue.SimpleQueue, runs: list[_Run]) -> list[_Run]:
    """Waits a moment for news, takes in all there is, and returns the runs that it is about."""
    touched: dict[int, _Run] = {}
    until = time.monotonic() + POLL_SECONDS
    while (left := until - time.monotonic()) > 0:
        try:
            position, kind, value, seconds = pieces.get(timeout=left)
        except queue.Empty:
            break
        run = touched.setdefault(position, runs[position])
        run.seconds = seconds
        run.begun, run.waiting = True, False
        if kind == "begun":
            pass
        elif kind == "token":
            run.ids.append(value)
            if len(run.ids) == 1:
                break  # the first word is waited for
        else:
            run.finished, run.error = value
            if all(run.done for run in runs):
                break
    return list(touched.values())


def _work(run: _Run, prompt: str, decoding: Decoding, halt: threading.Event, pieces: queue.SimpleQueue) -> None:
    begun = time.perf_counter()

    def say(kind: str, value: Any) -> None:
        pieces.put((run.position, kind, value, time.perf_counter() - begun))

    try:
        with run.speaker.hold():
            begun = time.perf_counter()  # waiting for the model is not its speed
            say("begun", None)
            say("finished", (_generate(run.speaker, prompt, decoding, halt, lambda token: say("token", token)), ""))
    except Cancelled:
        say("finished", ("stopped", ""))
    except InputError as error:
        say("finished", ("error", str(error)))
    except Exception as error:  # of any kind: it must reach the person who waits, not die with the thread
        _log.exception("%s could not go on answering", run.speaker.label)
        say("finished", ("error", f"{type(error).__name__}: {error}"))


def _generate(
    speaker: Speaker, prompt: str, decoding: Decoding, halt: threading.Event, say: Callable[[int], None]
) -> str:
    """Runs transformers' own `generate` and returns why it ended."""
    if halt.is_set():
        return "stopped"
    model, tokenizer = speaker.model, speaker.tokenizer
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(model.device)
    room = getattr(model.config, "max_position_embeddings", None)
    length = inputs["input_ids"].shape[1]
    if room and length >= room:
        raise InputError(f"the question has {length} tokens, the model reads at most {room}; make it shorter")
    if length == 0:
        raise InputError("the question is empty; type one")
    most = min(decoding.max_new_tokens, room - length) if room else decoding.max_new_tokens
    ends = end_tokens(model, tokenizer)
    streamer = _TokenStreamer(say, ends)
    settings = generation_settings(most, ends, tokenizer)
    with torch.inference_mode():
        model.generate(
            **inputs,
            generation_config=settings,
            logits_processor=LogitsProcessorList([Sampler(decoding, [0])] if decoding.temperature else []),
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([_Halt(halt)]),
        )
    if streamer.ended:
        return "end"
    return "stopped" if halt.is_set() and streamer.count < most else "length"


def generation_settings(most: int, ends: list[int], tokenizer: Any) -> GenerationConfig:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else None)
    return GenerationConfig(max_new_tokens=most, eos_token_id=ends or None, pad_token_id=pad, do_sample=False)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    found = getattr(model, "generation_config", None) and model.generation_config.eos_token_id
    found = found if found is not None else tokenizer.eos_token_id
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [found]


class _TokenStreamer(BaseStreamer):
    """Hands on every new token id; the first call brings the prompt, which is left out."""

    def __init__(self, say: Callable[[int], None], ends: list[int]):
        self.say, self.ends = say, set(ends)
        self.count, self.ended, self._prompt = 0, False, True

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        for token in value.reshape(-1).tolist():
            self.count += 1
            self.ended = self.ended or token in self.ends
            self.say(token)

    def end(self) -> None:
        pass


class Sampler(LogitsProcessor):
    """Turns greedy decoding into sampling: the highest of logits plus Gumbel noise is a draw from their softmax.

    Every row has a generator of its own, seeded by the decoding's seed and the row's. The global one is shared by all threads, so
    that answers streamed at the same time would take each other's numbers and no seed would give the same answer twice.
    """

    def __init__(self, decoding: Decoding, rows: Sequence[int]):
        self.decoding = decoding
        # torch's generator on a CPU takes 32 bits of a seed; the factor, odd, spreads rows over them
        seeds = [(decoding.seed + 0x9E3779B1 * row) % 2**32 for row in rows]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logits = scores.float() / self.decoding.temperature
        if self.decoding.top_p < 1:
            ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
            beyond = ordered.cumsum(dim=-1) - ordered >= self.decoding.top_p  # the first token is always kept
            logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
        drawn = [torch.rand(logits.shape[1:], generator=generator) for generator in self.generators]
        uniform = torch.stack(drawn).clamp_min(1e-20).to(logits.device)
        return logits - torch.log(-torch.log(uniform))


class _Halt(StoppingCriteria):
    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), dtype=torch.bool, device=input_ids.device)
