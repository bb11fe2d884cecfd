"""What the demo's merge is worth, beside everything it is compared with: trains the inputs again, seed by seed, and measures.

`maet demo results`. The base is the shipped one; abilities, languages and the models for comparison are trained from it for
every seed, but for F-CPT, which nothing is merged with: it is trained once. Coefficients are tuned for each row on the development
problems with the inputs of seed 0, over one grid for all rows; every number that is reported comes from the test problems.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maet_core.checkpoints import Checkpoint
from maet_core.demo import plan
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.manifest import write_json
from maet_core.demo.measure import Score, is_right, open_source, reply_to, score, task_problems
from maet_core.demo.pool import Pool, workers
from maet_core.demo.stages import locate_ability, train_stage
from maet_core.errors import OutputError
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.selection import measure as similarity
from maet_core.sources import Sources
from maet_core.whole_files import appearing

GRID = tuple({"gamma": gamma, "mu": mu} for gamma in (0.7, 1.0, 1.4) for mu in (0.3, 0.4, 0.5))
TUNING_STORIES = 100
KEPT = 0.9  # of the ability's English accuracy: a point that keeps less is not chosen while another keeps it


@dataclass(frozen=True)
class Graded:
    """What a model scored on the problems of one language; `right` has a 1 or a 0 for each, in their order."""

    score: Score
    right: str


Row = dict[str, Graded]  # by language


@dataclass(frozen=True)
class Found:
    """For one ability: the coefficients of each merge, and of every seed what each row scored. F-CPT is in the first seed alone."""

    tuned: dict[str, dict[str, float]]
    seeds: list[dict[str, Row]]


def results(
    assets: Path,
    work: Path,
    seeds: int = 3,
    limit: int | None = None,
    scale: float = 1.0,
    progress: Progress | None = None,
    halted: Halted | None = None,
    processes: int = 1,
    device: str = "cpu",
    abilities: Sequence[str] = tuple(plan.ABILITIES),
) -> dict[str, Found]:
    """Measures all rows, by ability. `limit` takes fewer problems of each language, `scale` multiplies the steps of every training.

    Everything trained and measured is kept in `work`, and a run that was stopped goes on from there; OutputError if what is there is
    about another base, or was made with another limit or scale.
    """
    _claim(work, {"base": Checkpoint.open(assets / "models" / plan.BASE.name).identity, "limit": limit, "scale": scale})
    folders = [work / f"seed-{seed}" for seed in range(seeds)]
    with workers(processes) as pool:
        _train(pool, abilities, assets, folders, scale, device, progress, halted)
        found = {}
        for ability in abilities:
            problems = _problems(assets, ability, limit)
            merges = [_merges(ability, folder) for folder in folders]
            tuned = _tune(pool, ability, merges[0], folders[0], problems["dev"], device, progress, halted)
            jobs = {}
            for folder, of_seed in zip(folders, merges, strict=True):
                for name in (*_models(ability, folder), *of_seed):
                    source = _with(ability, of_seed[name], **tuned[name]) if name in of_seed else name
                    path = folder / f"measured-{ability}" / f"{name}.json"
                    jobs[folder, name] = pool.submit(_measured, path, source, folder, problems["test"], device)
            rows = pool.join(list(jobs.values()), f"measure {ability}", progress, halted)
            measured = dict(zip(jobs, rows, strict=True))
            by_seed = [{name: row for (of, name), row in measured.items() if of == folder} for folder in folders]
            found[ability] = Found(tuned, by_seed)
    return found


def _claim(work: Path, about: dict[str, Any]) -> None:
    path = work / "about.json"
    work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_json(path, about)
    elif json.loads(path.read_text("utf-8")) != about:
        raise OutputError(
            f"{work}: holds results for another base, or with another limit or scale; choose another folder"
        )


def _train(
    pool: Pool,
    abilities: Sequence[str],
    assets: Path,
    folders: list[Path],
    scale: float,
    device: str,
    progress: Progress | None,
    halted: Halted | None,
) -> None:
    """Everything that goes into the rows, in `models` of every folder; what is there already stays. The seed that the demo was built
    with has the demo's own models."""
    manifest = json.loads((assets / "manifest.json").read_text("utf-8"))
    for seed, folder in enumerate(folders):
        shipped = seed == manifest["seed"] and scale == manifest["scale"]
        tell(progress, halted, "copy", seed, len(folders))
        for stage in plan.STAGES if shipped else (plan.BASE,):
            _copy(assets / "models" / stage.name, folder / "models" / stage.name)
        if shipped:
            _copy(assets / "scores", folder / "scores")
    located = [
        pool.submit(locate_ability, ability, folder, seed, scale, device)
        for seed, folder in enumerate(folders)
        for ability in abilities
        if not (folder / "scores" / f"{ability}.safetensors").exists()
    ]
    pool.join(located, "locate", progress, halted)
    wanted = [(stage, seed) for seed in range(len(folders)) for stage in _stages(abilities, seed)]
    missing = [(stage.scaled(scale), seed) for stage, seed in wanted if not _trained(stage, folders[seed])]
    missing.sort(key=lambda item: -sum(phase.steps for phase in item[0].phases))  # at the end all processes are busy
    jobs = [pool.submit(train_stage, stage, folders[seed], seed, device) for stage, seed in missing]
    pool.join(jobs, "train", progress, halted)


