"""One live model that is asked the same questions under many recipes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from maet_core.evaluation.asking import Ask, ask_items
from maet_core.evaluation.questions import Question
from maet_core.evaluation.run import general_texts
from maet_core.evaluation.subjects import DTYPES
from maet_core.inspection.losses import Losses, answer_losses
from maet_core.live import LiveModel
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe


class Twin:
    """A copy of a live model in another dtype that follows its weights; the live model itself where the dtype is the same."""

    def __init__(self, live: LiveModel, dtype: torch.dtype):
        self.live = live
        same = all(parameter.dtype == dtype for parameter in live.model.parameters())
        self.model = live.model if same else copy.deepcopy(live.model).to(dtype)

    @torch.no_grad()
    def follow(self) -> None:
        if self.model is not self.live.model:
            for mine, its in zip(self.model.parameters(), self.live.model.parameters(), strict=True):
                mine.copy_(its)


class Asker:
    """Moves the live weights and asks. `general`: corpora by language, whose loss is the forgetting."""

    def __init__(self, live: LiveModel, asks: Sequence[Ask], general: Mapping[str, str], batch_rows: int = 100):
        self.live, self.asks, self.batch_rows = live, list(asks), batch_rows
        self.twin = Twin(live, DTYPES[self.asks[0].protocol.dtype])
        self.texts = {language: general_texts(source) for language, source in general.items()}

    def become(self, recipe: Recipe) -> None:
        self.live.apply(recipe)
        self.twin.follow()

    def verdicts(
        self, ask: Ask, items: Sequence[Question], progress: Progress | None = None, halted: Halted | None = None
    ) -> list[bool]:
        rows = ask_items(
            self.twin.model,
            self.live.tokenizer,
            ask,
            items,
            batch_rows=self.batch_rows,
            progress=progress,
            halted=halted,
        )
        return [bool(row["right"]) for row in rows]

    def losses(self) -> dict[str, Losses]:
        """By language, on general text, under the weights of now."""
        return {
            language: answer_losses(self.twin.model, self.live.tokenizer, pairs, rows=16)
            for language, pairs in self.texts.items()
        }

    def answer_all(self, progress: Progress | None = None, halted: Halted | None = None) -> dict[str, str]:
        """`task language` → one letter a question, 1 for right."""
        found = {}
        for ask in self.asks:
            right = self.verdicts(ask, ask.task.items, progress, halted)
            found |= by_language(ask, ask.task.items, right)
        return found


def by_language(ask: Ask, items: Sequence[Question], right: Sequence[bool]) -> dict[str, str]:
    found: dict[str, Any] = {}
    for item, verdict in zip(items, right, strict=True):
        found.setdefault(f"{ask.task.name} {item.language}", []).append("01"[verdict])
    return {key: "".join(letters) for key, letters in found.items()}
