"""The one description of a merge: strict, typed YAML that the library, the command line, the app and the model card share."""

from __future__ import annotations

import difflib
import io
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from maet_core.errors import RecipeError
from maet_core.methods import METHODS, settings_union
from maet_core.whole_files import appearing

Number = Annotated[float, Field(allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
Source = Annotated[str, Field(min_length=1)]
# `method: ties` stands for `method: {name: ties}`
MethodChoice = Annotated[
    settings_union(), BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class KeyNeuronRule(_Strict):
    """N_i: the top `k1` percent of the neurons by importance (step 1 of the method)."""

    method: str = "value-change"
    k1: Percent = 5.0
    granularity: Literal["parameter", "unit"] = "parameter"
    scope: Literal["global", "per-tensor"] = "global"
    scores: Source | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class TensorRule(_Strict):
    """T_i: the `k2` percent of the candidates with the lowest cosine similarity, then what the hand changed; exclude wins.

    Patterns: a glob on the tensor's name, `layer:3`, `layer:2-5`, or `module:down_proj`.
    """

    k2: Percent = 100.0
    include: list[Source] = []
    exclude: list[Source] = []


class Ability(_Strict):
    """R(A_i): two checkpoints (Eq. 2) or a pack that holds the result, and where and how much of it is added (Eq. 4)."""

    ability: Source | None = None
    source_language: Source | None = None
    pack: Source | None = None
    alpha: Number = 1.0
    beta: Number = 0.0
    key_neurons: KeyNeuronRule | None = None
    gamma: Number = 1.0
    tensors: TensorRule = TensorRule()

    @model_validator(mode="after")
    def _one_origin(self) -> Ability:
        if (self.ability is None) == (self.pack is None):
            raise _mistake("give either `ability` (a checkpoint or adapter) or `pack`, and not both")
        if self.pack is not None:
            baked = {"source_language", "alpha", "beta", "key_neurons"} & self.model_fields_set
            baked = sorted(field for field in baked if getattr(self, field) is not None)
            if baked:
                raise _mistake(
                    f"`{baked[0]}` is part of the pack already; remove it here, or pack the checkpoints again"
                )
        elif self.beta != 0 and self.source_language is None:
            raise _mistake(
                f"beta is {self.beta:g}, so `source_language` is needed; name that checkpoint, or set beta to 0"
            )
        elif self.source_language is not None and "beta" not in self.model_fields_set:
            raise _mistake(
                "`source_language` is given, so `beta` must say how much of it is taken away (0 for nothing)"
            )
        return self


class Language(_Strict):
    """R(L_j) and its weight μ_j in Eq. 3."""

    checkpoint: Source | None = None
    pack: Source | None = None
    mu: Number = 1.0

    @model_validator(mode="after")
    def _one_origin(self) -> Language:
        if (self.checkpoint is None) == (self.pack is None):
            raise _mistake("give either `checkpoint` (a checkpoint or adapter) or `pack`, and not both")
        return self


class Scale(_Strict):
    """Factors on R(A) and on R_Lang in some tensors, beside the coefficients of the whole model: a layer band, a type of module.

    `tensors` is a pattern as in TensorRule. Where several apply, their factors multiply. T_i is chosen without them.
    """

    tensors: Source
    ability: Number = 1.0
    languages: Number = 1.0


class Output(_Strict):
    """How the merged checkpoint is written."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"
    shard_size: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*[KMG]B$")] = "5GB"

    @property
    def shard_bytes(self) -> int:
        """`shard_size` in bytes, decimal units as transformers counts them."""
        number, unit = re.fullmatch(r"([\d.]+)\s*([KMG])B", self.shard_size).groups()
        return max(1, int(float(number) * {"K": 10**3, "M": 10**6, "G": 10**9}[unit]))


class Recipe(_Strict):
    """Eq. 4, or a method that it is compared with, and everything that goes into it. Paths are relative to the folder that the
    recipe lies in."""

    base: Source
    method: MethodChoice = METHODS["maet"].settings(name="maet")
    abilities: dict[Name, Ability] = {}
    languages: dict[Name, Language] = {}
    eta: Number = 1.0
    scales: list[Scale] = []
    output: Output = Output()

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Recipe:
        if self.method.name != "maet":
            for name, ability in self.abilities.items():
                fields = {"key_neurons": ability.key_neurons is not None, "tensors": ability.tensors != TensorRule()}
                for field in (field for field, used in fields.items() if used):
                    raise _mistake(
                        f"a part of the method maet, and {self.method.name} has none; remove it, or set method to maet",
                        f"abilities.{name}.{field}",
                    )
        return self

    @classmethod
    def from_yaml(cls, text: str, origin: str = "recipe") -> Recipe:
        """Parses YAML 1.2. Raises RecipeError with `origin`, the field, what was found and the mend."""
        try:
            content = YAML(typ="safe", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"line {mark.line + 1}: " if mark else ""
            raise RecipeError(f"{origin}: {where}not valid YAML: {' '.join(str(error.problem).split())}") from error
        except Exception as error:  # characters that YAML forbids raise a kind of their own
            raise RecipeError(f"{origin}: not valid YAML: {' '.join(str(error).split())[:160]}") from error
        if not isinstance(content, dict):
            raise RecipeError(f"{origin}: expected fields such as `base:`, found {_type_name(content)}")
        return cls.from_dict(content, origin)

    @classmethod
    def from_dict(cls, content: dict, origin: str = "recipe") -> Recipe:
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(f"{origin}: {_explain(error)}") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        path = Path(path)
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe ({error})") from error
        return cls.from_yaml(text, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Every field that has a value, so that the text says everything about the merge."""
        content = self.model_dump(exclude_none=True)
        for ability in content["abilities"].values():
            if "pack" in ability:  # its coefficients are inside the pack; writing them again would be refused
                del ability["alpha"], ability["beta"]
        if not self.scales:
            del content["scales"]
        if self.method.name == "maet":
            del content["method"]
        elif not self.method.parameters:
            content["method"] = self.method.name
        return content

    def to_yaml(self) -> str:
        stream, yaml = io.StringIO(), YAML()
        yaml.default_flow_style = False
        yaml.width = 4096
        yaml.dump(self.to_dict(), stream)
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        with appearing(Path(path)) as part:
            part.write_text(self.to_yaml(), "utf-8")

    def with_value(self, field: str, value: Any) -> Recipe:
        """The recipe with one field changed, checked again: `with_value("abilities.math.gamma", 0.5)`.

        Raises RecipeError if the field does not exist or the value does not fit.
        """
        content = self.to_dict()
        *parents, last = _split_field(field, content)
        target = content
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise RecipeError(f"recipe: {field}: unknown field; {part} has nothing below it")
        target[last] = value
        return self.from_dict(content)


def _split_field(field: str, content: dict) -> list[str]:
    """Cuts a dotted field name; names of abilities and languages may hold dots themselves, so the longest known one wins."""
    parts: list[str] = []
    rest, level = field, content
    while rest:
        known = [key for key in (level if isinstance(level, dict) else {}) if rest == key or rest.startswith(f"{key}.")]
        part = max(known, key=len) if known else rest.partition(".")[0]
        parts.append(part)
        rest = rest[len(part) + 1 :]
        level = level.get(part) if isinstance(level, dict) else None
    return parts


def _mistake(text: str, field: str = "") -> PydanticCustomError:
    """`field` says where it is if that is not where the check is."""
    return PydanticCustomError("recipe", "{text}", {"text": text, "field": field})


def _explain(error: ValidationError) -> str:
    """The first mistake as one line, and how many more there are."""
    first, count = error.errors()[0], error.error_count()
    place = first["loc"][:1] + first["loc"][2:] if first["loc"][:1] == ("method",) else first["loc"]  # [1] is its name
    field = ".".join(str(part) for part in place if part != "[key]") or first.get("ctx", {}).get("field") or "recipe"
    more = f" (and {count - 1} more)" if count > 1 else ""
    return f"{field}: {_mend(first, field)}{more}"


def _mend(detail: ErrorDetails, field: str) -> str:
    found = f"found {_shorten(detail['input'])}"
    context, place = detail.get("ctx", {}), detail["loc"]
    parameters = {p.name: p for p in METHODS[place[1]].parameters} if place[0:1] == ("method",) and place[1:] else {}
    match detail["type"]:
        case "recipe":
            return context["text"]
        case "missing":
            return "this field is missing"
        case "union_tag_not_found" if isinstance(detail["input"], dict):
            return "`name` is missing; write for example {name: ties, density: 0.2}"
        case "union_tag_invalid" | "union_tag_not_found" | "model_attributes_type" if place == ("method",):
            found = f"found {_shorten(context.get('tag', detail['input']))}"
            return f"{found}, expected {', '.join(METHODS)}, or {{name: …}} with parameters"
        case _ if parameters and place[-1] in parameters and detail["type"] != "recipe":
            return f"{found}, expected {parameters[place[-1]].expected}"
        case "extra_forbidden":
            known = list(_model_at(detail["loc"][:-1]).model_fields)
            close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
            return (
                f"unknown field; did you mean `{close[0]}`?"
                if close
                else f"unknown field; known here: {', '.join(known)}"
            )
        case "float_type" | "int_type" | "float_parsing":
            return f"{found}, expected a number"
        case "finite_number":
            return f"{found}, expected a finite number"
        case "greater_than_equal" | "less_than_equal":
            percent = {"k1", "k2"} & {field.rpartition(".")[2]}
            return f"{found}, expected " + (
                "a percentage from 0 to 100" if percent else f"a number of at least {context.get('ge')}"
            )
        case "string_type":
            return f"{found}, expected text"
        case "string_too_short":
            return "empty; name a path or hub id"
        case "literal_error":
            return f"{found}, expected {context['expected']}"
        case "string_pattern_mismatch" if field == "output.shard_size":
            return f"{found}, expected a size such as 5GB or 500MB"
        case "string_pattern_mismatch":
            return f"{found}, expected a name of letters, digits, '-', '_' and '.'"
        case "model_type" | "dict_type":
            return f"{found}, expected fields below it"
        case "list_type":
            return f"{found}, expected a list"
    return f"{found}: {detail['msg']}"


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    if location[:1] == ("method",):
        return METHODS[location[1]].settings
    models = {
        "abilities": Ability,
        "languages": Language,
        "key_neurons": KeyNeuronRule,
        "tensors": TensorRule,
        "scales": Scale,
        "output": Output,
    }
    return next((models[part] for part in reversed(location) if part in models), Recipe)


def _shorten(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "…"


def _type_name(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