def _copy(source: Path, target: Path) -> None:
    """A folder, whole or not at all; one that is there stays."""
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        shutil.copytree(source, part, dirs_exist_ok=True)
        os.rename(part, target)


def _stages(abilities: Sequence[str], seed: int) -> list[plan.Stage]:
    found = [stage for stage in plan.STAGES[1:] if stage.ability in ("", *abilities)]
    for ability in abilities:
        found += plan.in_random_neurons(ability)
        found += [plan.f_cpt(ability)] if seed == 0 else []
    return found


def _trained(stage: plan.Stage, folder: Path) -> bool:
    return (folder / "models" / stage.name).exists()


def _models(ability: str, inputs: Path) -> list[str]:
    languages = [f"lang-{code}" for code in plan.LOW_RESOURCE]
    names = [plan.BASE.name, *languages, f"{ability}-en", f"{ability}-full"]
    return names + [stage.name for stage in [plan.f_cpt(ability)] if _trained(stage, inputs)]


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


def _measured(
    path: Path, source: str | dict, inputs: Path, rows: list[dict], device: str, halted: Halted | None = None
) -> Row:
    """Grades of a model by its name, or of a merge by its recipe; from `path` where they were kept before."""
    if not path.exists():
        tell(None, halted, "measure", 0, 1)
        (inputs / "recipes").mkdir(exist_ok=True)
        model, tokenizer = open_source(inputs, source, device)
        found = {}
        for language in dict.fromkeys(row["language"] for row in rows):
            asked = [row for row in rows if row["language"] == language]
            replies = reply_to(model, tokenizer, [row["prompt"] for row in asked])
            right = "".join(str(int(is_right(row, reply))) for row, reply in zip(asked, replies, strict=True))
            found[language] = asdict(score(asked, replies)) | {"right": right}
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as part:
            write_json(part, found)
    kept = json.loads(path.read_text("utf-8"))
    return {language: Graded(right=counts.pop("right"), score=Score(**counts)) for language, counts in kept.items()}


def _tune(
    pool: Pool,
    ability: str,
    merges: dict[str, dict],
    inputs: Path,
    rows: list[dict],
    device: str,
    progress: Progress | None,
    halted: Halted | None,
) -> dict[str, dict[str, float]]:
    """For every merge the point of `GRID` with the best mean over the low-resource languages on the first
    development problems.

    Points that keep less than `KEPT` of the English accuracy that the ability's own model has are out, if any point keeps it.
    """
    rows = rows[: TUNING_STORIES * len(LANGUAGES)]
    rows = [row for row in rows if row["language"] in ("en", *plan.LOW_RESOURCE)]
    folder = inputs / f"tried-{ability}"
    own = pool.submit(_measured, folder / "alone.json", f"{ability}-en", inputs, rows, device)
    tried = {}
    for name, merge in merges.items():
        for number, point in enumerate(GRID):
            path, source = folder / f"{name} {'-'.join(map(str, point.values()))}.json", _with(ability, merge, **point)
            tried[name, number] = pool.submit(_measured, path, source, inputs, rows, device)
    alone, *found = pool.join([own, *tried.values()], f"tune {ability}", progress, halted)

    def rank(row: Row) -> tuple[bool, int]:
        kept = row["en"].score.correct >= KEPT * alone["en"].score.correct
        return kept, sum(row[code].score.correct for code in plan.LOW_RESOURCE)

    points = dict(zip(tried, found, strict=True))
    return {name: GRID[max(range(len(GRID)), key=lambda number: rank(points[name, number]))] for name in merges}


def _problems(assets: Path, ability: str, limit: int | None) -> dict[str, list[dict]]:
    """The problems of each split; a `limit` on how many stories."""
    rows = task_problems(assets, ability)
    few = None if limit is None else limit * len(LANGUAGES)  # a story's rows stand together, one a language
    return {split: [row for row in rows if row["split"] == split][:few] for split in ("dev", "test")}
