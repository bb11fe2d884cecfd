"""The training loop: one for everything that trains here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from transformers import PreTrainedModel

from maet_core.progress import record
from maet_core.training.options import StepReport, TrainingOptions, TrainingReport, learning_rate_at
from maet_core.training.packing import Example, batches
from maet_core.training.parameters import NamedParameters, Trainable
from maet_core.training.state import TrainingState


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    options: TrainingOptions,
    progress: Callable[[StepReport], None] | None = None,
    trainable: Trainable | None = None,
    state: TrainingState | None = None,
) -> TrainingReport:
    """Trains `model` in place with AdamW; passes over `examples` as often as needed.

    `trainable` says what moves; by default the parameters that `options` name, in their own dtype. The same model, examples,
    options and number of threads give the same weights bit for bit, and so does a run that was killed and goes on from `state`.
    """
    trainable = trainable or NamedParameters(model, options.trainable, options.frozen)
    tensors = list(trainable.tensors.values())
    optimizer = torch.optim.AdamW(
        tensors, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay, fused=True
    )
    report = TrainingReport(options.steps, 0, 0.0, sum(tensor.numel() for tensor in tensors))
    first = state.resume(trainable.tensors, optimizer, report) if state else 0
    if first:
        trainable.write_back()
    model.train()
    started = time.perf_counter() - report.seconds
    try:
        parts = islice(batches(examples, options), first * options.accumulate, None)
        for step in range(first, options.steps):
            torch.manual_seed((options.seed * 1_000_003 + step) % 2**63)  # dropout too is the same after a resume
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, options)
            losses = []
            for ids, labels in islice(parts, options.accumulate):
                loss = model(input_ids=ids.to(model.device), labels=labels.to(model.device), use_cache=False).loss
                (loss / options.accumulate).backward()
                losses.append(loss.item())
                report.tokens += ids.numel()
            torch.nn.utils.clip_grad_norm_(tensors, options.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            trainable.write_back()
            report.losses.append(sum(losses) / len(losses))
            report.seconds = time.perf_counter() - started
            if state:
                state.keep(step + 1, trainable.tensors, optimizer, report)
            record(
                step=step + 1,
                steps=options.steps,
                loss=report.losses[-1],
                learning_rate=learning_rate_at(step, options),
                tokens_per_second=report.tokens / report.seconds,
            )
            if progress:
                progress(StepReport(step + 1, options.steps, report.losses[-1], report.tokens / report.seconds))
    finally:
        trainable.release()
        model.eval()
    return report
