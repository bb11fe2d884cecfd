"""What is varied: coefficients by their short names, and the values or ranges they take."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from maet_core.errors import InputError
from maet_core.methods import METHODS
from maet_core.recipe import Recipe, TensorRule

# short name → the field below an ability or language that it stands for
ABILITY_FIELDS = {"alpha": "alpha", "beta": "beta", "gamma": "gamma", "k1": "key_neurons.k1", "k2": "tensors.k2"}
LANGUAGE_FIELDS = {"mu": "mu"}
NAMES = (*ABILITY_FIELDS, *LANGUAGE_FIELDS, "eta", "method")
MOST_POINTS = 10_000
Settings = dict[str, float | str]


@dataclass(frozen=True)
class Span:
    """A range that an optimiser draws from."""

    low: float
    high: float


def parse_values(name: str, text: str) -> list[float | str]:
    """`0:2:0.25` (both ends included), or `0.5,1,2`; names of methods for `method`."""
    if name == "method":
        chosen = [part.strip() for part in text.split(",") if part.strip()]
        for method in chosen:
            if method not in METHODS:
                raise InputError(f"--method: found {method!r}, expected {', '.join(METHODS)}")
        return chosen
    if ":" not in text:
        return [float(_number(name, part)) for part in text.split(",")]
    parts = [_number(name, part) for part in text.split(":")]
    if len(parts) != 3 or parts[2] <= 0 or parts[1] < parts[0]:
        raise InputError(
            f"--{name}: found {text!r}, expected FIRST:LAST:STEP such as 0:2:0.25, or values such as 0.5,1,2"
        )
    first, last, step = parts  # decimal, so that 0:1:0.1 has eleven values and ends with 1
    return [float(first + i * step) for i in range(int((last - first) / step) + 1)]


def parse_span(name: str, text: str) -> Span | list[str]:
    """`0:2`, or a list of methods."""
    if name == "method":
        return parse_values(name, text)
    parts = [float(_number(name, part)) for part in text.split(":")]
    if len(parts) != 2 or parts[0] >= parts[1]:
        raise InputError(f"--{name}: found {text!r}, expected LOW:HIGH such as 0:2")
    return Span(*parts)


def _number(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InputError(f"--{name}: found {text!r}, expected a number")
    return number


def grid(axes: Mapping[str, Sequence[float | str]]) -> list[Settings]:
    """Every combination, the last axis fastest. Raises InputError for none, or for more than `MOST_POINTS`."""
    if not axes:
        raise InputError("nothing to vary; name a range such as --gamma 0:2:0.25")
    points: list[Settings] = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        if settings.get("method", "maet") != "maet":  # no other method has key neurons and a choice of tensors
            settings = {name: value for name, value in settings.items() if name.partition(".")[0] not in ("k1", "k2")}
        if settings not in points:
            points.append(settings)
    if len(points) > MOST_POINTS:
        raise InputError(f"{len(points)} combinations, at most {MOST_POINTS}; take fewer values")
    return points


def apply_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe under these settings: `gamma` for every ability, `gamma.math` for one, `mu.sw` for one language.

    A method other than MAET has no key neurons and no tensor selection, so they are left out then. Raises InputError for a name
    that the recipe does not have, or a value that does not fit.
    """
    method = settings.get("method")
    if method and method != recipe.method.name:
        recipe = _under_method(recipe, str(method))
    for name, value in settings.items():
        if name == "method":
            continue
        short, _, one = name.partition(".")
        if short == "eta" and not one:
            recipe = recipe.with_value("eta", value)
        elif short in ABILITY_FIELDS:
            if recipe.method.name != "maet" and short in ("k1", "k2"):
                continue
            for ability in _chosen(name, one, recipe.abilities):
                recipe = _with_ability(recipe, ability, ABILITY_FIELDS[short], value)
        elif short in LANGUAGE_FIELDS:
            for language in _chosen(name, one, recipe.languages):
                recipe = recipe.with_value(f"languages.{language}.mu", value)
        else:
            raise InputError(f"--{name}: unknown; a coefficient is {', '.join(NAMES)}")
    return recipe


def present_settings(recipe: Recipe, names: Iterable[str]) -> Settings | None:
    """The values that these coefficients have in the recipe; None where one has none, or several that one name stands for."""
    found: Settings = {}
    for name in names:
        short, _, one = name.partition(".")
        if short == "method":
            values = {recipe.method.name}
        elif short == "eta":
            values = {recipe.eta}
        elif short in LANGUAGE_FIELDS:
            values = {recipe.languages[language].mu for language in _chosen(name, one, recipe.languages)}
        else:
            chosen = [recipe.abilities[ability] for ability in _chosen(name, one, recipe.abilities)]
            values = {_field(ability, ABILITY_FIELDS[short]) for ability in chosen}
        if len(values) != 1 or None in values:
            return None
        found[name] = values.pop()
    return found


def _field(entry: Any, path: str) -> Any:
    for part in path.split("."):
        entry = getattr(entry, part, None)
    return entry


def _chosen(name: str, one: str, there: Mapping[str, Any]) -> list[str]:
    if one and one not in there:
        raise InputError(f"--{name}: the recipe has no {one}; there is {', '.join(there) or 'none'}")
    if not there:
        raise InputError(f"--{name}: the recipe has nothing that it could stand for")
    return [one] if one else list(there)


def _with_ability(recipe: Recipe, ability: str, field: str, value: Any) -> Recipe:
    if field == "key_neurons.k1" and recipe.abilities[ability].key_neurons is None:
        return recipe.with_value(f"abilities.{ability}.key_neurons", {"k1": value})
    return recipe.with_value(f"abilities.{ability}.{field}", value)


def _under_method(recipe: Recipe, method: str) -> Recipe:
    bare = {"key_neurons": None, "tensors": TensorRule()} if method != "maet" else {}
    abilities = {name: ability.model_copy(update=bare) for name, ability in recipe.abilities.items()}
    return recipe.model_copy(update={"abilities": abilities}).with_value("method", method)


def base_settings(recipe: Recipe) -> Recipe:
    """The recipe that is the base, bit for bit: nothing is added."""
    for name in recipe.abilities:
        recipe = recipe.with_value(f"abilities.{name}.gamma", 0.0)
    for name in recipe.languages:
        recipe = recipe.with_value(f"languages.{name}.mu", 0.0)
    return recipe
