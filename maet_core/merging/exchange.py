"""Recipes as YAML of mergekit (https://github.com/arcee-ai/mergekit, 0.1) and back, as far as both can say the same.

mergekit knows no key neurons, no packs and no Eq. 2 inside a method that is not linear. What is linear, tensor selection and
layer swapping included, is its `task_arithmetic` with weights by tensor name.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from maet_core.differences import AdapterDifference, Difference
from maet_core.errors import InputError
from maet_core.merging.plan import MergePlan, plan_merge
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights
from maet_core.weights.packs import PackDifference

THEIR_NAMES = {
    "task-arithmetic": "task_arithmetic",
    "ties": "ties",
    "dare": "dare_linear",
    "dare-ties": "dare_ties",
    "della": "della",
    "breadcrumbs": "breadcrumbs",
}
_HEAD = "# Written by MAET Studio for mergekit 0.1. mergekit drops tensors that its architecture tables lack.\n"
_CHANCE = "# Which values are dropped at random is another draw than that of `maet merge`, and the rest is rescaled by norm.\n"


def to_mergekit(
    recipe: Recipe, folder: str | Path, progress: Progress | None = None, halted: Halted | None = None
) -> str:
    """mergekit's YAML for a recipe, its models by absolute path or hub id. Similarities are measured where the recipe selects.

    Raises InputError naming the field that mergekit cannot express.
    """
    for name, ability in recipe.abilities.items():
        if ability.key_neurons is not None:
            raise _inexpressible(f"abilities.{name}.key_neurons", "mergekit knows no key neurons")
    sources = Sources.open(recipe, folder, progress, halted)
    _check_models(recipe, sources)
    plan = plan_merge(sources, None, progress, halted)
    models, parameters = _linear(plan) if plan.method.linear else _by_vectors(plan)
    content = {
        "merge_method": "task_arithmetic" if plan.method.linear else THEIR_NAMES[plan.method.name],
        "base_model": _reference(recipe.base, "base", sources),
        "models": models,
        "parameters": parameters,
        "dtype": "float32",
        "out_dtype": _out_dtype(sources),
    }
    stream, yaml = io.StringIO(), YAML()
    yaml.default_flow_style, yaml.width = False, 4096
    yaml.dump(content, stream)
    return _HEAD + (_CHANCE if "seed" in plan.settings.parameters else "") + stream.getvalue()


def _linear(plan: MergePlan) -> tuple[list[dict], dict]:
    """One coefficient per checkpoint and tensor; those of a checkpoint that the recipe names twice are added."""
    names = [name for name, info in plan.sources.base.tensors.items() if info.mergeable]
    weights: dict[Difference, dict[str, float]] = {part: dict.fromkeys(names, 0.0) for part in plan.sources.differences}
    copies = plan.sources.base.tied_copies
    for name in names:
        for addend in plan.addends(copies.get(name, name)):
            weights[addend.difference][name] += addend.coefficient
    models = [
        {"model": _reference(part.source, part.source, plan.sources), "parameters": {"weight": filtered(by_name)}}
        for part, by_name in weights.items()
    ]
    return models, {"normalize": False, "lambda": 1.0}


def filtered(by_name: dict[str, float]) -> float | list[dict]:
    """One value, or mergekit's list of filters, which match as substrings, the first one winning: longer names go first."""
    rest = Counter(by_name.values()).most_common(1)[0][0]
    entries = {name for name, value in by_name.items() if value != rest}
    if not entries:
        return rest
    while caught := {n for n in by_name if n not in entries and any(entry in n for entry in entries)}:
        entries |= caught
    ordered = sorted(entries, key=lambda name: (-len(name), name))
    return [{"filter": name, "value": by_name[name]} for name in ordered] + [{"value": rest}]


def _by_vectors(plan: MergePlan) -> tuple[list[dict], dict]:
    sources, settings = plan.sources, plan.settings.parameters
    if sources.recipe.scales:
        raise _inexpressible("scales", f"its {plan.method.name} takes one weight a model here; remove them")
    vectors: list[tuple[str, float, Difference]] = []
    for key, weights in sources.abilities.items():
        field = f"abilities.{key}"
        if weights.source_language is not None and weights.beta != 0:
            raise _inexpressible(f"{field}.beta", f"mergekit has no Eq. 2 in {plan.method.name}; set it to 0")
        vectors.append((field, sources.recipe.abilities[key].gamma * weights.alpha, weights.ability))
    for key, language in sources.recipe.languages.items():
        vectors.append((f"languages.{key}", sources.recipe.eta * language.mu, sources.languages[key]))
    if len({part for _, _, part in vectors}) < len(vectors):
        raise _inexpressible("recipe", "two of its fields name the same checkpoint, which mergekit takes once only")
    parameters, scale = {"normalize": False, "lambda": settings.get("scale", 1.0)}, [w for _, w, _ in vectors]
    if settings.get("fuse", "sum") != "sum":
        if min(scale) <= 0:
            raise _inexpressible("method.fuse", "mergekit's mean needs coefficients above 0; take sum")
        if settings["fuse"] == "mean":
            if len(set(scale)) > 1:
                raise _inexpressible("method.fuse", "mergekit's mean is the weighted one; take weighted-mean or sum")
            parameters["lambda"] *= scale[0]
            scale = [1.0] * len(scale)
        parameters["normalize"] = True
    if "seed" in settings:
        parameters["rescale"] = True
    own = {"density": settings["density"]}
    if "epsilon" in settings:
        own["epsilon"] = settings["epsilon"] / 2
    if "outliers" in settings:
        own["gamma"] = settings["outliers"]
    models = [
        {"model": _reference(part.source, field, sources), "parameters": {"weight": weight, **own}}
        for weight, (field, _, part) in zip(scale, vectors, strict=True)
    ]
    return models, parameters


def _check_models(recipe: Recipe, sources: Sources) -> None:
    named: dict[str, AbilityWeights | Difference] = {f"abilities.{k}": v for k, v in sources.abilities.items()}
    named |= {f"languages.{k}": v for k, v in sources.languages.items()}
    if not named:
        raise _inexpressible("recipe", "it adds nothing to the base")
    for field, weights in named.items():
        for part in weights.parts if isinstance(weights, AbilityWeights) else [weights]:
            if isinstance(part, PackDifference | AdapterDifference):
                kind = "packs" if isinstance(part, PackDifference) else "adapters"
                raise _inexpressible(field, f"{kind} are not written for mergekit; name whole checkpoints")


def _out_dtype(sources: Sources) -> str:
    if sources.recipe.output.dtype != "base":
        return sources.recipe.output.dtype
    names = {info.dtype_name for info in sources.base.tensors.values() if info.mergeable}
    if len(names) > 1 or "float64" in names:
        raise _inexpressible("output.dtype", "mergekit writes one dtype, and the base has others; name one")
    return names.pop()


def _reference(source: str, field: str, sources: Sources) -> str:
    path = sources.folder / Path(source).expanduser()
    reference = str(path.resolve()) if path.exists() else source
    if "+" in reference or (path.exists() and "@" in reference):
        raise _inexpressible(field, f"{reference}: mergekit reads '+' and '@' in a path as its own signs")
    return reference


def _inexpressible(field: str, reason: str) -> InputError:
    return InputError(f"{field}: cannot be written for mergekit: {reason}")


def as_yaml_mapping(text: str, origin: str) -> dict[str, Any]:
    """The top level of a YAML file. Raises InputError if it is none."""
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # ruamel's errors have no common parent
        raise InputError(f"{origin}: not valid YAML: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{origin}: expected fields such as `merge_method:`")
    return content
