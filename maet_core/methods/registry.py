"""Merge methods as small functions. A function's signature is the single source of its parameters: the recipe's check, the
command line and menus read names, ranges, defaults and help from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from maet_core.methods.steps import Steps


class MethodSettings(BaseModel):
    """A method's name and the values of its parameters, as a recipe holds them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in type(self).model_fields if field != "name"}


@dataclass(frozen=True)
class Paper:
    """Where a method comes from; `arxiv` is the number without a prefix."""

    title: str
    authors: str
    year: int
    arxiv: str

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, arXiv {self.arxiv}"


@dataclass(frozen=True)
class Parameter:
    """What a menu, a help text or an error needs to know. `kind` is number, whole number, switch or choice."""

    name: str
    kind: Literal["number", "whole number", "switch", "choice"]
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    help: str

    @property
    def expected(self) -> str:
        """The values that fit, in words."""
        if self.kind == "choice":
            return " or ".join(self.choices)
        if self.kind == "switch":
            return "true or false"
        if self.minimum is None and self.maximum is None:
            return f"a {self.kind}"
        return f"a {self.kind} " + (
            f"of at least {self.minimum:g}" if self.maximum is None else f"from {self.minimum:g} to {self.maximum:g}"
        )


@dataclass(frozen=True)
class Method:
    """One entry of the registry. A `linear` method gives coefficients per tensor; another one looks at single values: `function` is what
    it does, and `steps` tells it in the words of the compiled loop, if that can do it."""

    name: str
    summary: str
    paper: Paper
    linear: bool
    function: Callable[..., Any]
    settings: type[MethodSettings]
    steps: Callable[..., Steps] | None

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(_parameter(name, field) for name, field in self.settings.model_fields.items() if name != "name")


METHODS: dict[str, Method] = {}


def method(
    name: str,
    paper: Paper,
    *,
    linear: bool = False,
    check: Callable[..., Any] | None = None,
    steps: Callable[..., Steps] | None = None,
) -> Callable:
    """Registers a function. Its keyword-only arguments with defaults are the parameters, annotated with pydantic's `Field`;
    the first line of its docstring is the summary; `check` is a pydantic validator over all parameters; `steps` has the same parameters."""

    def register(function: Callable) -> Callable:
        # not all annotations: torch, which those of the other arguments name, is not imported for the sake of a signature
        fields = {
            key: (eval(parameter.annotation, function.__globals__), parameter.default)
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        settings = create_model(
            "".join(part.title() for part in name.split("-")) + "Settings",
            __base__=MethodSettings,
            __validators__={"check": check} if check else None,
            name=(Literal[name], ...),
            **fields,
        )
        summary = inspect.getdoc(function).partition("\n\n")[0].replace("\n", " ")
        METHODS[name] = Method(name, summary, paper, linear, function, settings, steps)
        return function

    return register


def settings_union() -> Any:
    """The type of the recipe's field: the settings of any registered method, told apart by `name`."""
    return Annotated[reduce(or_, (entry.settings for entry in METHODS.values())), Field(discriminator="name")]


def _parameter(name: str, field: FieldInfo) -> Parameter:
    bounds = {key: getattr(part, key) for part in field.metadata for key in ("ge", "le") if hasattr(part, key)}
    if get_origin(field.annotation) is Literal:
        kind = "choice"
    else:
        kind = {float: "number", int: "whole number", bool: "switch"}[field.annotation]
    choices = get_args(field.annotation) if kind == "choice" else ()
    return Parameter(name, kind, field.default, bounds.get("ge"), bounds.get("le"), choices, field.description or "")
