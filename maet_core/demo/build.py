"""Builds the demo: corpora, tokenizer, models, tasks, recipe, and a manifest that says how each came to be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from maet_core import __version__
from maet_core.demo import plan
from maet_core.demo.manifest import WORK, hashes, write_json
from maet_core.demo.measure import measure_source
from maet_core.demo.pool import Pool, resumable, usable_cores, workers
from maet_core.demo.stages import locate_ability, make_tokenizer, train_stage
from maet_core.demo.tasks import PROBLEMS
from maet_core.demo.texts import write_texts
from maet_core.errors import OutputError
from maet_core.evaluation.results import alone
from maet_core.progress import Halted, Progress, tell


def build(
    out: Path,
    seed: int = 0,
    scale: float = 1.0,
    progress: Progress | None = None,
    halted: Halted | None = None,
    processes: int | None = None,
    device: str = "cpu",
) -> dict:
    """Generates everything into `out` and returns the manifest; `scale` multiplies the steps of every training.

        An earlier build at `out` is replaced once the new one is complete; OutputError if `out` is anything else. Until then
        the work is in the folder `.NAME.part` beside it, and a build that was stopped or killed goes on from there. One seed, scale
        and version of torch on one kind of CPU give the same files, whatever the number of `processes` (by default one a core). On a CUDA card
    (`device`) what the processes train shares the card, and the files differ in their last bits from build to build.
    """
    out = Path(out)
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise OutputError(f"{out}: holds something that is no demo build; choose another folder")
    part = out.parent / f".{out.name}.part"
    with alone(part), resumable():
        manifest = _build(part, seed, scale, progress, halted, processes or min(8, usable_cores()), device)
        shutil.rmtree(part / WORK)
        if out.exists():
            shutil.rmtree(out)
        os.rename(part, out)
    return manifest


def _build(
    folder: Path,
    seed: int,
    scale: float,
    progress: Progress | None,
    halted: Halted | None,
    processes: int,
    device: str,
) -> dict:
    tell(progress, halted, "tokenizer", 0, 1)
    make_tokenizer(folder, seed, scale)
    write_texts(folder, seed, scale)
    base, *others = (stage.scaled(scale) for stage in plan.STAGES)
    with workers(processes) as pool:
        trained = {base.name: train_stage(base, folder, seed, device, progress, halted, pool)}
        trained |= train_all(pool, others, folder, seed, scale, device, progress, halted)
        accuracy = measure_all(pool, folder, device, progress, halted)
    manifest = {
        "version": __version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device,
        "seed": seed,
        "scale": scale,
        "models": trained,
        "accuracy": accuracy,
        "files": hashes(folder),
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def train_all(
    pool: Pool,
    stages: list[plan.Stage],
    folder: Path,
    seed: int,
    scale: float,
    device: str,
    progress: Progress | None,
    halted: Halted | None,
) -> dict[str, dict]:
    """Locates the abilities and trains everything that starts from the base; what the manifest says, by model."""
    abilities = dict.fromkeys(stage.ability for stage in stages if stage.k1 is not None)
    located = [pool.submit(locate_ability, ability, folder, seed, scale, device) for ability in abilities]
    free = {stage.name: pool.submit(train_stage, stage, folder, seed, device) for stage in stages if stage.k1 is None}
    pool.join(located, "locate", progress, halted)
    bound = {s.name: pool.submit(train_stage, s, folder, seed, device) for s in stages if s.k1 is not None}
    futures = free | bound
    told = pool.join(list(futures.values()), "train", progress, halted)
    by_name = dict(zip(futures, told, strict=True))
    return {stage.name: by_name[stage.name] for stage in stages}


def measure_all(
    pool: Pool, folder: Path, device: str = "cpu", progress: Progress | None = None, halted: Halted | None = None
) -> dict:
    """Scores by ability, split, model and language: every model, the recipe's merge, and plain task vectors beside it."""
    wanted = {
        (ability, name): source
        for ability in plan.ABILITIES
        for name, source in (
            *((stage.name, stage.name) for stage in plan.STAGES),
            ("merge", plan.maet(ability)),
            ("task vectors", plan.task_vectors(ability)),
        )
    }
    parts = tuple(PROBLEMS)
    futures = [pool.submit(measure_source, folder, source, key[0], parts, device) for key, source in wanted.items()]
    measured = dict(zip(wanted, pool.join(futures, "measure", progress, halted), strict=True))
    return {
        ability: {
            split: {name: found[split] for (of, name), found in measured.items() if of == ability} for split in parts
        }
        for ability in plan.ABILITIES
    }
