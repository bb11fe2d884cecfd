"""Who answers, how the next token is chosen, and what has been said: records that need no torch, for pages that open at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from maet_core.errors import InputError

MOST_NEW_TOKENS = 4096


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen; temperature 0 is greedy decoding."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= MOST_NEW_TOKENS:
            raise InputError(f"max_new_tokens: found {self.max_new_tokens}, expected 1 to {MOST_NEW_TOKENS}")
        if not 0 <= self.temperature <= 5:
            raise InputError(f"temperature: found {self.temperature}, expected 0 to 5")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p: found {self.top_p}, expected more than 0 and at most 1")


@dataclass(frozen=True)
class Speaker:
    """A model that answers. `hold()` is entered for the whole answer, so that nobody moves the weights during it."""

    label: str
    model: Any
    tokenizer: Any
    hold: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Answer:
    """What a model has said so far. `finished` is empty while it speaks; then `end`, `length`, `stopped` or `error`.

    `waiting`: somebody else's answer is running on this model, and this one has not begun.
    """

    label: str
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    finished: str = ""
    error: str = ""
    waiting: bool = False

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0
