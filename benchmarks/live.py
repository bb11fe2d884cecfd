"""Live weights: what a change of a coefficient costs beside a plain copy of memory, and how soon the next answer begins.

The copy is STREAM's (McCalpin 1995): arrays far larger than the caches, on as many threads as the live model uses; bytes are counted as
there, each array that is read or written once. Bandwidths are bytes per second of CPU time, times the threads: on a machine that others
use as well, wall time says more about them. Every kind of change is measured in a process of its own, γ on key neurons in turns with a dense
γ.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
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
DEMO = PROJECT / "assets" / "demo" / "recipes"
NAMES = ["base", "a", "b", "c", "d"]
_COPY_BYTES = 1 << 28
_LINE = 32  # bf16 values in a line of the cache


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


MU, GAMMA = ("languages.a.mu", (0.1, 0.3)), ("abilities.x.gamma", (0.5, 0.8))
DENSE, SINGLE = "γ without key neurons, all tensors", "γ, 5 % key neurons, single parameters"
KINDS = {
    "μ of one of four languages, all tensors": (plain(), *MU),
    DENSE: (with_ability(), *GAMMA),
    "γ, 5 % key neurons, whole hidden units": (with_ability(k1=5.0, granularity="unit"), *GAMMA),
    SINGLE: (with_ability(k1=5.0), *GAMMA),
}


def bytes_of_dense_change(live: LiveModel) -> int:
    """Base, everything that is added, and the result, each once, 2 bytes a value."""
    tensors = live.sources.base.tensors
    return sum(2 * tensors[name].numel * (2 + len(made.addends)) for name, made in live._sums.items())


@numba.njit(nogil=True, cache=True)
def _touch(values, places, nothing):
    for i in range(places.size):
        values[places[i]] ^= nothing


def touching_lines(live: LiveModel) -> tuple[Callable[[], float], float]:
    """A function that fetches and writes back every line of the cache in which a key neuron lies, and does nothing else, and returns
    seconds of CPU time; and the share of the lines of these tensors that those are."""
    work, lines = [], 0
    for (name, _, _), part in live._key_moves._slices.items():  # at 5 % no tensor has too many
        places = np.unique(part.places.indices // _LINE) * _LINE
        work.append((live._arrays[name], places))
        lines += -(-live._arrays[name].size // _LINE)

    def run() -> float:
        started = time.process_time()
        each(work, lambda part: _touch(*part, np.uint16(0)), "touching")
        return time.process_time() - started

    return run, sum(places.size for _, places in work) / lines


def add_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def measure(folder: Path, name: str, runs: int) -> dict[str, Any]:
    """One kind of change, and the private memory of the model that is changed."""
    recipe, field, values = KINDS[name]
    alternating(LiveModel(Sources.open(Recipe.load(DEMO / "demo.yaml"), DEMO)), "eta", (0.9, 1.0))()
    gc.collect()  # from here on memory is the model's: what computes has been loaded
    before = _private_bytes()
    live = LiveModel(Sources.open(recipe, folder), budget_bytes=1 << 40)
    change = alternating(live, field, values)
    change(), change()
    gc.collect()
    parts = {"private": _private_bytes() - before}
    parts["inputs"] = sum(file.nbytes for file in live.sources.files)
    parts["model"] = sum(parameter.nbytes for parameter in live.model.parameters())
    parts["largest tensor"] = max(parameter.nbytes for parameter in live.model.parameters())
    copy = stream_copy()
    copy()
    functions = {"copy": copy, "change": change}
    told: dict[str, Any] = {"bytes": parts, "bytes_moved": bytes_of_dense_change(live)}
    if "5 %" in name:
        dense = LiveModel(Sources.open(with_ability(), folder), budget_bytes=1 << 40)
        functions["dense"] = alternating(dense, *GAMMA)
        functions["dense"](), functions["dense"]()
    if name == SINGLE:
        functions["touch"], told["lines"] = touching_lines(live)
        functions["touch"]()
    # in turns: the machine is not ours alone
    told["runs"] = [{key: function() for key, function in functions.items()} for _ in range(runs)]
    return told


def _private_bytes() -> int:
    return psutil.Process().memory_full_info().uss


def row(name: str, told: dict[str, Any]) -> str:
    runs, parts = told["runs"], told["bytes"]
    seconds, used = ([run["change"][i] for run in runs] for i in (0, 1))
    median = statistics.median(used)
    bandwidth = share = "–"
    ratio = "1.0 × as fast" if name == DENSE else "–"
    if "5 %" not in name:
        bandwidth = f"{told['bytes_moved'] * threads() / median / 1e9:.1f}"
        rates = [told["bytes_moved"] * threads() / run["change"][1] / run["copy"] for run in runs]
        share = f"{100 * statistics.median(rates):.0f} %"
    else:
        wall, cpu = (statistics.median(run["dense"][i] / run["change"][i] for run in runs) for i in (0, 1))
        ratio = f"{cpu:.1f} × as fast ({wall:.1f} × by the clock)"
    most = parts["inputs"] + parts["model"] + parts["largest tensor"]
    return (
        f"| {name} | {statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f}) | {median:.3f} | {bandwidth} | {share} | "
        f"{ratio} | {parts['private'] / 1e9:.2f} ({most / 1e9:.2f}) |"
    )


def bound(told: dict[str, Any]) -> str:
    """How fast γ on single parameters could be at most."""
    ratio = statistics.median(run["dense"][1] / run["touch"] for run in told["runs"])
    return (
        f"Single parameters lie all over the model: {100 * told['lines']:.0f} % of the cache lines of their tensors hold one. To fetch these "
        f"lines and write them back, without computing anything, is {ratio:.1f} × as fast as a dense γ, and no program that keeps the model's "
        "tensors as they are can do better; 8 × is out of reach there."
    )


def section(folder: Path, shape: str, runs: int) -> tuple[list[str], dict]:
    write_checkpoints(folder, shape, NAMES)
    add_tokenizer(folder / "base")
    results: dict[str, Any] = {"shape": shape}
    lines = [
        "| change | wall, s (min–max) | CPU, s | GB moved / s | of STREAM copy | beside the dense γ, by CPU | private memory, GB (allowed) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in KINDS:
        command = [sys.executable, __file__, "--folder", str(folder), "--kind", name, "--runs", str(runs)]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(child.stdout.splitlines()[-1])
        lines.append(row(name, results[name]))
        print(lines[-1], file=sys.stderr, flush=True)
    first, results["demo first token"] = _first_token(runs)
    rate = statistics.median(run["copy"] for name in KINDS for run in results[name]["runs"])
    text = [
        "## Live weights: the cost of a slider",
        "",
        f"Llama shape {shape} in bf16, everything in memory, {threads()} threads; medians of {runs} changes, each kind in a process of its own "
        f"and each change measured beside a STREAM copy ({rate / 1e9:.1f} GB/s) and, on key neurons, a dense γ. A dense change reads the base "
        "and everything that is added, and writes the model; bandwidths are by CPU time, times the threads. Targets: at least 100 % of the "
        "copy for a dense change, and γ on 5 % key neurons at least 8 × as fast as a dense γ. Private memory is what opening the model and "
        "two changes added to the process; allowed are the input files, the model and one more tensor, the largest.",
        "",
        *lines,
        "",
        bound(results[SINGLE]),
        "",
        first,
        "",
    ]
    return text, results


def _first_token(runs: int) -> tuple[str, list[float]]:
    """From the new value of γ to the first token of the demo model's answer."""
    live = LiveModel(Sources.open(Recipe.load(DEMO / "demo.yaml"), DEMO))
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


def main() -> None:
    parser = argparse.ArgumentParser(description="One kind of change, as `section` runs it: its figures as JSON.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.folder, arguments.kind, arguments.runs)))


if __name__ == "__main__":
    main()
