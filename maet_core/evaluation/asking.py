"""A task and how it is put to a model, and the model's answers to its questions, each with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from maet_core.conversation import Decoding
from maet_core.evaluation import engine, likelihood
from maet_core.evaluation.judging import judge_choice, judge_text
from maet_core.evaluation.prompts import Protocol, build_prompt, stop_texts
from maet_core.evaluation.questions import Question
from maet_core.evaluation.tasks import Task
from maet_core.progress import Halted, Progress


@dataclass(frozen=True)
class Ask:
    """A task and how it is put. `exemplars` are drawn on in order, in the question's language."""

    task: Task
    protocol: Protocol
    exemplars: tuple[Question, ...] = ()

    def shown(self, language: str) -> list[Question]:
        pool = self.exemplars or self.task.pool
        return [item for item in pool if item.language == language][: self.protocol.shots]

    def key(self, language: str) -> str:
        """Changes with the questions, the exemplars and the protocol."""
        asked = repr((self.task.of(language), self.shown(language), self.protocol))
        return xxhash.xxh3_64_hexdigest(asked.encode())


def ask_items(
    model: Any,
    tokenizer: Any,
    ask: Ask,
    items: Sequence[Question],
    keep: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    batch_rows: int = 32,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> list[dict[str, Any]]:
    """One row an item, in their order: question, answer, both readings, both verdicts. `keep` gets rows as they come."""
    prompts, shown = [], {}
    for item in items:
        shown.setdefault(item.language, ask.shown(item.language))
        prompts.append(build_prompt(item, ask.protocol, shown[item.language], tokenizer))
    rows: list[dict[str, Any] | None] = [None] * len(items)

    def take(batch: list[tuple[int, Any]]) -> None:
        judge = judge_choice if ask.task.has_choices else judge_text
        new = [(i, judge(items[i], prompts[i], said)) for i, said in batch]
        for i, row in new:
            rows[i] = row
        keep([row for _, row in new])

    if ask.task.has_choices:
        questions = [(prompt, item.choices) for prompt, item in zip(prompts, items, strict=True)]
        likelihood.choose(model, tokenizer, questions, batch_rows, take, progress, halted)
        return rows
    protocol = ask.protocol
    decoding = Decoding(protocol.max_new_tokens, protocol.temperature, protocol.top_p, protocol.seed)
    stops = [stop_texts(item.language, protocol.style) for item in items]
    seeds = [xxhash.xxh32_intdigest(f"{item.language} {item.id}".encode()) >> 1 for item in items]
    engine.answer(model, tokenizer, prompts, decoding, stops, batch_rows, take, progress, halted, seeds)
    return rows
