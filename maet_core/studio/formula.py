"""Eq. 2 to 4 as LaTeX, with the numbers of a recipe in them."""

from __future__ import annotations

from maet_core.recipe import Ability, Recipe
from maet_core.workspace import short_name


def equations(recipe: Recipe) -> str:
    """All of them, aligned at the equals signs."""
    lines = [_ability_weights(name, ability) for name, ability in recipe.abilities.items()]
    lines += [_language_weights(recipe), _merged(recipe), *_scales(recipe)]
    return r"\begin{aligned}" + r" \\[4pt] ".join(lines) + r"\end{aligned}"


def _ability_weights(name: str, ability: Ability) -> str:
    """Eq. 2."""
    left = rf"R(A_{{{_text(name)}}})"
    if ability.pack:
        return rf"{left} &= {_text(short_name(ability.pack))}"
    right = _term(ability.alpha, rf"(\theta_{{{_text(short_name(ability.ability))}}} - \theta_o)", first=True)
    if ability.source_language:
        right += _term(-ability.beta, rf"(\theta_{{{_text(short_name(ability.source_language))}}} - \theta_o)")
    # on a line of its own: the two differences alone are as wide as half a screen
    keys = (
        rf" \\ &\qquad\text{{on the top }}{ability.key_neurons.k1:g}\,\%\text{{ of neurons}}"
        if ability.key_neurons
        else ""
    )
    return f"{left} &= {right}{keys}"


def _language_weights(recipe: Recipe) -> str:
    """Eq. 3."""
    terms = [
        _term(language.mu, rf"R(L_{{{_text(name)}}})", first=i == 0)
        for i, (name, language) in enumerate(recipe.languages.items())
    ]
    return r"R_{\mathrm{Lang}} &= " + ("".join(terms) or "0")


def _merged(recipe: Recipe) -> str:
    """Eq. 4, both cases; the sum that another method works on, where the recipe names one."""
    if recipe.method.name != "maet":
        return _by_method(recipe)
    on_ability, on_languages = _is_scaled(recipe)
    own, spoken = (r"a[t]\," if on_ability else ""), (r"l[t]\," if on_languages else "")
    if not recipe.abilities:
        return rf"\theta[t] &= \theta_o[t] + {spoken}R_{{\mathrm{{Lang}}}}[t]"
    several = len(recipe.abilities) > 1
    inside = "".join(
        _term(
            ability.gamma, rf"{own}R(A_{{{_text(name)}}})[t]" + (rf"\,[t \in T_{{{_text(name)}}}]" if several else "")
        )
        for name, ability in recipe.abilities.items()
    )
    where = r"t \text{ in at least one } T" if several else rf"t \in T_{{{_text(next(iter(recipe.abilities)))}}}"
    languages = _term(recipe.eta, rf"{spoken}R_{{\mathrm{{Lang}}}}[t]")
    return (
        r"\theta[t] &= \begin{cases}"
        rf"\theta_o[t]{inside}{languages} & {where} \\ "
        rf"\theta_o[t] + {spoken}R_{{\mathrm{{Lang}}}}[t] & \text{{otherwise}}"
        r"\end{cases}"
    )


def _is_scaled(recipe: Recipe) -> tuple[bool, bool]:
    return any(scale.ability != 1 for scale in recipe.scales), any(scale.languages != 1 for scale in recipe.scales)


def _scales(recipe: Recipe) -> list[str]:
    """The factors a[t] and l[t], where the recipe has some."""
    lines = []
    for factor, field in (("a", "ability"), ("l", "languages")):
        parts = [(getattr(scale, field), scale.tensors) for scale in recipe.scales if getattr(scale, field) != 1]
        if parts:
            terms = r",\ ".join(rf"{value:g}\text{{ in }}{_text(pattern)}" for value, pattern in parts)
            lines.append(rf"{factor}[t] &= {terms},\ 1\text{{ elsewhere}}")
    return lines


def _by_method(recipe: Recipe) -> str:
    on_ability, on_languages = _is_scaled(recipe)
    own, spoken = ("a\\," if on_ability else ""), ("l\\," if on_languages else "")
    terms = [(ability.gamma, rf"{own}R(A_{{{_text(name)}}})") for name, ability in recipe.abilities.items()]
    if recipe.languages:
        terms.append((recipe.eta, rf"{spoken}R_{{\mathrm{{Lang}}}}"))
    inside = "".join(_term(weight, factor, first=i == 0) for i, (weight, factor) in enumerate(terms))
    if recipe.method.name == "task-arithmetic":
        return rf"\theta &= \theta_o + {inside}"
    settings = ",\\ ".join(rf"{_text(name)} = {_text(str(value))}" for name, value in recipe.method.parameters.items())
    return rf"\theta &= \theta_o + {_text(recipe.method.name)}\big({inside};\ {settings}\big)"


def _term(weight: float, factor: str, first: bool = False) -> str:
    sign = "-" if weight < 0 else "" if first else "+"
    return rf" {sign} {abs(weight):g}\,{factor}"


def _text(name: str) -> str:
    escaped = name.replace("\\", "").replace("{", "").replace("}", "")
    for special in "_#$%&":
        escaped = escaped.replace(special, f"\\{special}")
    return rf"\text{{{escaped.replace('^', '').replace('~', '')}}}"
