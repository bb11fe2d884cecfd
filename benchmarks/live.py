"""Live weights: what a change of a coefficient costs beside a plain copy of memory, and how soon the next answer begins.

The copy is STREAM's (McCalpin 1995): arrays far larger than the caches, on as many threads as the live model uses; bytes are counted as
there, each array that is read or written once. Bandwidths are bytes per second of CPU time, times the threads: on a machine that others
use as well, wall time says more about them.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import psutil
from checkpoints import write_checkpoints
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from maet_core.conversation import Decoding, Speaker
from maet_core.generation import stream
from maet_core.live import LiveModel
from maet_core.progress import each, threads
from maet_core.recipe import Recipe
from maet_core.sources import Sources

PROJECT = Path(__file__).resolve().parents[1]
NAMES = ["base", "a", "b", "c", "d"]
_COPY_BYTES = 1 << 28


def plain(**mus: float) -> Recipe:
    languages = {name: {"checkpoint": name, "mu": mus.get(name, 0.3)} for name in "abcd"}
    return Recipe.from_dict({"base": "base", "languages": languages})


def with_ability(**key_neurons: Any) -> Recipe:
    ability = {"ability": "a", "source_language": "b", "beta": 0.5, "gamma": 0.8}
    if key_neurons:
        ability["key_neurons"] = key_neurons
    languages = {name: {"checkpoint": name, "mu": 0.5} for name in "cd"}
    return Recipe.from_dict({"base": "base", "abilities": {"x": ability}, "languages": languages})


@numba.njit(nogil=True, cache=True)
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]


def stream_copy() -> Callable[[], float]:
    """A function that copies once and returns bytes a second."""
    count = threads()
    pairs = [(np.ones(_COPY_BYTES // 8 // count), np.zeros(_COPY_BYTES // 8 // count)) for _ in range(count)]

    def run() -> float:
        started = time.process_time()
        each(pairs, lambda pair: _copy(*pair), "copying")
        return 2 * _COPY_BYTES * count / (time.process_time() - started)

    return run


def alternating(live: LiveModel, field: str, values: tuple[float, float]) -> Callable[[], tuple[float, float]]:
    """A function that moves one coefficient to the other value and returns seconds of wall time and of CPU time."""
    turn = iter(range(1 << 30))

    def run() -> tuple[float, float]:
        recipe = live.recipe.with_value(field, values[next(turn) % 2])
        wall, used = time.perf_counter(), time.process_time()
        live.apply(recipe)
        return time.perf_counter() - wall, time.process_time() - used

    return run


def bytes_of_dense_change(live: LiveModel) -> int:
    """Base, everything that is added, and the result, each once, 2 bytes a value."""
    tensors = live.sources.base.tensors
    return sum(2 * tensors[name].numel * (2 + len(addends)) for name, addends in live._addends.items())


def add_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def section(folder: Path, shape: str, runs: int) -> tuple[list[str], dict]:
    write_checkpoints(folder, shape, NAMES)
    add_tokenizer(folder / "base")
    kinds = {
        "μ of one of four languages, all tensors": (plain(), "languages.a.mu", (0.1, 0.3)),
        "γ without key neurons, all tensors": (with_ability(), "abilities.x.gamma", (0.5, 0.8)),
        "γ, 5 % key neurons, whole hidden units": (
            with_ability(k1=5.0, granularity="unit"),
            "abilities.x.gamma",
            (0.5, 0.8),
        ),
        "γ, 5 % key neurons, single parameters": (with_ability(k1=5.0), "abilities.x.gamma", (0.5, 0.8)),
    }
    results: dict[str, Any] = {"shape": shape}
    lines = [
        "| change | wall, s (min–max) | CPU, s | GB moved / s | of STREAM copy | beside the dense γ, by CPU | private memory, GB (input files) |",
        "|---|---|---|---|---|---|---|",
    ]
    dense = None
    for name, (recipe, field, values) in kinds.items():
        gc.collect()
        before = psutil.Process().memory_full_info().uss
        live = LiveModel(Sources.open(recipe, folder), budget_bytes=1 << 40)
        held = psutil.Process().memory_full_info().uss - before
        copy, change = stream_copy(), alternating(live, field, values)
        copy(), change(), change()
        pairs = [(copy(), change()) for _ in range(runs)]  # interleaved: the machine is not ours alone
        seconds, used = [pair[1][0] for pair in pairs], [pair[1][1] for pair in pairs]
        median = statistics.median(used)
        inputs = sum(file.nbytes for file in live.sources.files)
        whole = "key neurons" not in name or "without" in name
        moved = bytes_of_dense_change(live) if whole else None
        bandwidth = share = ratio = "–"
        if moved:
            bandwidth = f"{moved * threads() / median / 1e9:.1f}"
            share = f"{100 * statistics.median(moved * threads() / cpu / rate for rate, (_, cpu) in pairs):.0f} %"
        if name.startswith("γ without"):
            dense = median
        if dense:
            ratio = f"{dense / median:.1f} × as fast"
        lines.append(
            f"| {name} | {statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f}) | {median:.3f} | {bandwidth} | {share} | {ratio} | "
            f"{held / 1e9:.2f} ({inputs / 1e9:.2f}) |"
        )
        results[name] = {
            "copy_bytes_per_second": [p[0] for p in pairs],
            "seconds": seconds,
            "cpu_seconds": used,
            "private_bytes": held,
        }
        print(lines[-1], file=sys.stderr, flush=True)
        del live, change
    first, demo = _first_token(runs)
    results["demo first token"] = demo
    text = [
        "## Live weights: the cost of a slider",
        "",
        f"Llama shape {shape} in bf16, everything in memory, {threads()} threads; medians of {runs} changes, each measured beside a STREAM copy "
        f"({statistics.median(results[next(iter(kinds))]['copy_bytes_per_second']) / 1e9:.1f} GB/s). A dense change reads the base and "
        "everything that is added, and writes the model; bandwidths are by CPU time, times the threads. Targets: at least 100 % of the copy "
        "for a dense change, and γ on 5 % key neurons at least 8 × as fast as a dense γ. Private memory is what opening the model added to "
        "the process, the model itself included.",
        "",
        *lines,
        "",
        first,
        "",
        "No figures of a CUDA card exist: none was at hand. There the live model keeps its inputs in host memory, computes on the "
        "processor and copies what changed to the card.",
        "",
    ]
    return text, results


def _first_token(runs: int) -> tuple[str, list[float]]:
    """From the new value of γ to the first token of the demo model's answer."""
    folder = PROJECT / "assets" / "demo" / "recipes"
    live = LiveModel(Sources.open(Recipe.load(folder / "demo.yaml"), folder))
    ability = next(iter(live.recipe.abilities))
    change = alternating(live, f"abilities.{ability}.gamma", (0.9, 1.0))
    speaker = Speaker("demo", live.model, live.tokenizer, lambda: live.lock)
    prompt = "Asha has 5 mangoes and buys 3 more. How many has she now?"
    seconds = []
    for _ in range(runs + 2):
        started = time.perf_counter()
        change()
        answers = stream([speaker], prompt, Decoding(2, 0.0, 1.0, 0))
        next(answer for answer in answers if answer.tokens)
        seconds.append(time.perf_counter() - started)
        for _ in answers:
            pass
    seconds = seconds[2:]
    text = (
        f"From a new γ to the first token of the answer, on the demo models: {1000 * statistics.median(seconds):.0f} ms "
        f"({1000 * min(seconds):.0f}–{1000 * max(seconds):.0f}, n = {runs}; target: under 150)."
    )
    return text, seconds
