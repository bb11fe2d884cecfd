"""The recipe: strict YAML in, the same YAML out, and errors that name field, value and mend."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maet_core.errors import RecipeError
from maet_core.recipe import Recipe

FULL = """
base: org/base@main
abilities:
  math:
    ability: models/math-en
    source_language: models/general-en
    alpha: 1.0
    beta: 0.5
    key_neurons: {method: value-change, k1: 5.0, granularity: unit, scope: per-tensor, scores: s.safetensors, seed: 3}
    gamma: 1.25
    tensors:
      k2: 80.0
      include: ["model.layers.3.*", "layer:2-5"]
      exclude: ["module:down_proj"]
  science: {pack: packs/science.safetensors, gamma: -1}
languages:
  sw: {checkpoint: models/sw, mu: 1.0}
  no: {pack: packs/no.safetensors, mu: 1e-1}
eta: 0.75
output: {dtype: bfloat16, shard_size: 500MB}
"""


def test_every_field_arrives():
    recipe = Recipe.from_yaml(FULL)
    math_ability = recipe.abilities["math"]
    assert recipe.base == "org/base@main"
    assert (math_ability.ability, math_ability.source_language) == ("models/math-en", "models/general-en")
    assert (math_ability.alpha, math_ability.beta, math_ability.gamma) == (1.0, 0.5, 1.25)
    assert math_ability.key_neurons.model_dump() == {
        "method": "value-change",
        "k1": 5.0,
        "granularity": "unit",
        "scope": "per-tensor",
        "scores": "s.safetensors",
        "seed": 3,
    }
    assert math_ability.tensors.k2 == 80.0
    assert math_ability.tensors.include == ["model.layers.3.*", "layer:2-5"]
    assert math_ability.tensors.exclude == ["module:down_proj"]
    assert recipe.abilities["science"].pack == "packs/science.safetensors"
    assert recipe.abilities["science"].gamma == -1
    # YAML 1.2: `no` is a language, not a truth value, and 1e-1 is a number
    assert recipe.languages["no"].mu == 0.1
    assert recipe.eta == 0.75
    assert (recipe.output.dtype, recipe.output.shard_bytes) == ("bfloat16", 500_000_000)


def test_the_defaults_are_those_of_the_method():
    recipe = Recipe.from_yaml(
        "base: b\nabilities: {math: {ability: a, key_neurons: {}}}\nlanguages: {sw: {checkpoint: c}}\n"
    )
    ability = recipe.abilities["math"]
    assert (ability.alpha, ability.beta, ability.gamma, recipe.eta) == (1.0, 0.0, 1.0, 1.0)
    assert (ability.tensors.k2, ability.tensors.include, ability.tensors.exclude) == (100.0, [], [])
    keys = ability.key_neurons
    assert (keys.method, keys.granularity, keys.scope, keys.seed) == ("value-change", "parameter", "global", 0)
    assert recipe.languages["sw"].mu == 1.0
    assert recipe.output.dtype == "base"


def test_text_and_back_again(tmp_path):
    recipe = Recipe.from_yaml(FULL)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)


@given(
    base=texts,
    name=st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True),
    gamma=numbers,
    eta=numbers,
    mu=numbers,
    k2=st.floats(0, 100),
    patterns=st.lists(texts, max_size=3),
)
def test_any_valid_recipe_survives_its_yaml(base, name, gamma, eta, mu, k2, patterns):
    recipe = Recipe.from_dict(
        {
            "base": base,
            "abilities": {name: {"ability": base, "gamma": gamma, "tensors": {"k2": k2, "include": patterns}}},
            "languages": {name: {"checkpoint": base, "mu": mu}},
            "eta": eta,
        }
    )
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert math.copysign(1, again.eta) == math.copysign(1, eta)


def test_a_recipe_cannot_be_changed_in_place():
    recipe = Recipe.from_yaml(FULL)
    with pytest.raises(Exception, match="frozen"):
        recipe.eta = 2.0
    changed = recipe.with_value("abilities.math.gamma", 0.5)
    assert (recipe.abilities["math"].gamma, changed.abilities["math"].gamma) == (1.25, 0.5)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("eta", 2.0, lambda r: r.eta),
        ("abilities.math.key_neurons.k1", 7.5, lambda r: r.abilities["math"].key_neurons.k1),
        ("abilities.math.tensors.exclude", ["layer:0"], lambda r: r.abilities["math"].tensors.exclude),
        ("abilities.science.tensors.k2", 30.0, lambda r: r.abilities["science"].tensors.k2),
        ("languages.sw.mu", -1.0, lambda r: r.languages["sw"].mu),
        ("scales", [{"tensors": "layer:0-1", "ability": 0.5, "languages": 1.0}], lambda r: r.to_dict()["scales"]),
        ("output.dtype", "float32", lambda r: r.output.dtype),
    ],
)
def test_one_field_changes(field, value, read):
    changed = Recipe.from_yaml(FULL).with_value(field, value)
    assert read(changed) == value
    assert read(Recipe.from_yaml(changed.to_yaml())) == value


def test_names_with_dots_are_found_by_with_value():
    recipe = Recipe.from_yaml("base: b\nabilities: {math: {ability: a}, math.hard: {ability: a}}")
    changed = recipe.with_value("abilities.math.hard.gamma", 3.0)
    assert (changed.abilities["math"].gamma, changed.abilities["math.hard"].gamma) == (1.0, 3.0)


@pytest.mark.parametrize("field", ["nonsense", "abilities.math.nonsense", "abilities.nobody.gamma", "eta.deeper"])
def test_with_value_refuses_fields_that_do_not_exist(field):
    with pytest.raises(RecipeError, match=field.split(".")[-1] if "nonsense" in field else field.split(".")[0]):
        Recipe.from_yaml(FULL).with_value(field, 1.0)


WRONG = {
    "unknown field": ("base: b\ngama: 1", r"gama: unknown field.*"),
    "unknown field, with the likely one": (
        "base: b\nabilities: {math: {ability: a, gama: 1}}",
        r"abilities\.math\.gama: unknown field; did you mean `gamma`\?",
    ),
    "unknown field deep down": (
        "base: b\nabilities: {math: {ability: a, tensors: {k3: 1}}}",
        r"abilities\.math\.tensors\.k3: unknown field; known here: k2, include, exclude",
    ),
    "repeated key": ("base: b\nbase: c", r"line \d+.*duplicate key.*base"),
    "repeated ability": (
        "base: b\nabilities:\n  math: {ability: a}\n  math: {ability: c}",
        r"line \d+.*duplicate key.*math",
    ),
    "no base": ("eta: 1", r"base: this field is missing"),
    "k2 too large": (
        "base: b\nabilities: {math: {ability: a, tensors: {k2: 100.5}}}",
        r"abilities\.math\.tensors\.k2: found 100\.5, expected a percentage from 0 to 100",
    ),
    "k2 too small": (
        "base: b\nabilities: {math: {ability: a, tensors: {k2: -0.1}}}",
        r"abilities\.math\.tensors\.k2: found -0\.1, expected a percentage from 0 to 100",
    ),
    "k1 too large": (
        "base: b\nabilities: {math: {ability: a, key_neurons: {k1: 101}}}",
        r"abilities\.math\.key_neurons\.k1: found 101, expected a percentage from 0 to 100",
    ),
    "text for a number": ("base: b\neta: much", r"eta: found 'much', expected a number"),
    "a quoted number": ("base: b\neta: '1.0'", r"eta: found '1\.0', expected a number"),
    "a truth value for a number": ("base: b\neta: true", r"eta: found True, expected a number"),
    "nothing for a number": ("base: b\neta:", r"eta: found None, expected a number"),
    "a number for text": ("base: 5", r"base: found 5, expected text"),
    "a list for a mapping": ("base: b\nabilities: [a]", r"abilities: found \['a'\], expected fields below it"),
    "text for a list": (
        "base: b\nabilities: {math: {ability: a, tensors: {include: '*'}}}",
        r"abilities\.math\.tensors\.include: found '\*', expected a list",
    ),
    "NaN": ("base: b\neta: .nan", r"eta: found nan, expected a finite number"),
    "infinity": (
        "base: b\nlanguages: {sw: {checkpoint: c, mu: -.inf}}",
        r"languages\.sw\.mu: found -inf, expected a finite number",
    ),
    "too large to be finite": ("base: b\neta: 1e999", r"eta: found inf, expected a finite number"),
    "an unknown granularity": (
        "base: b\nabilities: {math: {ability: a, key_neurons: {granularity: layer}}}",
        r"key_neurons\.granularity: found 'layer', expected 'parameter' or 'unit'",
    ),
    "an unknown dtype": ("base: b\noutput: {dtype: int8}", r"output\.dtype: found 'int8', expected .*'bfloat16'"),
    "a size without a unit": ("base: b\noutput: {shard_size: '5'}", r"output\.shard_size: found '5', expected a size"),
    "no origin": ("base: b\nabilities: {math: {gamma: 1}}", r"abilities\.math: give either `ability`.*or `pack`"),
    "two origins": (
        "base: b\nabilities: {math: {ability: a, pack: p}}",
        r"abilities\.math: give either `ability`.*or `pack`.*not both",
    ),
    "two origins of a language": (
        "base: b\nlanguages: {sw: {checkpoint: a, pack: p}}",
        r"languages\.sw: give either `checkpoint`.*or `pack`.*not both",
    ),
    "coefficients that a pack holds": (
        "base: b\nabilities: {math: {pack: p, alpha: 2}}",
        r"abilities\.math: `alpha` is part of the pack",
    ),
    "key neurons that a pack holds": (
        "base: b\nabilities: {math: {pack: p, key_neurons: {k1: 5}}}",
        r"abilities\.math: `key_neurons` is part of the pack",
    ),
    "beta without a model": (
        "base: b\nabilities: {math: {ability: a, beta: 0.5}}",
        r"abilities\.math: beta is 0\.5, so `source_language` is needed",
    ),
    "an empty path": ("base: ''", r"base: empty; name a path or hub id"),
    "a strange name": ("base: b\nlanguages: {'s w/x': {checkpoint: c}}", r"languages\..*expected a name of letters"),
    "an empty document": ("", r"expected fields such as `base:`, found nothing"),
    "a list": ("- base", r"expected fields such as `base:`, found list"),
    "no YAML": ("base: [", r"line \d+: not valid YAML"),
    "a tab": ("base:\tb\n\teta: 1", r"not valid YAML"),
    "a control character": ("base: \x00", r"not valid YAML"),
    "a tag that runs code": ("base: !!python/object/apply:os.getcwd []", r"."),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_with_field_value_and_mend(case):
    text, pattern = WRONG[case]
    with pytest.raises(RecipeError, match=rf"^my\.yaml: .*{pattern}") as caught:
        Recipe.from_yaml(text, "my.yaml")
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_several_mistakes_are_counted():
    with pytest.raises(RecipeError, match=r"and 2 more"):
        Recipe.from_yaml("base: 5\neta: x\nnonsense: 1")


def test_a_file_that_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        Recipe.load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00base")
    with pytest.raises(RecipeError, match=r"binary\.yaml"):
        Recipe.load(tmp_path / "binary.yaml")
    with pytest.raises(RecipeError, match=r"cannot be read"):
        Recipe.load(tmp_path)


def refusal(action):
    """The one line that refuses, or None."""
    try:
        action()
    except RecipeError as error:
        message = str(error)
    else:
        return None
    assert message.strip()
    assert "\n" not in message
    return message


@given(st.text(max_size=60))
def test_no_text_at_all_makes_it_fall_over(text):
    refusal(lambda: Recipe.from_yaml(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda children: (
            st.lists(children, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["base", "abilities", "math", "ability", "tensors", "k2", "languages", "eta", "output"]
                ),
                children,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_no_content_at_all_makes_it_fall_over(content):
    if not isinstance(content, dict):
        content = {"base": "b", "abilities": content}
    if refusal(lambda: Recipe.from_dict(content)) is None:
        recipe = Recipe.from_dict(content)
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe
