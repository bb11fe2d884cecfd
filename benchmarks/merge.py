"""Merging to disk: MAET Studio, mergekit and the floor, in one run; `run.py` puts it into docs/performance.md.

Every contender is a process of its own, measured by the kernel's account of it: wall time, user and system CPU time, peak resident and
peak private memory (sampled). Runs are interleaved, so that a machine that slows down slows all of them; ratios are taken within a round.
"""

from __future__ import annotations

import os
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
from checkpoints import link_checkpoint, write_checkpoints

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
FULL = """base: base
abilities:
  x: {ability: a, source_language: b, alpha: 1.0, beta: 0.5, key_neurons: {k1: 5.0}, tensors: {k2: 60.0}, gamma: 0.8}
  y: {ability: c, source_language: b, alpha: 1.0, beta: 0.5, key_neurons: {k1: 5.0}, tensors: {k2: 60.0}, gamma: 0.8}
languages:
  a: {checkpoint: a, mu: 0.3}
  b: {checkpoint: b, mu: 0.3}
  c: {checkpoint: c, mu: 0.2}
  d: {checkpoint: d, mu: -0.1}
eta: 0.8
"""
MERGEKIT = """merge_method: {method}
base_model: base
dtype: {dtype}
out_dtype: bfloat16
parameters: {{normalize: false, lambda: 1.0{parameters}}}
models:
- {{model: a, parameters: {{weight: 0.3}}}}
- {{model: b, parameters: {{weight: 0.3}}}}
- {{model: c, parameters: {{weight: 0.2}}}}
- {{model: d, parameters: {{weight: -0.1}}}}
"""
# our name and parameters, mergekit's
COMPARATORS = {
    "TIES": ("{name: ties, density: 0.2, fuse: sum}", "ties", ", density: 0.2"),
    "DARE-TIES": ("{name: dare-ties, density: 0.2, fuse: sum}", "dare_ties", ", density: 0.2"),
    "DELLA": ("{name: della, density: 0.4, epsilon: 0.2, fuse: sum}", "della", ", density: 0.4, epsilon: 0.1"),
}


@dataclass(frozen=True)
class Run:
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_resident_bytes: int
    peak_private_bytes: int


