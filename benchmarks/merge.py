"""Merging to disk: MAET Studio, mergekit and the floor, in one run. Writes docs/performance.md.

    python benchmarks/merge.py --shape 1B --runs 3

Every contender is a process of its own, measured by the kernel's account of it: wall and user time, peak resident and peak private
memory (sampled). Runs are interleaved, so that a machine that slows down slows all of them; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from checkpoints import SHAPES, write_checkpoints

PROJECT = Path(__file__).resolve().parents[1]
NAMES = ["base", "a", "b", "c", "d"]
FOUR_WAY = """base: base
languages:
  a: {checkpoint: a, mu: 0.3}
  b: {checkpoint: b, mu: 0.3}
  c: {checkpoint: c, mu: 0.2}
  d: {checkpoint: d, mu: -0.1}
"""
MAET = """base: base
abilities:
  x: {ability: a, source_language: b, alpha: 1.0, beta: 0.5, key_neurons: {k1: 5.0}, tensors: {k2: 60.0}, gamma: 0.8}
languages:
  c: {checkpoint: c, mu: 0.5}
  d: {checkpoint: d, mu: 0.5}
eta: 0.8
"""
MERGEKIT = """merge_method: task_arithmetic
base_model: base
dtype: {dtype}
out_dtype: bfloat16
parameters: {{normalize: false, lambda: 1.0}}
models:
- {{model: a, parameters: {{weight: 0.3}}}}
- {{model: b, parameters: {{weight: 0.3}}}}
- {{model: c, parameters: {{weight: 0.2}}}}
- {{model: d, parameters: {{weight: -0.1}}}}
"""


@dataclass(frozen=True)
class Run:
    wall_seconds: float
    user_seconds: float
    peak_resident_bytes: int
    peak_private_bytes: int


def measure(command: str, folder: Path) -> Run:
    """Runs a shell command in `folder`; its output is thrown away unless it fails."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "copy").unlink(missing_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=folder, stdout=output, stderr=output)
        peaks = [0, 0]
        sampler = threading.Thread(target=_sample, args=(process.pid, peaks))
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.join()
        if process.returncode:
            output.seek(0)
            sys.exit(f"{command}\n{output.read().decode()[-3000:]}")
    # not usage.ru_maxrss: it remembers this process, which the other was forked from
    return Run(wall, usage.ru_utime, *peaks)


def _sample(pid: int, peaks: list[int]) -> None:
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            memory = process.memory_full_info()
            peaks[:] = max(peaks[0], memory.rss), max(peaks[1], memory.uss)
            time.sleep(0.05)
    except psutil.Error:
        pass


def contenders(folder: Path, with_peers: bool) -> dict[str, str]:
    python = shlex.quote(sys.executable)
    inputs = " ".join(f"{name}/model.safetensors" for name in NAMES)
    found = {
        "floor: read five inputs, write one output": f"bash -c 'cat {inputs} > /dev/null && cp base/model.safetensors copy'",
        "maet merge, four models": f"{python} -m maet_core merge four.yaml -o out --device cpu",
        "maet merge, key neurons and selection": f"{python} -m maet_core merge maet.yaml -o out --device cpu",
    }
    if with_peers:
        flags = "--lazy-unpickle --allow-crimes --no-write-model-card --out-shard-size 100B"
        for dtype in ("bfloat16", "float32"):
            entry = "from mergekit.scripts.run_yaml import main; main()"
            found[f"mergekit 0.1.5 task_arithmetic, {dtype}"] = (
                f'{python} -c "{entry}" mergekit-{dtype}.yaml out {flags}'
            )
    for name, text in (("four.yaml", FOUR_WAY), ("maet.yaml", MAET)):
        (folder / name).write_text(text)
    for dtype in ("bfloat16", "float32"):
        (folder / f"mergekit-{dtype}.yaml").write_text(MERGEKIT.format(dtype=dtype))
    return found


def table(results: dict[str, list[Run]]) -> list[str]:
    floor, *_ = results
    lines = [
        "| | wall, s (min–max) | × floor | user CPU, s | peak resident, MB | peak private, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        walls = [run.wall_seconds for run in runs]
        ratio = statistics.median(
            run.wall_seconds / base.wall_seconds for run, base in zip(runs, results[floor], strict=True)
        )
        lines.append(
            f"| {name} | {statistics.median(walls):.1f} ({min(walls):.1f}–{max(walls):.1f}) | {ratio:.2f} "
            f"| {statistics.median(run.user_seconds for run in runs):.1f} "
            f"| {max(run.peak_resident_bytes for run in runs) / 1e6:.0f} | {max(run.peak_private_bytes for run in runs) / 1e6:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoints lie or are made (13 GB for 1B); default: a temporary one"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave mergekit out")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "performance.md")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="maet-benchmark-"))
    try:
        write_checkpoints(folder, arguments.shape, NAMES)
        commands = contenders(folder, not arguments.no_peers)
        results: dict[str, list[Run]] = {name: [] for name in commands}
        for round_number in range(
            -1, arguments.runs
        ):  # the first round warms caches and compiled kernels, and is not counted
            for name, command in commands.items():
                run = measure(command, folder)
                print(f"{round_number:2} {name}: {run.wall_seconds:.1f} s", file=sys.stderr, flush=True)
                if round_number >= 0:
                    results[name].append(run)
        size = sum((folder / name / "model.safetensors").stat().st_size for name in NAMES) / len(NAMES)
        cpu = next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            "",
        )
        text = [
            "# Performance",
            "",
            "Written by `python benchmarks/merge.py` (its `--help` lists the options); every figure is from one run of it.",
            "",
            "## Merging four checkpoints into a base, on disk",
            "",
            f"Llama shape {arguments.shape}, {size / 1e9:.2f} GB a checkpoint in bf16, {os.cpu_count()} CPU cores ({cpu}, {platform.system()}), "
            f"warm page cache, medians of {arguments.runs} interleaved rounds after one that is not counted; whole processes, start of Python "
            "included. Ratios are medians of the ratios within a round.",
            "",
            *table(results),
            "",
            "Every contender reads the same five checkpoints and writes one. `maet merge` also hashes every input, and waits until its output is on "
            "the disk, which the floor and mergekit do not. The MAET recipe ranks all neurons of a model by value change and "
            "measures the similarity of every tensor as well, so it reads the inputs several times. Private memory is what the process alone holds "
            "(sampled twenty times a second); most of ours is the Python libraries.",
            "",
        ]
        arguments.output.write_text("\n".join(text))
        (arguments.output.parent / "performance.json").write_text(
            json.dumps({name: [vars(run) for run in runs] for name, runs in results.items()}, indent=1) + "\n"
        )
        print("\n".join(table(results)))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
