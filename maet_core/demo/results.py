"""What the demo's merge is worth, beside everything it is compared with: trains the inputs again, seed by seed, and measures.

`maet demo results`. The base is the shipped one; abilities, languages and the models for comparison are trained from it for
every seed. Coefficients are tuned for each row on the development problems with the inputs of seed 0, over one grid for all
rows; every number that is reported comes from the test problems.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from maet_core.demo import plan
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.measure import Score, measure, open_source, task_problems
from maet_core.demo.pool import Pool, workers
from maet_core.demo.stages import locate_ability, train_stage
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.selection import measure as similarity
from maet_core.sources import Sources

GRID = tuple({"gamma": gamma, "mu": mu} for gamma in (0.7, 1.0, 1.4) for mu in (0.3, 0.4, 0.5))
TUNING_STORIES = 100
KEPT = 0.9  # of the ability's English accuracy: a point that keeps less is not chosen while another keeps it
Scores = dict[str, Score]  # by language


def results(
    ability: str,
    assets: Path,
    work: Path,
    seeds: int = 3,
    limit: int | None = None,
    scale: float = 1.0,
    progress: Progress | None = None,
    halted: Halted | None = None,
    processes: int = 1,
    device: str = "cpu",
) -> dict:
    """Measures all rows for an ability and returns {"tuned": …, "seeds": [{row: {language: score}}, …]}.

    `limit` takes fewer problems of each language, `scale` multiplies the steps of every training.

    Everything trained and measured is kept in `work`, and a run that was stopped goes on from there.
    """
    problems = _problems(assets, ability, limit)
    tuned: dict[str, dict] = {}
    measured = []
    for seed in range(seeds):
        inputs = work / f"seed-{seed}"
        with workers(processes) as pool:
            train_inputs(pool, ability, assets, inputs, seed, scale, device, progress, halted)
        merges = _merges(ability, inputs)
        kept = work / f"tuned-{ability}.json"
        tuned = tuned or _kept(kept, partial(_tune, ability, merges, inputs, problems["dev"], device, progress, halted))
        found = {}
        for done, name in enumerate(names := [*_models(ability), *merges]):
            tell(progress, halted, f"seed {seed}: {name}", done, len(names))
            source = _with(ability, merges[name], **tuned[name]) if name in merges else name
            path = inputs / f"measured-{ability}" / f"{name}.json"
            counts = _kept(path, partial(_counts, source, inputs, problems["test"], device))
            found[name] = {language: Score(**count) for language, count in counts.items()}
        measured.append(found)
    return {"tuned": tuned, "seeds": measured}


def train_inputs(
    pool: Pool,
    ability: str,
    assets: Path,
    folder: Path,
    seed: int,
    scale: float = 1.0,
    device: str = "cpu",
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> None:
    """Everything that goes into the rows, from the base in `assets`, at `folder`/models; what is there already stays."""
    base = folder / "models" / plan.BASE.name
    if not base.exists():
        shutil.copytree(assets / "models" / plan.BASE.name, base)
    if not (folder / "scores" / f"{ability}.safetensors").exists():
        located = pool.submit(locate_ability, ability, folder, seed, scale, device)
        pool.join([located], f"seed {seed}: locate", progress, halted)
    wanted = [stage for stage in plan.STAGES[1:] if stage.ability in ("", ability)]
    missing = [
        stage.scaled(scale)
        for stage in (*plan.compared(ability), *wanted)
        if not (folder / "models" / stage.name).exists()
    ]
    jobs = [pool.submit(train_stage, stage, folder, seed, device) for stage in missing]
    pool.join(jobs, f"seed {seed}: train", progress, halted)


def _models(ability: str) -> list[str]:
    languages = [f"lang-{code}" for code in plan.LOW_RESOURCE]
    return [plan.BASE.name, *languages, *(f"{ability}-{name}" for name in ("en", "full", "f-cpt"))]


def _merges(ability: str, inputs: Path) -> dict[str, dict]:
    """Every merge that is measured, before its coefficients: γ of the ability and μ of the languages."""
    shipped = plan.maet(ability)
    maet = shipped["abilities"][ability]
    full = {"ability": f"../models/{ability}-full"}
    drawn = {"ability": f"../models/{ability}-random", "source_language": f"../models/general-{ability}-random"}
    all_weights = {key: value for key, value in maet.items() if key != "key_neurons"}
    rows = {
        "task vectors": (full, {}),
        "task vectors of MAET's models": ({"ability": f"../models/{ability}-en"}, {}),
        "TIES": (full, {"method": {"name": "ties", "density": 0.5, "fuse": "sum"}}),
        "MAET": (maet, {}),
        "MAET without key neurons": (all_weights | full, {}),
        "MAET without tensor selection": (maet | {"tensors": {"k2": 100.0}}, {}),
        "random neurons": (all_weights | drawn, {}),
        "random tensors": (maet | {"tensors": _random_tensors(ability, inputs)}, {}),
    }
    return {name: shipped | {"abilities": {ability: row}} | more for name, (row, more) in rows.items()}


def _random_tensors(ability: str, inputs: Path) -> dict:
    """As many tensors as the rule of MAET selects, drawn from the same candidates."""
    sources = _sources(plan.maet(ability), inputs)
    rows = similarity(sources).select(sources.recipe)[ability].rows
    drawn = random.Random(inputs.name).sample([row.name for row in rows], sum(row.selected for row in rows))
    return {"k2": 0.0, "include": sorted(drawn)}


def _sources(recipe: dict, inputs: Path) -> Sources:
    (inputs / "recipes").mkdir(exist_ok=True)
    return Sources.open(Recipe.from_dict(recipe), inputs / "recipes")


def _with(ability: str, recipe: dict, gamma: float, mu: float) -> dict:
    weights = recipe["abilities"][ability] | {"gamma": gamma}
    languages = {code: language | {"mu": mu} for code, language in recipe["languages"].items()}
    return recipe | {"abilities": {ability: weights}, "languages": languages}


def _scored(source: str | dict, inputs: Path, rows: list[dict], device: str) -> Scores:
    """Scores of a model by its name, or of a merge by its recipe."""
    (inputs / "recipes").mkdir(exist_ok=True)
    return measure(*open_source(inputs, source, device), rows)


def _counts(source: str | dict, inputs: Path, rows: list[dict], device: str) -> dict[str, dict]:
    return {language: asdict(score) for language, score in _scored(source, inputs, rows, device).items()}


def _tune(
    ability: str,
    merges: dict[str, dict],
    inputs: Path,
    rows: list[dict],
    device: str,
    progress: Progress | None,
    halted: Halted | None,
) -> dict[str, dict]:
    """For every merge the point of `GRID` with the best mean over the low-resource languages on the first
    development problems.

    Points that keep less than `KEPT` of the English accuracy that the ability's own model has are out, if any point keeps it.
    """
    rows = rows[: TUNING_STORIES * len(LANGUAGES)]
    rows = [row for row in rows if row["language"] in ("en", *plan.LOW_RESOURCE)]
    english_rows = [row for row in rows if row["language"] == "en"]
    english = _scored(f"{ability}-en", inputs, english_rows, device)["en"].correct
    chosen = {}
    for name, merge in merges.items():
        tried = []
        for done, point in enumerate(GRID):
            tell(progress, halted, f"tune {name}", done, len(GRID))
            scores = _scored(_with(ability, merge, **point), inputs, rows, device)
            total = sum(scores[code].correct for code in plan.LOW_RESOURCE)
            tried.append((scores["en"].correct >= KEPT * english, total, point))
        chosen[name] = max(tried, key=lambda item: item[:2])[2]
    return chosen


def _problems(assets: Path, ability: str, limit: int | None) -> dict[str, list[dict]]:
    """The problems of each split; a `limit` on how many stories."""
    rows = task_problems(assets, ability)
    few = None if limit is None else limit * len(LANGUAGES)  # a story's rows stand together, one a language
    return {split: [row for row in rows if row["split"] == split][:few] for split in ("dev", "test")}


def _kept(path: Path, make: Callable[[], dict]) -> dict:
    """What `make` returns, from `path` where it was kept before."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(make(), indent=1) + "\n", "utf-8")
        os.replace(part, path)
    return json.loads(path.read_text("utf-8"))
