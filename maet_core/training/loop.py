"""The training loop: one for everything that trains here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from transformers import PreTrainedModel

from maet_core.errors import InputError, Stopped
from maet_core.progress import Halted, record
from maet_core.training.options import StepReport, TrainingOptions, TrainingReport, learning_rate_at
from maet_core.training.packing import Example, batches
from maet_core.training.parameters import Trainable, parameters_by_name
from maet_core.training.processes import Processes
from maet_core.training.state import TrainingState


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    options: TrainingOptions,
    progress: Callable[[StepReport], None] | None = None,
    trainable: Trainable | None = None,
    state: TrainingState | None = None,
    processes: Processes | None = None,
    halted: Halted | None = None,
) -> TrainingReport:
    """Trains `model` in place with AdamW; passes over `examples` as often as needed.

    `trainable` says what moves; by default the parameters that `options` name, in their own dtype. The same model, examples,
    options and number of threads give the same weights, on the processor bit for bit, and so does a run that was killed and goes on
    from `state`.
    `processes` share the batches of each step, and come to the weights that one would, but for the order of sums. Raises
    Stopped, with the state kept, after the step in which `halted` turns true in one of them.
    """
    processes = processes or Processes()
    own = processes.share(options.accumulate)
    trainable = trainable or parameters_by_name(model, processes.sharded, options.trainable, options.frozen)
    moving = {name: tensor for name, tensor in trainable.tensors.items() if tensor.numel()}
    tensors = list(moving.values())
    optimizer = torch.optim.AdamW(
        tensors, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay, fused=True
    )
    report = TrainingReport(options.steps, 0, 0.0, sum(tensor.numel() for tensor in tensors))
    first = state.resume(trainable.tensors, optimizer, report) if state else 0
    if first:
        trainable.write_back()
    together = processes.count > 1 and not processes.sharded
    forward = processes.replicate(model) if together and trainable.whole else model
    if options.checkpoint_activations:
        if not model.supports_gradient_checkpointing:
            raise InputError(f"--checkpoint-activations: {type(model).__name__} cannot do that; leave it out")
        model.activation_checkpointing_enable()
    model.train()
    started = time.perf_counter() - report.seconds
    try:
        parts = islice(batches(examples, options), first * options.accumulate, None)
        for step in range(first, options.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, options)
            loss_sum = 0.0
            for number, (ids, labels) in enumerate(islice(parts, options.accumulate)):
                report.tokens += ids.numel()
                if number % processes.count != processes.rank:
                    continue
                # dropout too is the same after a resume, and whichever process has the batch
                torch.manual_seed((options.seed * 1_000_003 + step * options.accumulate + number) % 2**63)
                last = number + processes.count >= options.accumulate
                with processes.synchronized(forward, last):
                    loss = _loss(forward, model.device, ids, labels, options.bf16)
                    (loss / own).backward()
                loss_sum += loss.item()
            if together and not trainable.whole:
                processes.average_gradients(tensors)
            processes.clip(tensors, options.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            trainable.write_back()
            loss_sum, stops = processes.sum([loss_sum, float(bool(halted and halted()))])
            if not math.isfinite(loss_sum):
                raise InputError(
                    f"--learning-rate: the loss of step {step + 1} is {loss_sum}, so the weights are lost; lower it, or warm up longer"
                )
            report.losses.append(loss_sum / options.accumulate)
            report.seconds = time.perf_counter() - started
            if state:
                state.keep(step + 1, moving, optimizer, report, now=stops > 0)
            if processes.first:
                _tell(report, step + 1, options, progress)
            if stops and step + 1 < options.steps:
                raise Stopped(
                    f"stopped after step {step + 1} of {options.steps}; the same command goes on from there"
                    if state
                    else "stopped"
                )
    finally:
        trainable.release()
        if options.checkpoint_activations:
            model.activation_checkpointing_disable()
        model.eval()
    return report


def _loss(
    model: torch.nn.Module, device: torch.device, ids: torch.Tensor, labels: torch.Tensor, bf16: bool
) -> torch.Tensor:
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return model(input_ids=ids.to(device), labels=labels.to(device), use_cache=False).loss


def _tell(
    report: TrainingReport, step: int, options: TrainingOptions, progress: Callable[[StepReport], None] | None
) -> None:
    loss, speed = report.losses[-1], report.tokens / report.seconds
    record(
        step=step,
        steps=options.steps,
        loss=loss,
        learning_rate=learning_rate_at(step - 1, options),
        tokens_per_second=speed,
    )
    if progress:
        left = report.seconds / step * (options.steps - step)
        progress(StepReport(step, options.steps, loss, speed, left))
