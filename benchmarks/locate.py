"""Locating by gradients on the processor: one attribution pass against a plain forward and backward pass. Writes docs/performance-locating.md.

    python benchmarks/locate.py --shape 0.02B --rounds 5 --memory-shapes 0.02B 0.1B 0.25B

Every contender is a process of its own that loads the same model and goes through the same batches; the first batch is not
counted. Contenders are interleaved, so that a machine that slows down slows all of them; ratios are taken within a round. Seconds of the
processor stand beside those of the clock: on a machine that does other things too, they are the ones to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch
from checkpoints import SHAPES, write_checkpoints

from maet_core.checkpoints import Checkpoint
from maet_core.importance.attribution import attribute
from maet_core.importance.locators import participating
from maet_core.resident import load_model, parameter_slots

PROJECT = Path(__file__).resolve().parents[1]
PLAIN = "forward and backward"
_FEW_ROWS = 1
DROPPED = "the same, each gradient dropped when it is there"
CONTENDERS = {
    PLAIN: None,
    DROPPED: None,
    "gradient, parameters": ("gradient", "parameter"),
    "Taylor, parameters": ("taylor", "parameter"),
    "gradient, units": ("gradient", "unit"),
    "Taylor, units": ("taylor", "unit"),
}


def contend(name: str, folder: Path, rows: int, row_tokens: int, batches: int) -> dict[str, float]:
    """Seconds a batch, of the clock and of the processor, and private bytes: of the model alone, and the most on the way."""
    base = Checkpoint.open(folder / "base")
    model = load_model(base)
    names = participating(base)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (batches + 1, rows, row_tokens), generator=generator)
    chosen = {slot.parameter for name, slot in parameter_slots(model, base).items() if name in names}
    loaded = _private_bytes()

    def go(part: torch.Tensor) -> None:
        if CONTENDERS[name] is None:
            for parameter in model.parameters():
                parameter.requires_grad_(parameter in chosen)
                if name == DROPPED and parameter in chosen:
                    parameter.register_post_accumulate_grad_hook(_drop)
            for batch in part:
                model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
                model.zero_grad()
        else:
            method, granularity = CONTENDERS[name]
            attribute(method, base, model, [(batch, batch) for batch in part], names, granularity)

    most, done = [0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(most, done))
    sampler.start()  # looking at the memory takes time itself, so that only the first batch is watched
    go(ids[:1])
    done.set()
    sampler.join()
    started, used = time.perf_counter(), time.process_time()
    go(ids[1:])
    wall, processor = time.perf_counter() - started, time.process_time() - used
    return {
        "wall_seconds": wall / max(1, batches),
        "processor_seconds": processor / max(1, batches),
        "loaded_bytes": loaded,
        "most_bytes": most[0],
        "scored": sum(base.tensors[name].numel for name in names),
    }


def _drop(parameter: torch.nn.Parameter) -> None:
    parameter.grad = None


def _private_bytes() -> int:
    return psutil.Process().memory_full_info().uss


def _sample(most: list[int], done: threading.Event) -> None:
    while not done.wait(0.02):
        most[0] = max(most[0], _private_bytes())


def report(results: dict[str, list[dict]]) -> list[str]:
    scored = results[PLAIN][0]["scored"]
    lines = [
        "| | clock, s a batch (min–max) | × plain | processor, s a batch (min–max) | × plain | beyond the model, MB | beyond plain, bytes a parameter |",
        "|---|---|---|---|---|---|---|",
    ]

    def beyond(run: dict) -> float:
        return run["most_bytes"] - run["loaded_bytes"]

    for name, runs in results.items():
        cells = [name]
        for field in ("wall_seconds", "processor_seconds"):
            values = [run[field] for run in runs]
            ratios = [run[field] / plain[field] for run, plain in zip(runs, results[PLAIN], strict=True)]
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})")
            cells.append(f"{statistics.median(ratios):.2f}")
        more = statistics.median(beyond(run) for run in runs)
        plain = statistics.median(beyond(run) for run in results[PLAIN])
        cells += [f"{more / 1e6:.0f}", f"{(more - plain) / scored:+.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def memory_report(results: dict[str, dict[str, dict]]) -> list[str]:
    """What attribution holds beyond a pass that drops its gradients, at every shape, and the straight line through it."""
    scored = [runs[PLAIN]["scored"] for runs in results.values()]
    sizes = " | ".join(f"{shape}: {count / 1e6:.0f} M" for shape, count in zip(results, scored, strict=True))
    lines = [
        f"| MB beyond it, at weights that take part | {sizes} | bytes a parameter | and a fixed part, MB |",
        "|---|" + "---|" * (len(results) + 2),
    ]

    def beyond(run: dict) -> float:
        return run["most_bytes"] - run["loaded_bytes"]

    for name in CONTENDERS:
        if name == DROPPED:
            continue
        more = [beyond(runs[name]) - beyond(runs[DROPPED]) for runs in results.values()]
        slope, fixed = statistics.linear_regression(scored, more) if len(more) > 1 else (more[0] / scored[0], 0.0)
        cells = " | ".join(f"{value / 1e6:.0f}" for value in more)
        lines.append(f"| {name} | {cells} | {slope:.2f} | {fixed / 1e6:.0f} |")
    return lines


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if "model name" in line), platform.processor())
    return f"{os.cpu_count()} CPU cores ({model}, {platform.system()}), {torch.get_num_threads()} threads"


def page(
    results: dict[str, list[dict]], memory: dict[str, dict[str, dict]], arguments: argparse.Namespace
) -> list[str]:
    scored = results[PLAIN][0]["scored"]
    lines = report(results)
    waited = statistics.median(run["wall_seconds"] / run["processor_seconds"] for run in results[PLAIN])
    busy = f" The machine did other work too: a second of the processor took {waited:.0f} of the clock, so compare the former."
    busy = busy if waited > 1.5 * torch.get_num_threads() else ""
    return [
        "# Performance of locating",
        "",
        "Written by `python benchmarks/locate.py` (its `--help` lists the options); every figure is from one run of it.",
        "",
        f"Llama shape {arguments.shape} in bf16, of whose weights {scored / 1e6:.0f} M take part; batches of {arguments.rows} × "
        f"{arguments.row_tokens} tokens; {machine()}. Medians of {arguments.rounds} interleaved rounds, each contender a "
        f"process of its own that goes through {arguments.batches} batches after one that is not counted; ratios are medians of the "
        f"ratios within a round.{busy}",
        "",
        *lines,
        "",
        "The plain pass computes the gradients of the same weights and keeps them until the batch is done. An attribution drops each as "
        "soon as it is added to the score, so that it holds one float32 score a parameter (or a unit) and no gradients. Private memory is "
        "what the process alone holds, sampled fifty times a second during the first batch.",
        "",
        *_memory_section(memory),
    ]


def _memory_section(memory: dict[str, dict[str, dict]]) -> list[str]:
    if not memory:
        return []
    return [
        "## Memory by the size of the model",
        "",
        f"The most private memory during one batch of {_FEW_ROWS} × 256 tokens, beyond that of a pass that drops every gradient as soon as it is "
        "there: what is left is attribution's own. n = 1 for every cell. Scores of units take almost no memory, "
        "so their rows tell how far one run may be off. The target is one float32 score, 4 bytes, a parameter.",
        "",
        *memory_report(memory),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="0.02B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--memory-shapes", nargs="*", choices=SHAPES, default=["0.02B", "0.1B", "0.25B"])
    parser.add_argument("--folder", type=Path, help="where the checkpoints lie or are made; default: a temporary one")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "performance-locating.md")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = (arguments.rows, arguments.row_tokens, arguments.batches)
    if arguments.contender:
        print(json.dumps(contend(arguments.contender, arguments.folder, *work)))
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="maet-benchmark-"))

    def run(name: str, shape: str, *more: str) -> dict:
        write_checkpoints(folder / shape, shape, ["base"])
        command = [sys.executable, *sys.argv, "--folder", str(folder / shape), *more, "--contender", name]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(f"{shape} {name}: {child.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
        return json.loads(child.stdout.splitlines()[-1])

    try:
        results: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
        for _ in range(arguments.rounds):
            for name in CONTENDERS:
                results[name].append(run(name, arguments.shape))
        one_batch = ("--rows", str(_FEW_ROWS), "--row-tokens", "256", "--batches", "0")
        memory = {
            shape: {name: run(name, shape, *one_batch) for name in CONTENDERS} for shape in arguments.memory_shapes
        }
        arguments.output.write_text("\n".join(page(results, memory, arguments)))
        print("\n".join([*report(results), *(memory_report(memory) if memory else [])]))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
