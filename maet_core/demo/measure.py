"""How well a model solves the demo word problems: exact match of the answer and of the whole worked line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from maet_core.evaluation.statistics import wilson as wilson_interval
from maet_core.live import LiveModel
from maet_core.progress import Halted, tell
from maet_core.recipe import Recipe
from maet_core.sources import Sources

LONGEST_ANSWER = 24  # tokens; the longest worked line has 15
SEPARATOR = "####"


@dataclass(frozen=True)
class Score:
    """Counts of `n` problems. `operator` counts replies whose operator is right, `operands` both operands in order."""

    n: int
    correct: int
    worked: int
    operator: int
    operands: int

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"accuracy": self.correct / self.n, "interval_95": wilson_interval(self.correct, self.n)}


def final_answer(reply: str) -> str:
    """What stands after the last `####`, empty if there is none."""
    return reply.rpartition(SEPARATOR)[2].strip() if SEPARATOR in reply else ""


def reply_to(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch_size: int | None = None
) -> list[str]:
    """Greedy replies, without special tokens, up to the end-of-text token."""
    batch_size = batch_size or (100 if model.device.type == "cpu" else 500)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    replies = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True, padding_side="left")
        with torch.inference_mode():
            out = model.generate(
                input_ids=batch["input_ids"].to(model.device),
                attention_mask=batch["attention_mask"].to(model.device),
                do_sample=False,
                max_new_tokens=LONGEST_ANSWER,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            replies[i] = text.strip()
    return replies


def is_right(row: dict[str, str], reply: str) -> bool:
    """Whether the final answer is exactly the one of the task's row."""
    return final_answer(reply) == row["answer"]


def score(rows: Sequence[dict[str, str]], replies: Sequence[str]) -> Score:
    """Scores replies to rows of a task; nothing but an exact match counts."""
    correct = worked = operator = operands = 0
    for row, reply in zip(rows, replies, strict=True):
        got, wanted = reply.split(), row["worked"].split()
        correct += is_right(row, reply)
        worked += got == wanted
        operator += got[1:2] == wanted[1:2]
        operands += got[0:1] + got[2:3] == wanted[0:1] + wanted[2:3]
    return Score(len(rows), correct, worked, operator, operands)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, str]]
) -> dict[str, Score]:
    """A score for each language among the rows."""
    replies = reply_to(model, tokenizer, [row["prompt"] for row in rows])
    languages = list(dict.fromkeys(row["language"] for row in rows))
    chosen = {language: [i for i, row in enumerate(rows) if row["language"] == language] for language in languages}
    return {key: score([rows[i] for i in index], [replies[i] for i in index]) for key, index in chosen.items()}


def open_source(folder: Path, source: str | dict, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer of `models/<source>` in a build, or of a recipe that is merged in memory."""
    if isinstance(source, str):
        path = folder / "models" / source
        return AutoModelForCausalLM.from_pretrained(path).to(device), AutoTokenizer.from_pretrained(path)
    live = LiveModel(Sources.open(Recipe.from_dict(source), folder / "recipes"), device)
    return live.model, live.tokenizer


def task_problems(folder: Path, ability: str) -> list[dict[str, Any]]:
    """The rows of `tasks/<ability>.jsonl`."""
    return [json.loads(line) for line in (folder / "tasks" / f"{ability}.jsonl").read_text("utf-8").splitlines()]


def measure_source(
    folder: Path,
    source: str | dict,
    ability: str,
    splits: Sequence[str],
    device: str = "cpu",
    halted: Halted | None = None,
) -> dict[str, dict[str, dict]]:
    """What a model or a recipe scores on an ability's problems, by split and language, as the manifest has it."""
    model, tokenizer = open_source(folder, source, device)
    rows, found = task_problems(folder, ability), {}
    for split in splits:
        tell(None, halted, "measure", 0, 1)
        scores = measure(model, tokenizer, [row for row in rows if row["split"] == split])
        found[split] = {language: score.to_json() for language, score in scores.items()}
    return found
