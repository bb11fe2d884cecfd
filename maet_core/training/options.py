"""How to train, and what is told on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train. `trainable` and `frozen` are glob patterns on parameter names; frozen wins."""

    steps: int
    learning_rate: float
    batch_rows: int = 16
    accumulate: int = 1  # batches whose gradients are averaged for one step; processes share them
    row_tokens: int = 128
    warmup_steps: int = 50
    final_rate: float = 0.05  # share of the learning rate left at the end of the cosine
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    answers_only: bool = False
    trainable: tuple[str, ...] = ("*",)
    frozen: tuple[str, ...] = ()
    seed: int = 0
    bf16: bool = False  # matrix products in bfloat16 (autocast); what trains and its optimizer state stay float32
    checkpoint_activations: bool = False  # activations of a layer are computed again in the backward pass, not kept


@dataclass(frozen=True)
class LoraOptions:
    """A low-rank adapter (Hu et al. 2021, arXiv 2106.09685) of ΔW = alpha / rank · B · A instead of whole weights.

    `modules`: endings of the names of the linear layers that get one; by default all of them but the output head.
    """

    rank: int = 16
    alpha: float = 32.0
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepReport:
    """What `train` tells after a step; `loss` is the mean over the step's batches, in nats per token."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


@dataclass
class TrainingReport:
    steps: int
    tokens: int
    seconds: float
    trained_parameters: int  # by this process
    losses: list[float] = field(default_factory=list)  # every step, in nats per token


def learning_rate_at(step: int, options: TrainingOptions) -> float:
    """Linear warmup, then a cosine down to `final_rate` of the learning rate; `step` counts from 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    floor = options.final_rate
    return options.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