def measure(command: str, folder: Path) -> Run:
    """Runs a shell command in `folder`; its output is thrown away unless it fails."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "copy").unlink(missing_ok=True)
    # as for people: Python keeps what it has compiled
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, stdout=output, stderr=output, env=environment
        )
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
    return Run(wall, usage.ru_utime, usage.ru_stime, *peaks)


def _sample(pid: int, peaks: list[int]) -> None:
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            memory = process.memory_full_info()
            peaks[:] = max(peaks[0], memory.rss), max(peaks[1], memory.uss)
            time.sleep(0.05)
    except psutil.Error:
        pass


_PYTHON = shlex.quote(sys.executable)
FLOOR = "read five inputs, write one output"
DURABLE_FLOOR = "the same, and wait for the disk"
MERGE = "maet merge --no-sync, four models"
DURABLE_MERGE = "maet merge, four models (waits for the disk)"
MAET_MERGE = "maet merge --no-sync, one ability, two languages, key neurons and selection"
FULL_MERGE = "maet merge --no-sync, two abilities, four languages, key neurons and selection"
FULL_AGAIN = "the same with other γ, μ, α and k2: what was ranked and measured is remembered"


def _maet(folder: Path, name: str, text: str, flags: str = "--no-sync", again: bool = True) -> str:
    """Not `again`: as if these models met for the first time; only their hashes are known."""
    (folder / f"{name}.yaml").write_text(text)
    command = f"env MAET_CACHE=cache {_PYTHON} -m maet_core merge {name}.yaml -o out --device cpu {flags}"
    return command if again else f"bash -c {shlex.quote(f'rm -rf cache/key-neurons cache/similarity; exec {command}')}"


def _mergekit(folder: Path, method: str, dtype: str, parameters: str = "") -> str:
    name = f"mergekit-{method}-{dtype}.yaml"
    (folder / name).write_text(MERGEKIT.format(method=method, dtype=dtype, parameters=parameters))
    flags = "--lazy-unpickle --allow-crimes --no-write-model-card --out-shard-size 100B"
    return f'{_PYTHON} -c "from mergekit.scripts.run_yaml import main; main()" {name} out {flags}'


def contenders(folder: Path) -> dict[str, str]:
    """Name to shell command."""
    inputs = " ".join(f"{name}/model.safetensors" for name in NAMES)
    copying = f"cat {inputs} > /dev/null && cp base/model.safetensors copy"
    return {
        FLOOR: f"bash -c '{copying}'",
        DURABLE_FLOOR: f"bash -c '{copying} && sync copy'",
        MERGE: _maet(folder, "four", FOUR_WAY),
        DURABLE_MERGE: _maet(folder, "four", FOUR_WAY, "--sync"),
        MAET_MERGE: _maet(folder, "maet", MAET, again=False),
        FULL_MERGE: _maet(folder, "full", FULL, again=False),
        FULL_AGAIN: _maet(folder, "again", _with_other_coefficients(FULL)),
    }


def _with_other_coefficients(text: str) -> str:
    for before, after in (
        ("gamma: 0.8", "gamma: 0.7"),
        ("mu: 0.2", "mu: 0.25"),
        ("alpha: 1.0", "alpha: 0.9"),
        ("k2: 60.0", "k2: 50.0"),
    ):
        text = text.replace(before, after)
    return text


def comparators(folder: Path, names: list[str], peers: list[str]) -> dict[str, str]:
    """Name to shell command; mergekit beside those that are among the `peers`."""
    found = {}
    for name in names:
        ours, theirs, parameters = COMPARATORS[name]
        text = FOUR_WAY.replace("base: base", f"base: base\nmethod: {ours}", 1)
        found[f"maet merge --no-sync, {name}"] = _maet(folder, name.lower(), text)
        if name in peers:
            found[f"mergekit {name}"] = _mergekit(folder, theirs, "bfloat16", parameters)
    return found


def rounds(folder: Path, commands: dict[str, str], runs: int, warm_up: bool = True) -> dict[str, list[Run]]:
    """All commands in turn; the first round warms caches and compiled kernels, and is not counted."""
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(-warm_up, runs):
        for name, command in commands.items():
            run = measure(command, folder)
            print(f"{number:2} {name}: {run.wall_seconds:.1f} s", file=sys.stderr, flush=True)
            if number >= 0:
                results[name].append(run)
    return results


def ratio(results: dict[str, list[Run]], name: str, other: str, field: str = "wall_seconds") -> float:
    """How many times as much as the other, the median over the rounds."""
    pairs = zip(results[name], results[other], strict=True)
    return statistics.median(getattr(one, field) / max(getattr(two, field), 1e-3) for one, two in pairs)


def table(results: dict[str, list[Run]], last: str, beside: dict[str, str]) -> list[str]:
    """`last` heads the column of wall-time ratios, `beside` says what each row is divided by."""
    lines = [
        f"| | wall, s (min–max) | {last} | user + system CPU, s | peak resident, MB | peak private, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        walls = [run.wall_seconds for run in runs]
        times = f"{ratio(results, name, beside[name]):.2f}" if name in beside else "–"
        user, system = (
            statistics.median(getattr(run, f"{kind}_seconds") for run in runs) for kind in ("user", "system")
        )
        lines.append(
            f"| {name} | {statistics.median(walls):.1f} ({min(walls):.1f}–{max(walls):.1f}) | {times} "
            f"| {user:.1f} + {system:.1f} "
            f"| {max(run.peak_resident_bytes for run in runs) / 1e6:.0f} | {max(run.peak_private_bytes for run in runs) / 1e6:.0f} |"
        )
    return lines


def section(folder: Path, shape: str, runs: int) -> tuple[list[str], dict]:
    write_checkpoints(folder, shape, NAMES)
    results = rounds(folder, contenders(folder), runs)
    return section_text(folder, shape, runs, results), _plain(results)


def section_text(folder: Path, shape: str, runs: int, results: dict[str, list[Run]]) -> list[str]:
    size = (folder / "base" / "model.safetensors").stat().st_size
    most = max(run.peak_private_bytes for name in (MERGE, MAET_MERGE, FULL_MERGE, FULL_AGAIN) for run in results[name])
    beside = dict.fromkeys(results, FLOOR) | dict.fromkeys((DURABLE_FLOOR, DURABLE_MERGE), DURABLE_FLOOR)
    return [
        f"## Merging four checkpoints into a base, on disk ({shape})",
        "",
        f"Llama shape {shape}, {size / 1e9:.2f} GB a checkpoint in bf16, medians of {runs} interleaved rounds after one that "
        "is not counted, which also reads all inputs (whether they stay in the page cache is not checked); whole processes, start of Python included. Ratios are medians of the ratios within a round.",
        "",
        *table(results, "× floor", beside),
        "",
        "There are two floors, because waiting until the output is on the disk costs more than everything else; each row is divided by the "
        "one that waits as it does. `maet merge` waits unless it is told not to; mergekit and cp do not. `maet merge` also hashes every "
        "input the first time that it sees it. Private memory is what the process alone holds, sampled twenty times a second. The recipe with two "
        "abilities and four languages is made of the same four models, some in two roles, so that it reads the bytes of the plain merge: it "
        "ranks the neurons and measures similarities in one pass, and merges in another; from then on one pass is enough.",
        "",
        *_targets(
            [
                _target("wall time at most 1.25 × the floor, not waiting", ratio(results, MERGE, FLOOR), 1.25),
                _target(
                    "wall time at most 1.25 × the floor, both waiting",
                    ratio(results, DURABLE_MERGE, DURABLE_FLOOR),
                    1.25,
                ),
                _target("private memory at most 250 MB, whatever the recipe", most / 1e6, 250, " MB"),
                _target(
                    "two abilities, four languages, key neurons and selection at most 1.5 × the plain merge",
                    ratio(results, FULL_MERGE, MERGE),
                    1.5,
                ),
                _target("the same models again, with other coefficients", ratio(results, FULL_AGAIN, MERGE), 1.5),
            ]
        ),
        f"One merge reads and writes {6 * size / 1e9:.0f} GB.",
        "",
    ]


def size_section(folder: Path, shapes: list[str]) -> tuple[list[str], dict]:
    """Memory at several sizes of the model; at each, one trained model stands for all four, which saves room on the disk."""
    found: dict[str, dict[str, list[Run]]] = {MERGE: {}, FULL_MERGE: {}}
    for shape in shapes:
        here = folder / f"{shape}-memory"
        write_checkpoints(here, shape, NAMES[:2])
        for name in NAMES[2:]:
            link_checkpoint(here, NAMES[1], name)
        commands = {MERGE: _maet(here, "four", FOUR_WAY), FULL_MERGE: _maet(here, "full", FULL, again=False)}
        for name, runs in rounds(here, commands, 1, warm_up=False).items():
            found[name][shape] = runs
        shutil.rmtree(here)
    most = max(runs[0].peak_private_bytes for by_shape in found.values() for runs in by_shape.values())
    lines = [
        "## Memory of a merge by the size of the model",
        "",
        "The most private memory of the whole process, MB, n = 1. The four models are one file here, which takes less room on the disk; "
        "each of them is read as if it were another.",
        "",
        f"| | {' | '.join(shapes)} |",
        "|---|" + "---|" * len(shapes),
        *(
            f"| {name} | {' | '.join(f'{by_shape[shape][0].peak_private_bytes / 1e6:.0f}' for shape in shapes)} |"
            for name, by_shape in found.items()
        ),
        "",
        *_targets([_target("private memory at most 250 MB, whatever the size", most / 1e6, 250, " MB")]),
    ]
    return lines, {name: _plain(by_shape) for name, by_shape in found.items()}


def peer_section(folder: Path, shape: str, runs: int, peers: list[str]) -> tuple[list[str], dict]:
    """Beside mergekit, which merges in the dtypes `peers`."""
    write_checkpoints(folder, shape, NAMES)
    commands = {MERGE: _maet(folder, "four", FOUR_WAY)}
    commands |= {f"mergekit task_arithmetic, {dtype}": _mergekit(folder, "task_arithmetic", dtype) for dtype in peers}
    results = rounds(folder, commands, runs)
    return peer_text(shape, runs, peers, results), _plain(results)


def peer_text(shape: str, runs: int, peers: list[str], results: dict[str, list[Run]]) -> list[str]:
    targets = []
    for dtype in peers:
        peer = f"mergekit task_arithmetic, {dtype}"
        targets.append(_target(f"a tenth of the wall time of mergekit ({dtype})", ratio(results, MERGE, peer), 0.1))
        user = ratio(results, MERGE, peer, "user_seconds")
        targets.append(_target(f"a fifteenth of the user CPU time of mergekit ({dtype})", user, 1 / 15))
    return [
        f"## The same merge by mergekit ({shape})",
        "",
        f"mergekit 0.1.5 with its best flags, n = {runs} after a round that is not counted.",
        "",
        *table(results, "× ours", dict.fromkeys(results, MERGE)),
        "",
        *_targets(targets),
    ]


def comparator_section(folder: Path, shape: str, runs: int, names: list[str]) -> tuple[list[str], dict]:
    """Beside mergekit."""
    about = (
        f"The same four checkpoints at shape {shape}, n = {runs}; mergekit in bf16. A merge of each kind at a tiny shape goes before, which "
        "compiles the loops, and all inputs are read."
    )
    return _comparators(folder, shape, runs, names, names, about, " (set for 1B)")


def large_comparator_section(folder: Path, shape: str, runs: int, peers: list[str]) -> tuple[list[str], dict]:
    """All of ours, and mergekit for the `peers`: at a large shape it takes many minutes for each of them."""
    about = (
        f"n = {runs}; mergekit was run for {' and '.join(peers) or 'none'} at this shape, where it takes many minutes for each; for the others "
        "it is not measured whether the target is met here."
    )
    return _comparators(folder, shape, runs, list(COMPARATORS), peers, about, "")


def _comparators(
    folder: Path, shape: str, runs: int, names: list[str], peers: list[str], about: str, remark: str
) -> tuple[list[str], dict]:
    write_checkpoints(folder, shape, NAMES)
    _warm_up(folder)
    results = rounds(folder, comparators(folder, names, peers), runs, warm_up=False)
    beside = {f"maet merge --no-sync, {name}": f"mergekit {name}" for name in peers}
    heading = f"## Methods that look at single values ({shape})"
    lines = [heading, "", about, "", *table(results, "× mergekit", beside), "", *_targets(_thirtieths(results, remark))]
    return lines, _plain(results)


def _thirtieths(results: dict[str, list[Run]], remark: str) -> list[str]:
    pairs = {name: (f"maet merge --no-sync, {name}", f"mergekit {name}") for name in ("TIES", "DARE-TIES")}
    return [
        _target(f"a thirtieth of the wall time of mergekit, {name}{remark}", ratio(results, ours, theirs), 1 / 30)
        for name, (ours, theirs) in pairs.items()
        if theirs in results
    ]


def _warm_up(folder: Path) -> None:
    """Reads the inputs, and merges tiny models by every method, so that the loops are compiled."""
    for name in NAMES:
        with (folder / name / "model.safetensors").open("rb") as file:
            while file.read(1 << 24):
                pass
    with tempfile.TemporaryDirectory() as tiny:
        write_checkpoints(Path(tiny), "0.02B", NAMES)
        for command in comparators(Path(tiny), list(COMPARATORS), []).values():
            measure(command, Path(tiny))


def _target(text: str, found: float, limit: float, unit: str = " ×") -> str:
    digits = 0 if unit == " MB" else 2 if found > 0.1 else 3
    return f"| {text} | {found:.{digits}f}{unit} | {'yes' if found <= limit else 'no'} |"


def _targets(rows: list[str]) -> list[str]:
    """Rows of `_target` as a table; nothing where there is none."""
    return ["| target | measured | met |", "|---|---|---|", *rows, ""] if rows else []


def _plain(results: dict[str, list[Run]]) -> dict:
    return {name: [vars(run) for run in runs] for name, runs in results.items()}
