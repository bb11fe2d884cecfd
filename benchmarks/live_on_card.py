"""Live weights on a CUDA card: what a change of a coefficient costs beside a plain copy in the card's memory, and how soon the next
answer begins.

The copy is STREAM's, from the card's memory to itself, timed by CUDA events; bytes are counted as there, each array that is read or
written once. A change is timed twice: by CUDA events around every launch of the kernel, and by the clock, from the call of `apply` to its
return, when the card has done everything. Two trained checkpoints stand for four: the others are the same files under other names, which
the live model holds apart.
"""

from __future__ import annotations

import gc
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import link_checkpoint, write_checkpoints
from live import GAMMA, MU, add_tokenizer, plain, with_ability

from maet_core.conversation import Decoding, Speaker
from maet_core.dtypes import as_numpy
from maet_core.generation import stream
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.live import LiveModel
from maet_core.live_on_card import launch
from maet_core.merging.combine import Combiner
from maet_core.sources import Sources

_COPY_BYTES = 1 << 32
DENSE_MU, DENSE_GAMMA = "μ of one of four languages, all tensors", "γ without key neurons, all tensors"
UNITS, SINGLE = "γ, 5 % key neurons, whole hidden units", "γ, 5 % key neurons, single parameters"
_KEYS = {UNITS: {"k1": 5.0, "granularity": "unit"}, SINGLE: {"k1": 5.0}}


