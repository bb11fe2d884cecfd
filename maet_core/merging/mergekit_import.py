"""A recipe from mergekit's YAML: strict, so that nothing it says is lost without a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from maet_core.errors import InputError
from maet_core.merging.exchange import THEIR_NAMES, as_yaml_mapping
from maet_core.recipe import Recipe

_OURS = {theirs: ours for ours, theirs in THEIR_NAMES.items()}
_TOP = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "tokenizer_source")
_SHARED = {"normalize": bool, "rescale": bool, "int8_mask": bool, "lambda": float}
_OWN = {"weight": None, "density": 1.0, "epsilon": 0.15, "gamma": 0.01}  # mergekit's defaults
_OF_METHOD = {"task_arithmetic": (), "della": ("density", "epsilon"), "breadcrumbs": ("density", "gamma")}
_NORMALIZED = ("ties", "della")  # by default
_CONSENSUS = ("ties", "dare_ties", "della")
_RANDOM = ("dare_linear", "dare_ties", "della")


def from_mergekit(text: str, origin: str = "mergekit.yaml", folder: str | Path = ".") -> Recipe:
    """The recipe that says the same, every model an ability with its weight as γ. Local paths, which mergekit reads from
    `folder`, become absolute.

    Densities count half up here and down there (one value in a tensor); what is random is another draw, rescaled by 1 / density
    (mergekit: to the L1 norm before). Raises InputError naming the field that has no counterpart.
    """
    content = as_yaml_mapping(text, origin)
    try:
        return Recipe.from_dict(_recipe(content, Path(folder)), origin)
    except _Refused as refusal:
        raise InputError(f"{origin}: {refusal}") from None


class _Refused(Exception):
    """`field: what was found, and the mend`."""


def _recipe(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    _only(content, _TOP, "")
    method = content.get("merge_method")
    if method not in _OURS:
        raise _Refused(f"merge_method: found {method!r}, expected {', '.join(_OURS)}")
    if content.get("tokenizer_source", "base") != "base":
        raise _Refused("tokenizer_source: only base is known here; remove it")
    base = _model(content.get("base_model"), "base_model", folder)
    shared = _shared(content.get("parameters") or {}, method)
    named = _models(content.get("models"), shared, method, base, folder)
    own = [values for _, values in named.values()]
    for key in own[0]:
        if key != "weight" and len({values[key] for values in own}) > 1:
            raise _Refused(f"models: {key} differs between the models; here a method has one for all")
    settings: dict[str, Any] = {"name": _OURS[method]}
    if "density" in own[0]:
        settings["density"] = own[0]["density"]
    if "epsilon" in own[0]:
        settings["epsilon"] = 2 * own[0]["epsilon"]
    if "gamma" in own[0]:
        settings["outliers"] = own[0]["gamma"]
    gammas = _gammas([values["weight"] for values in own], shared, method, settings)
    dtype = content.get("out_dtype") or content.get("dtype") or "base"
    return {
        "base": base,
        "method": settings,
        "abilities": {
            name: {"ability": model, "gamma": gamma}
            for (name, (model, _)), gamma in zip(named.items(), gammas, strict=True)
        },
        "output": {"dtype": dtype},
    }


def _shared(parameters: dict[str, Any], method: str) -> dict[str, Any]:
    _only(parameters, (*_SHARED, "weight", *_own_fields(method)), "parameters")
    values = {"normalize": method in _NORMALIZED, "rescale": method in _RANDOM, "lambda": 1.0} | parameters
    for key, kind in _SHARED.items():
        if key in values and not (_is_number(values[key]) if kind is float else isinstance(values[key], bool)):
            expected = "a number" if kind is float else "true or false"
            raise _Refused(f"parameters.{key}: found {values[key]!r}, expected {expected}")
    if method != "task_arithmetic" and values["rescale"] != (method in _RANDOM):
        wanted = "is always rescaled" if method in _RANDOM else "is never rescaled"
        raise _Refused(f"parameters.rescale: here what {method} keeps {wanted}; remove it")
    return values


def _models(
    entries: Any, shared: dict[str, Any], method: str, base: str, folder: Path
) -> dict[str, tuple[str, dict[str, float]]]:
    """By the name that the recipe will use: the model, and its weight, density and so on."""
    if not isinstance(entries, list) or not entries:
        raise _Refused("models: expected a list of models")
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for number, entry in enumerate(entries):
        field = f"models[{number}]"
        if not isinstance(entry, dict):
            raise _Refused(f"{field}: found {entry!r}, expected `model` and `parameters`")
        _only(entry, ("model", "parameters"), field)
        model, parameters = _model(entry.get("model"), f"{field}.model", folder), entry.get("parameters") or {}
        if model == base and not parameters:
            continue  # mergekit lets one list the base, to no effect
        _only(parameters, ("weight", *_own_fields(method)), f"{field}.parameters")
        values = {}
        for key in ("weight", *_own_fields(method)):
            value = parameters.get(key, shared.get(key, _OWN[key]))
            if not _is_number(value):
                found_text = "it is missing" if value is None else f"found {value!r}"
                raise _Refused(f"{field}.parameters.{key}: {found_text}, expected one number")
            values[key] = float(value)
        stem = re.sub(r"[^\w.-]", "-", model.rstrip("/").rpartition("/")[2].partition("@")[0]) or "model"
        name, copies = stem, 1
        while name in found:
            copies += 1
            name = f"{stem}-{copies}"
        found[name] = (model, values)
    if not found:
        raise _Refused("models: nothing but the base; name what is merged into it")
    return found


def _gammas(weights: list[float], shared: dict[str, Any], method: str, settings: dict[str, Any]) -> list[float]:
    """γ of every model; for methods that elect signs also `fuse` and `scale`."""
    if method in _CONSENSUS:
        settings["scale"] = float(shared["lambda"])
        settings["fuse"] = "weighted-mean" if shared["normalize"] else "sum"
        if shared["normalize"] and min(weights) < 0:
            raise _Refused("parameters.normalize: a mean over negative weights has no counterpart; set it to false")
        return weights
    total = sum(weights) if shared["normalize"] else 1.0
    total = 1.0 if abs(total) < 1e-8 else total  # as mergekit does
    return [shared["lambda"] * weight / total for weight in weights]


def _model(reference: Any, field: str, folder: Path) -> str:
    if not isinstance(reference, str) or not reference:
        raise _Refused(f"{field}: found {reference!r}, expected a path or hub id")
    if "+" in reference:
        raise _Refused(f"{field}: found {reference!r}; give the adapter's own path in the recipe instead")
    path = folder / Path(reference).expanduser()
    return str(path.resolve()) if path.exists() else reference


def _own_fields(method: str) -> tuple[str, ...]:
    return _OF_METHOD.get(method, ("density",))


def _only(content: Any, known: tuple[str, ...], field: str) -> None:
    if not isinstance(content, dict):
        raise _Refused(f"{field}: found {content!r}, expected fields below it")
    for key in content:
        if key not in known:
            raise _Refused(
                f"{field}{'.' * bool(field)}{key}: has no counterpart in a recipe; known here: {', '.join(known)}"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
