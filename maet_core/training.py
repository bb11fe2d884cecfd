"""Training a causal language model on packed text, in plain torch.

`Example`s are packed into rows of one length; the loss runs over all their tokens or over the answers alone. Which
parameters train is chosen by name; the others are not touched by a bit.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from maet_core.errors import InputError, OutputError

IGNORED = -100  # a label that the loss leaves out


@dataclass(frozen=True)
class Example:
    """One document as token ids; the answer starts at `answer_start` (0: the text has no prompt)."""

    tokens: tuple[int, ...]
    answer_start: int = 0


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train. `trainable` and `frozen` are glob patterns on parameter names; frozen wins."""

    steps: int
    learning_rate: float
    batch_rows: int = 16
    row_tokens: int = 128
    warmup_steps: int = 50
    final_rate: float = 0.05  # share of the learning rate left at the end of the cosine
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    answers_only: bool = False
    trainable: tuple[str, ...] = ("*",)
    frozen: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """What `train` tells after a step; `loss` is the mean over the tokens of the last batch, in nats."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float


@dataclass
class TrainingReport:
    steps: int
    tokens: int
    seconds: float
    trained_parameters: int
    losses: list[float] = field(default_factory=list)  # every step, in nats per token


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


def choose_parameters(model: torch.nn.Module, trainable: Sequence[str], frozen: Sequence[str]) -> list[str]:
    """Sets `requires_grad` by name and returns the names that train; InputError if a pattern matches nothing."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in (*trainable, *frozen):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"pattern {pattern!r} matches no parameter; names look like {names[0]!r}")
    chosen = []
    for name, parameter in model.named_parameters():
        wanted = any(fnmatchcase(name, p) for p in trainable) and not any(fnmatchcase(name, p) for p in frozen)
        parameter.requires_grad_(wanted)
        if wanted:
            chosen.append(name)
    if not chosen:
        raise InputError("every parameter is frozen; leave at least one to train")
    return chosen


def learning_rate_at(step: int, options: TrainingOptions) -> float:
    """Linear warmup, then a cosine down to `final_rate` of the learning rate; `step` counts from 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    floor = options.final_rate
    return options.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    options: TrainingOptions,
    progress: Callable[[StepReport], None] | None = None,
) -> TrainingReport:
    """Trains `model` in place, in the dtype of its parameters, with AdamW; passes over `examples` as often as needed.

    The same model, examples, options and number of threads give the same weights bit for bit.
    """
    torch.manual_seed(options.seed)
    chosen = set(choose_parameters(model, options.trainable, options.frozen))
    parameters = [parameter for name, parameter in model.named_parameters() if name in chosen]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay, fused=True
    )
    report = TrainingReport(options.steps, 0, 0.0, sum(parameter.numel() for parameter in parameters))
    model.train()
    started = time.perf_counter()
    for step, (ids, labels) in zip(range(options.steps), _batches(examples, options), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        report.losses.append(loss.item())
        report.tokens += ids.numel()
        report.seconds = time.perf_counter() - started
        if progress:
            progress(StepReport(step + 1, options.steps, report.losses[-1], report.tokens / report.seconds))
    model.eval()
    return report


def _batches(examples: Sequence[Example], options: TrainingOptions) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
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


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Writes model (safetensors of `dtype`) and tokenizer to the new directory `out`, all of it or nothing.

    The model in memory keeps its dtype. OutputError if `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out}: exists already; choose a new folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        cast: dict[int, torch.Tensor] = {}  # by storage, so that tied tensors stay one
        state = {
            name: cast.setdefault(tensor.data_ptr(), tensor.detach().to(dtype))
            for name, tensor in model.state_dict().items()
        }
        model.save_pretrained(part, state_dict=state)
        config = copy.deepcopy(model.config)  # save_pretrained wrote the dtype of the model in memory
        config.dtype = dtype
        config.save_pretrained(part)
        tokenizer.save_pretrained(part)
        os.chmod(part, 0o755)
        os.rename(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