def stream_copy(runs: int) -> list[float]:
    """Bytes a second, of every run."""
    source, target = (torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda").fill_(i) for i in range(2))
    rates = []
    for _ in range(runs + 3):
        before, after = _event(), torch.cuda.Event(enable_timing=True)
        target.copy_(source)
        after.record()
        after.synchronize()
        rates.append(2 * _COPY_BYTES / before.elapsed_time(after) * 1000)
    return rates[3:]


class Launches:
    """Milliseconds of every launch of the kernel."""

    def __init__(self) -> None:
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        start = launch._Launch.start

        def timed(*arguments: Any) -> None:
            before = _event()
            start(*arguments)
            self._events.append((before, _event()))

        launch._Launch.start = timed

    def milliseconds(self) -> float:
        """Of all since the last call; the card has done them."""
        torch.cuda.synchronize()
        found = sum(before.elapsed_time(after) for before, after in self._events)
        self._events.clear()
        return found


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def changes(
    live: LiveModel, launches: Launches, field: str, values: tuple[float, float], runs: int
) -> list[dict[str, float]]:
    """Seconds of wall time and of the card, of every change to the other value."""
    found = []
    for number in range(runs + 3):
        recipe = live.recipe.with_value(field, values[number % 2])
        launches.milliseconds()
        started = time.perf_counter()
        changed = live.apply(recipe)
        wall = time.perf_counter() - started
        found.append({"wall": wall, "card": launches.milliseconds() / 1000, "parameters": changed.parameters})
    return found[3:]


def bytes_of_dense_change(live: LiveModel) -> int:
    tensors = live.sources.base.tensors
    return sum(2 * tensors[name].numel * (2 + len(made.addends)) for name, made in live._sums.items())


def first_token(live: LiveModel, field: str, values: tuple[float, float], runs: int) -> list[float]:
    """Seconds from a new value to the first token of the answer."""
    speaker = Speaker("live", live.model, live.tokenizer, lambda: live.lock)
    prompt = "Asha has 5 mangoes and buys 3 more. How many has she now?"
    seconds = []
    for number in range(runs + 2):
        started = time.perf_counter()
        live.apply(live.recipe.with_value(field, values[number % 2]))
        answers = stream([speaker], prompt, Decoding(2, 0.0, 1.0, 0))
        next(answer for answer in answers if answer.tokens)
        seconds.append(time.perf_counter() - started)
        for _ in answers:
            pass
    return seconds[2:]


def same_as_a_merge(live: LiveModel) -> int:
    """How many values of some tensors were compared with what the merge's loops on the processor write. Raises where a bit differs."""
    combiner, compared = Combiner(live._plan), 0
    names = sorted(live._parameters, key=lambda name: (live._parameters[name].numel(), name))
    for name in (names[0], names[len(names) // 2], names[-10], names[-1]):
        found = as_numpy(live._parameters[name].cpu())
        for start in range(0, min(found.size, 1 << 25), CHUNK_ELEMENTS):
            stop = min(start + CHUNK_ELEMENTS, found.size)
            expected, _ = combiner.chunk(name, start, stop, "BF16", count=False)
            if not np.array_equal(expected, found[start:stop]):
                raise AssertionError(f"{name}: other bits than those of a merge from {start} on")
            compared += stop - start
    return compared


def _open(folder: Path, recipe: Any) -> tuple[LiveModel, dict[str, float]]:
    gc.collect()
    torch.cuda.empty_cache()
    before, started = torch.cuda.memory_allocated(), time.perf_counter()
    live = LiveModel(Sources.open(recipe, folder), "cuda")
    held = live._cards._inputs.held.values()
    told = {
        "opening, s": time.perf_counter() - started,
        "allocated": torch.cuda.memory_allocated() - before,
        "inputs": sum(file.nbytes for file in live.sources.files),
        "inputs on the card": sum(one.values.nbytes for one in held if one.on_card),
        "inputs in host memory": sum(one.values.nbytes for one in held if not one.on_card),
        "model": sum(parameter.nbytes for parameter in live.model.parameters()),
        "largest tensor": max(parameter.nbytes for parameter in live.model.parameters()),
    }
    _say(told)
    return live, told


def _say(told: Any) -> None:
    print(json.dumps(told), file=sys.stderr, flush=True)


def measure(folder: Path, shape: str, runs: int) -> dict[str, Any]:
    if shutil.which("nvidia-smi") is None and not torch.cuda.is_available():
        raise SystemExit("this part needs a CUDA card")
    started = time.perf_counter()
    write_checkpoints(folder, shape, ["base", "a", "b"], "cuda")
    add_tokenizer(folder / "base")
    link_checkpoint(folder, "a", "c")
    link_checkpoint(folder, "b", "d")
    results: dict[str, Any] = {
        "shape": shape,
        "card": torch.cuda.get_device_name(),
        "writing, s": time.perf_counter() - started,
    }
    _say(results)
    results["copy"] = stream_copy(runs)
    torch.cuda.empty_cache()
    _say({"copy, GB/s": statistics.median(results["copy"]) / 1e9})
    launches = Launches()
    kinds: dict[str, Any] = {}
    live, told = _open(folder, plain())
    kinds[DENSE_MU] = told | {"runs": changes(live, launches, *MU, runs), "bytes moved": bytes_of_dense_change(live)}
    results["compared"] = same_as_a_merge(live)
    _say({"compared": results["compared"], **_brief(kinds[DENSE_MU])})
    del live
    live, told = _open(folder, with_ability())
    kinds[DENSE_GAMMA] = told | {
        "runs": changes(live, launches, *GAMMA, runs),
        "bytes moved": bytes_of_dense_change(live),
    }
    _say(_brief(kinds[DENSE_GAMMA]))
    results["first token, dense γ"] = first_token(live, *GAMMA, runs)
    allocated = told["allocated"]
    for kind, keys in _KEYS.items():
        began, before = time.perf_counter(), torch.cuda.memory_allocated()
        live.apply(live.recipe.with_value("abilities.x.key_neurons", keys))
        live._cards.prepare()
        torch.cuda.synchronize()
        allocated += torch.cuda.memory_allocated() - before
        kinds[kind] = told | {"allocated": allocated, "finding, s": time.perf_counter() - began}
        kinds[kind]["runs"] = changes(live, launches, *GAMMA, runs)
        results["compared"] += same_as_a_merge(live)
        _say({"finding, s": kinds[kind]["finding, s"], **_brief(kinds[kind])})
        results[f"first token, {kind}"] = first_token(live, *GAMMA, runs)
    results["kinds"] = kinds
    _say({key: statistics.median(value) for key, value in results.items() if key.startswith("first token")})
    return results


def _brief(kind: dict[str, Any]) -> dict[str, float]:
    return {f"{key}, ms": 1000 * statistics.median(run[key] for run in kind["runs"]) for key in ("wall", "card")} | {
        "allocated, GB": kind["allocated"] / 1e9
    }


def row(name: str, kind: dict[str, Any], dense: dict[str, Any], copy: float) -> str:
    wall, card = ([run[key] for run in kind["runs"]] for key in ("wall", "card"))
    most = kind["inputs"] + kind["model"] + kind["largest tensor"]
    rates = ["–", "–", "–"]
    if "bytes moved" in kind:
        by_card, by_clock = (kind["bytes moved"] / statistics.median(seconds) for seconds in (card, wall))
        rates = [f"{by_card / 1e9:.0f}", f"{100 * by_card / copy:.0f} %", f"{100 * by_clock / copy:.0f} %"]
    of_card, of_wall = (
        statistics.median(run[key] for run in dense["runs"]) / statistics.median(run[key] for run in kind["runs"])
        for key in ("card", "wall")
    )
    ratio = f"{of_card:.1f} × as fast ({of_wall:.1f} × by the clock)" if kind is not dense and "5 %" in name else "–"
    return (
        f"| {name} | {1000 * statistics.median(wall):.1f} ({1000 * min(wall):.1f}–{1000 * max(wall):.1f}) | "
        f"{1000 * statistics.median(card):.1f} | {rates[0]} | {rates[1]} | {rates[2]} | {ratio} | "
        f"{kind['allocated'] / 1e9:.1f} ({most / 1e9:.1f}) |"
    )


def section(folder: Path, shape: str, runs: int) -> tuple[list[str], dict]:
    results = measure(folder, shape, runs)
    copy, kinds = statistics.median(results["copy"]), results["kinds"]
    on_host = max(kind["inputs in host memory"] for kind in kinds.values())
    where = "everything on the card" if not on_host else f"{on_host / 1e9:.1f} GB of the inputs in pinned host memory"
    tokens = {
        key.removeprefix("first token, "): value for key, value in results.items() if key.startswith("first token")
    }
    text = [
        "## Live weights on a CUDA card",
        "",
        f"{results['card']}; Llama shape {shape} in bf16, {where}; medians of {runs} changes. STREAM copy in the card's memory: "
        f"{copy / 1e9:.0f} GB/s. A dense change reads the base and everything that is added, and writes the model. Targets: at least 80 % "
        "of the copy for a dense change, γ on 5 % key neurons (whole units) at least 8 × as fast as a dense γ. Memory is what opening the model "
        "took on the card; allowed are the inputs, the model and one more tensor, the largest. "
        f"{results['compared']:,} weights were compared with what `maet merge` computes on the processor: all bits are the same.",
        "",
        "| change | by the clock, ms (min–max) | kernels, ms | GB moved / s | of STREAM copy | of it, by the clock | beside the dense γ, kernels "
        "| memory on the card, GB (allowed) |",
        "|---|---|---|---|---|---|---|---|",
        *(row(name, kind, kinds[DENSE_GAMMA], copy) for name, kind in kinds.items()),
        "",
        "From a new γ to the first token of the answer (target: under 250 ms): "
        + "; ".join(
            f"{kind} {1000 * statistics.median(seconds):.0f} ms ({1000 * min(seconds):.0f}–{1000 * max(seconds):.0f})"
            for kind, seconds in tokens.items()
        )
        + f"; n = {runs}.",
        "",
    ]
    return text, results
