"""Locating by gradients on a CUDA card: an attribution's passes against plain forward and backward passes. A part of run.py.

The model is loaded once. Contenders take turns, round by round, over the same batches; the first batch of each and the last are not counted,
ratios are taken within a round. Memory is the most that torch's allocator gave out, beyond the weights.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from checkpoints import write_checkpoints
from locate import CONTENDERS, DROPPED, PLAIN

from maet_core.checkpoints import Checkpoint
from maet_core.importance.attribution import attribute
from maet_core.importance.locators import participating
from maet_core.resident import load_model, parameter_slots

ROWS, ROW_TOKENS = 8, 256  # a batch of `maet locate`
_TIME_TARGET, _BYTES_TARGET = 1.15, 4


class Passes:
    """Every contender's passes over the same batches, on one model."""

    def __init__(self, folder: Path, device: str, batches: int):
        self.base, self.device = Checkpoint.open(folder / "base"), device
        self.model = load_model(self.base, device)
        self.names = participating(self.base)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, self.model.config.vocab_size, (batches + 2, ROWS, ROW_TOKENS), generator=generator)
        self.batches = [(ids, ids) for ids in drawn]
        slots = parameter_slots(self.model, self.base)
        self._chosen = {slots[name].parameter for name in self.names}
        self.scored = sum(self.base.tensors[name].numel for name in self.names)

    def run(self, name: str) -> dict[str, Any]:
        """Seconds of every batch but the first and the last, and the most bytes beyond the weights."""
        loaded = self._begin()
        stamps: list[float] = []
        if CONTENDERS[name] is None:
            self._plain(name == DROPPED, stamps)
        else:
            method, granularity = CONTENDERS[name]

            def told(phase: str, done: int, total: int) -> None:
                self._stamp(stamps)

            attribute(method, self.base, self.model, self.batches, self.names, granularity, progress=told)
        most = torch.cuda.max_memory_allocated() if self.device != "cpu" else 0
        return {
            "seconds": [later - earlier for earlier, later in pairwise(stamps[1:])],
            "bytes": most - loaded,
        }

    def _plain(self, drops: bool, stamps: list[float]) -> None:
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter in self._chosen)
        hooks = [p.register_post_accumulate_grad_hook(_drop) for p in self._chosen] if drops else []
        for ids, labels in self.batches:
            self._stamp(stamps)
            ids, labels = ids.to(self.device), labels.to(self.device)
            self.model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
            self.model.zero_grad()
        for hook in hooks:
            hook.remove()

    def _begin(self) -> int:
        if self.device == "cpu":
            return 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _stamp(self, stamps: list[float]) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())


def _drop(parameter: torch.nn.Parameter) -> None:
    parameter.grad = None


def measure(folder: Path, shape: str, rounds: int, batches: int, device: str = "cuda") -> dict[str, Any]:
    write_checkpoints(folder, shape, ["base"], device)
    passes = Passes(folder, device, batches)
    passes.run(PLAIN)  # cuBLAS takes its workspace
    runs: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            runs[name].append(passes.run(name))
            _say({name: [statistics.median(runs[name][-1]["seconds"]), runs[name][-1]["bytes"]]})
    card = torch.cuda.get_device_name() if device != "cpu" else "the processor"
    return {"shape": shape, "card": card, "scored": passes.scored, "batches": batches, "runs": runs}


def _say(told: Any) -> None:
    print(json.dumps(told), file=sys.stderr, flush=True)


def row(name: str, runs: dict[str, list[dict]], scored: int) -> str:
    def over_rounds(of: Callable[[dict, dict, dict], float]) -> list[float]:
        return [of(*one) for one in zip(runs[name], runs[PLAIN], runs[DROPPED], strict=True)]

    seconds = [second for run in runs[name] for second in run["seconds"]]
    ratios = over_rounds(lambda own, plain, _: statistics.median(own["seconds"]) / statistics.median(plain["seconds"]))
    more = statistics.median(run["bytes"] for run in runs[name])
    own = statistics.median(over_rounds(lambda own, _, dropped: own["bytes"] - dropped["bytes"]))
    return (
        f"| {name} | {1000 * statistics.median(seconds):.1f} ({1000 * min(seconds):.1f}–{1000 * max(seconds):.1f}) | "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) | {more / 1e9:.2f} | {own / scored:+.2f} |"
    )


def section(
    folder: Path, shape: str, rounds: int, batches: int = 8, device: str = "cuda"
) -> tuple[list[str], dict[str, Any]]:
    results = measure(folder, shape, rounds, batches, device)
    runs, scored = results["runs"], results["scored"]
    text = [
        "## Locating on a CUDA card",
        "",
        f"{results['card']}; Llama shape {shape} in bf16, of whose weights {scored / 1e6:,.0f} M take part; batches of {ROWS} × {ROW_TOKENS} "
        f"tokens, as `maet locate` has them. {rounds} rounds of {batches} batches, between two that are not counted. Targets: at most "
        f"{_TIME_TARGET} × the time of a plain forward and backward pass, and at most {_BYTES_TARGET} bytes of its own (one float32 score) a "
        "parameter, beside a pass that drops every gradient as soon as it is there.",
        "",
        "| | ms a batch (min–max) | × plain (min–max of the rounds) | GB beyond the weights | of its own, bytes a parameter |",
        "|---|---|---|---|---|",
        *(row(name, runs, scored) for name in CONTENDERS),
        "",
    ]
    return text, results
