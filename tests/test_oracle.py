"""Random models, random recipes: the product against the float64 oracle.

The bound on every output value: one unit in the last place of the output's dtype around the oracle's float64 value (that
is "one rounding"), plus what accumulating in float32 cannot avoid: (8 + number of terms) · 2⁻²⁴ · Σ|terms| of Eq. 4, the
base included. For bfloat16 and float16 the second part only matters where terms cancel.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from hypothesis import example, given, note
from hypothesis import strategies as st
from models import (
    DTYPES,
    Tensors,
    layer_of,
    located,
    modules_of,
    random_tensors,
    read_model,
    read_pack,
    sibling,
    skeleton,
    unit_axis_of,
    write_model,
)
from safetensors.torch import load_file

from maet_core.importance import locate, save_scores
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.selection import measure
from maet_core.sources import Sources
from maet_core.weights.packs import write_pack

ARCHITECTURES = {
    "llama": {"tie_word_embeddings": True},
    "qwen2": {},
    "gpt2": {},
    "phi3": {},
    "mixtral": {"num_hidden_layers": 1},
    "gpt_neox": {"num_hidden_layers": 1},
    "gemma2": {"num_hidden_layers": 1},
    "opt": {"num_hidden_layers": 1},
}
MEMBERS = ("a1", "a2", "sparse", "stepped", "s1", "s2", "l1", "l2", "wide", "base-copy", "a1-copy")
FLOAT32_ROUNDING = 2.0**-24
SEED = 7  # of the random control


@dataclass(frozen=True)
class World:
    """Every model that a recipe may name, on disk and in memory."""

    folder: Path
    tensors: dict[str, Tensors]
    values: dict[str, oracle.Model]
    shapes: dict[str, tuple[int, ...]]
    known: bool

    @property
    def axes(self) -> dict[str, int | None]:
        return {name: unit_axis_of(name) if self.known else 0 for name in self.shapes}

    @property
    def ranked(self) -> list[str]:
        """Tensors whose neurons are located; without a table, the matrices inside layers."""
        if self.known:
            return located(self.shapes)
        return [name for name in sorted(self.shapes) if layer_of(name) is not None and len(self.shapes[name]) > 1]

    @property
    def places(self) -> dict[str, tuple[int | None, set[str]]]:
        """Layer and names for the pattern `module:`; without a table, the rest of the name after the layer."""
        if self.known:
            return {name: (layer_of(name), modules_of(name)) for name in self.shapes}
        return {
            name: (layer_of(name), {name.removesuffix(".weight").partition(".layers.")[2][2:]}) for name in self.shapes
        }


_folders = tempfile.TemporaryDirectory(prefix="maet-oracle-")


@cache
def world(architecture: str, dtype: str) -> World:
    frame = skeleton(architecture, **ARCHITECTURES[architecture])
    base = random_tensors(frame.shapes, dtype, seed=3)
    for tensor in base.values():
        tensor.view(-1)[::7] = -0.0  # must survive bit for bit
    stepped = {}
    generator = np.random.default_rng(4)
    for name, tensor in base.items():  # coarse steps: many importances are equal
        steps = torch.from_numpy(generator.choice([0, 0, 0.25, -0.25, 0.5], tuple(tensor.shape)))
        base[name] = tensor = ((tensor.double() * 64).round() / 64).to(tensor.dtype)
        stepped[name] = (tensor.double() + steps).to(tensor.dtype)
    tensors = {
        "base": base,
        "a1": sibling(base, 11, untouched=0.2),
        "a2": sibling(base, 12, density=0.5, untouched=0.5),
        "sparse": sibling(base, 13, density=0.03),
        "stepped": stepped,
        "s1": sibling(base, 14, density=0.8, untouched=0.2),
        "s2": sibling(base, 15, scale=0.01),
        "l1": sibling(base, 16, untouched=0.3),
        "l2": sibling(base, 17, density=0.2),
        # trained in another precision than the base
        "wide": sibling({name: tensor.float() for name, tensor in base.items()}, 18),
        "base-copy": dict(base),
    }
    tensors["a1-copy"] = dict(tensors["a1"])
    folder = Path(_folders.name, f"{architecture}-{dtype}")
    for name, content in tensors.items():
        write_model(folder / name, frame.config, content, shards=3 if name in ("base", "l1") else 1)
    return World(
        folder,
        tensors,
        {name: oracle.to_float64(t) for name, t in tensors.items()},
        frame.shapes,
        architecture != "opt",
    )


# --- random recipes ----------------------------------------------------------------------------------------------

coefficients = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]) | st.floats(-2, 2).map(lambda value: round(value, 3))
percents = st.sampled_from([0.0, 100.0, 50.0, 12.5, 5.0]) | st.floats(0, 100).map(lambda value: round(value, 2))
pattern = st.sampled_from(
    ["*", "*weight", "*.bias", "layer:0", "layer:0-1", "module:down_proj", "module:q_proj", "*norm*"]
)
patterns = st.lists(pattern, max_size=2)


@dataclass
class Keys:
    k1: float
    granularity: str
    scope: str
    saved: bool
    method: str = "value-change"

    def to_dict(self) -> dict:
        seed = {"seed": SEED} if self.method == "random" else {}
        return {"method": self.method, "k1": self.k1, "granularity": self.granularity, "scope": self.scope} | seed


@dataclass
class AbilityCase:
    ability: str
    source: str | None
    alpha: float
    beta: float
    keys: Keys | None
    packed: bool
    gamma: float
    k2: float
    include: list[str]
    exclude: list[str]


@dataclass
class Case:
    architecture: str
    dtype: str
    abilities: list[AbilityCase]
    languages: list[tuple[str, float, bool]] = field(default_factory=list)
    eta: float = 1.0
    output: str = "base"
    scales: list[tuple[str, float, float]] = field(default_factory=list)  # pattern, on R(A), on R_Lang


keys = st.builds(
    Keys,
    k1=percents,
    granularity=st.sampled_from(["parameter", "unit"]),
    scope=st.sampled_from(["global", "per-tensor"]),
    saved=st.booleans(),
    method=st.sampled_from(["value-change", "value-change", "random"]),
)
ability_cases = st.builds(
    AbilityCase,
    ability=st.sampled_from(["a1", "a2", "sparse", "stepped", "wide", "base-copy"]),
    source=st.sampled_from([None, "s1", "s2", "a1", "a1-copy", "base-copy"]),
    alpha=coefficients,
    beta=coefficients,
    keys=st.none() | keys,
    packed=st.booleans(),
    gamma=coefficients,
    k2=percents,
    include=patterns,
    exclude=patterns,
)
cases = st.builds(
    Case,
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    dtype=st.sampled_from(["float32", "bfloat16", "float16", "mixed"]),
    abilities=st.lists(ability_cases, min_size=1, max_size=2),
    languages=st.lists(
        st.tuples(st.sampled_from(["l1", "l2", "wide", "a1", "base-copy"]), coefficients, st.booleans()), max_size=3
    ),
    eta=coefficients,
    output=st.sampled_from(["base", "base", "base", "float32", "bfloat16"]),
    scales=st.just([]) | st.lists(st.tuples(pattern, coefficients, coefficients), max_size=3),
)


def existing_patterns(patterns: list[str], here: World) -> list[str]:
    """A pattern without a match is an error (another test), so only those that match stay."""
    weights = {name: np.ones(1) for name in here.shapes}
    return [p for p in patterns if oracle.select(weights, weights, 0, include=[p], places=here.places).tensors]


def existing_scales(case: Case, here: World) -> list[tuple[str, float, float]]:
    return [scale for scale in case.scales if existing_patterns([scale[0]], here)]


def as_recipe(case: Case, here: World, scratch: Path) -> Recipe:
    """The recipe, with packs and score files made by the product where the case asks for them."""
    abilities = {}
    for number, ability in enumerate(case.abilities):
        content: dict = {"ability": str(here.folder / ability.ability), "alpha": ability.alpha}
        if ability.source is not None:
            content |= {"source_language": str(here.folder / ability.source), "beta": ability.beta}
        if ability.keys is not None:
            content["key_neurons"] = ability.keys.to_dict()
        alone = {"base": str(here.folder / "base"), "abilities": {"it": content}}
        if ability.keys is not None and (ability.keys.saved or ability.keys.method == "random"):
            opened = Sources.open(Recipe.from_dict(alone))
            trained = opened.abilities["it"].ability
            scores = locate(ability.keys.method, opened.base, trained, ability.keys.granularity, SEED)
            save_scores(scores, scratch / f"scores{number}.safetensors")
            if ability.keys.saved:
                content["key_neurons"]["scores"] = str(scratch / f"scores{number}.safetensors")
        if ability.packed:
            opened = Sources.open(Recipe.from_dict(alone))
            pack = scratch / f"ability{number}.safetensors"
            write_pack("ability", opened.abilities["it"], opened.base, pack, {})
            content = {"pack": str(pack)}
        content |= {
            "gamma": ability.gamma,
            "tensors": {
                "k2": ability.k2,
                "include": existing_patterns(ability.include, here),
                "exclude": existing_patterns(ability.exclude, here),
            },
        }
        abilities[f"a{number}"] = content
    languages = {}
    for number, (member, mu, packed) in enumerate(case.languages):
        content = {"checkpoint": str(here.folder / member)}
        if packed:
            alone = {"base": str(here.folder / "base"), "languages": {"it": content}}
            opened = Sources.open(Recipe.from_dict(alone))
            pack = scratch / f"language{number}.safetensors"
            write_pack("language", opened.languages["it"], opened.base, pack, {})
            content = {"pack": str(pack)}
        languages[f"l{number}"] = content | {"mu": mu}
    return Recipe.from_dict(
        {
            "base": str(here.folder / "base"),
            "abilities": abilities,
            "languages": languages,
            "eta": case.eta,
            "scales": [
                {"tensors": pattern, "ability": ability, "languages": languages}
                for pattern, ability, languages in existing_scales(case, here)
            ],
            "output": {"dtype": case.output},
        }
    )


# --- the comparison ----------------------------------------------------------------------------------------------


def key_masks(ability: AbilityCase, here: World, saved: Path) -> dict[str, np.ndarray] | None:
    if ability.keys is None:
        return None
    trained, granularity = here.values[ability.ability], ability.keys.granularity
    if ability.keys.method == "random":  # the numbers are the product's, what is made of them is not
        scores = oracle.to_float64(load_file(saved))
        assert set(scores) == set(here.ranked)
    else:
        scores = oracle.importance(trained, here.values["base"], here.ranked, granularity, here.axes)
    masks = oracle.key_neurons(scores, ability.keys.k1, ability.keys.scope)
    if granularity == "unit":
        return {name: oracle.unit_mask(mask, here.shapes[name], here.axes[name]) for name, mask in masks.items()}
    return masks


def assert_close(found: Tensors, expected: oracle.Model, magnitude: oracle.Model, terms: int, case: Case) -> None:
    for name, values in expected.items():
        tensor = found[name]
        bound = oracle.ulp(values, tensor.dtype) + (8 + terms) * FLOAT32_ROUNDING * magnitude[name]
        error = np.abs(tensor.double().numpy() - values)
        worst = np.unravel_index(np.argmax(error - bound), error.shape)
        assert (error <= bound).all(), (
            f"{name}{list(map(int, worst))}: found {tensor.double().numpy()[worst]!r}, expected {values[worst]!r} "
            f"± {bound[worst]:.3g} ({tensor.dtype})"
        )


def check(case: Case) -> None:
    here = world(case.architecture, case.dtype)
    base = here.values["base"]
    with tempfile.TemporaryDirectory(prefix="maet-case-") as name:
        scratch = Path(name)
        recipe = as_recipe(case, here, scratch)
        note(recipe.to_yaml())
        report = merge(recipe, scratch, scratch / "out", device="cpu")
        found = read_model(scratch / "out")
        selections = measure(Sources.open(recipe, scratch)).select(recipe)

        abilities = []
        for number, ability in enumerate(case.abilities):
            source = here.values[ability.source] if ability.source else None
            masks = key_masks(ability, here, scratch / f"scores{number}.safetensors")
            weights = oracle.ability_weights(
                base, here.values[ability.ability], source, ability.alpha, ability.beta, masks
            )
            if ability.packed:
                stored = read_pack(scratch / f"ability{number}.safetensors", here.shapes)
                for key, values in weights.items():
                    size = np.abs(ability.alpha * (here.values[ability.ability][key] - base[key]))
                    if source is not None:
                        size = size + np.abs(ability.beta * (source[key] - base[key]))
                    assert (np.abs(stored[key] - values) <= 6 * FLOAT32_ROUNDING * size).all(), key
                weights = stored
            abilities.append(weights)
        language_parts = []
        for number, (member, mu, packed) in enumerate(case.languages):
            weights = {key: here.values[member][key] - base[key] for key in base}
            if packed:
                stored = read_pack(scratch / f"language{number}.safetensors", here.shapes)
                for key, values in weights.items():
                    assert (np.abs(stored[key] - values) <= 2 * FLOAT32_ROUNDING * np.abs(values)).all(), key
                weights = stored
            language_parts.append((mu, weights))

    languages = oracle.language_sum(language_parts, base)
    chosen = []
    for (key, rule), weights in zip(recipe.abilities.items(), abilities, strict=True):
        rule = rule.tensors
        expected = oracle.select(weights, languages, rule.k2, rule.include, rule.exclude, here.places)
        rows = {row.name: row for row in selections[key].rows}
        assert set(rows) == set(expected.cosines)
        for tensor, row in rows.items():
            # float32 differences of float32 models are rounded once each; those of 16-bit models are exact
            assert row.cosine == pytest.approx(expected.cosines[tensor], abs=1e-7), tensor
            assert row.selected == (tensor in expected.tensors), tensor
            assert row.by == ("hand" if tensor in expected.by_hand else "rule"), tensor
        assert selections[key].tensors == expected.tensors
        chosen.append(expected.tensors)

    scales = existing_scales(case, here)
    on_ability = [(pattern, factor) for pattern, factor, _ in scales]
    on_languages = [(pattern, factor) for pattern, _, factor in scales]
    abilities = [oracle.scaled(weights, on_ability, here.places) for weights in abilities]
    language_parts = [(mu, oracle.scaled(weights, on_languages, here.places)) for mu, weights in language_parts]
    languages = oracle.language_sum(language_parts, base)
    factors = oracle.scaled(dict.fromkeys(base, 1.0), on_ability, here.places)
    gammas = [ability.gamma for ability in case.abilities]
    merged = oracle.merge(base, list(zip(gammas, abilities, chosen, strict=True)), case.eta, languages)
    magnitude = {}
    for key in base:
        inside = [i for i, tensors in enumerate(chosen) if key in tensors]
        eta = case.eta if inside else 1.0
        magnitude[key] = np.abs(base[key])
        for i in inside:
            ability = case.abilities[i]
            parts = np.abs(abilities[i][key])
            if not ability.packed:
                parts = np.abs(ability.alpha * (here.values[ability.ability][key] - base[key]))
                if ability.source:
                    parts = parts + np.abs(ability.beta * (here.values[ability.source][key] - base[key]))
                parts = parts * abs(factors[key])
            magnitude[key] = magnitude[key] + np.abs(gammas[i]) * parts
        for mu, weights in language_parts:
            magnitude[key] = magnitude[key] + np.abs(eta * mu * weights[key])
    terms = 2 * len(abilities) + len(language_parts)
    assert set(found) == set(here.shapes)
    for key, tensor in found.items():
        own = here.tensors["base"][key].dtype
        assert tensor.dtype == (own if case.output == "base" else DTYPES[case.output]), key
    assert_close(found, merged, magnitude, terms, case)

    changed = {}
    for key, tensor in found.items():
        original = here.tensors["base"][key].to(tensor.dtype)
        still = torch.from_numpy(magnitude[key] == np.abs(base[key]))  # nothing is added there: bit for bit the base
        width = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
        assert torch.equal(tensor.view(width)[still], original.view(width)[still]), key
        changed[key] = int((tensor != original).sum())
    assert report.tensors_changed == sum(count > 0 for count in changed.values())
    assert report.parameters_changed == sum(changed.values())


_PLAIN = AbilityCase("a1", "s1", 1.0, 0.5, None, False, 1.0, 100.0, [], [])


@given(cases)
@example(Case("llama", "bfloat16", [_PLAIN], [("l1", 1.0, False), ("l2", 0.5, True)]))
@example(Case("llama", "float16", [_PLAIN], [("l1", 1.0, False)], 0.5, scales=[("layer:0", 0.5, 2.0), ("module:down_proj", -1.0, 0.0)]))  # fmt: skip
@example(Case("gpt2", "float32", [AbilityCase("stepped", None, 1.0, 0.0, Keys(12.5, "unit", "global", True), True, 2.0, 50.0, [], [])], [("l1", 1.0, False)], -0.5))  # fmt: skip
@example(Case("phi3", "mixed", [AbilityCase("a1", "a1-copy", 1.0, 1.0, None, False, 1.0, 50.0, ["*"], [])], [("l1", 1.0, False)]))  # fmt: skip
@example(Case("mixtral", "float16", [AbilityCase("a1", None, 1.0, 0.0, None, False, 0.0, 33.3, [], []), _PLAIN], [("a1", 1.0, False), ("a1", -1.0, False)]))  # fmt: skip
def test_every_value_and_every_choice_agree_with_the_oracle(case):
    check(case)


@given(
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    dtype=st.sampled_from(["float32", "bfloat16", "float16", "mixed"]),
    way=st.sampled_from(["gamma", "alpha-beta", "k1", "same-model"]),
    k2=percents,
    eta=coefficients,
)
def test_without_coefficients_the_base_comes_back_bit_for_bit(architecture, dtype, way, k2, eta):
    here = world(architecture, dtype)
    ability = {
        "ability": str(here.folder / "a1"),
        "source_language": str(here.folder / "s1"),
        "alpha": 1.0,
        "beta": 0.5,
    }
    ability |= {
        "gamma": {"gamma": 0.0},
        "alpha-beta": {"alpha": 0.0, "beta": 0.0},
        "k1": {"key_neurons": {"k1": 0.0}},
        "same-model": {"ability": str(here.folder / "base-copy"), "source_language": str(here.folder / "base-copy")},
    }[way]
    recipe = Recipe.from_dict(
        {
            "base": str(here.folder / "base"),
            "abilities": {"math": ability | {"tensors": {"k2": k2}}},
            "languages": {"sw": {"checkpoint": str(here.folder / "l1"), "mu": 0.0}},
            "eta": eta,
        }
    )
    with tempfile.TemporaryDirectory(prefix="maet-zero-") as name:
        report = merge(recipe, ".", Path(name, "out"), device="cpu")
        found = read_model(Path(name, "out"))
    assert report.tensors_changed == report.parameters_changed == 0
    for key, tensor in here.tensors["base"].items():
        width = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
        assert torch.equal(found[key].view(width), tensor.view(width)), key


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_an_exact_sum_is_rounded_once_to_even(dtype, tmp_path):
    """Where float32 holds the sum exactly there is only one right answer, also half way between two numbers."""
    frame = skeleton("llama", num_hidden_layers=1)
    generator = np.random.default_rng(9)
    base, sw = {}, {}
    for name, shape in frame.shapes.items():
        values = generator.integers(-255, 256, shape) / 64  # at most 8 significant bits
        base[name] = torch.from_numpy(values).to(DTYPES[dtype])
        sw[name] = torch.from_numpy(values + generator.integers(-64, 65, shape) / 512).float()
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "sw", frame.config, sw)
    recipe = Recipe.from_dict({"base": "base", "languages": {"sw": {"checkpoint": "sw", "mu": 0.5}}})
    merge(recipe, tmp_path, tmp_path / "out", device="cpu")
    halves = 0
    for name, tensor in read_model(tmp_path / "out").items():
        values = base[name].double().numpy()
        exact = values + 0.5 * (sw[name].double().numpy() - values)
        assert np.array_equal(tensor.double().numpy(), oracle.round_to(exact, DTYPES[dtype])), name
        halves += int(
            (np.abs(exact - oracle.round_to(exact, DTYPES[dtype])) == oracle.ulp(exact, DTYPES[dtype]) / 2).sum()
        )
    assert halves > 50 or dtype != "bfloat16"


# --- the oracle itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(DTYPES.values()))
def test_the_oracle_rounds_as_the_hardware_does(dtype):
    generator = np.random.default_rng(0)
    values = generator.normal(size=4000) * 10.0 ** generator.integers(-7, 4, 4000)
    rounded = oracle.round_to(values, dtype)
    assert np.array_equal(rounded, torch.from_numpy(values).to(dtype).double().numpy())
    # ties go to even: exactly half way between two neighbours
    half = rounded[:50] + oracle.ulp(rounded[:50], dtype) / 2
    assert [oracle.round_exactly(value, dtype) for value in half] == list(oracle.round_to(half, dtype))


@pytest.mark.parametrize(
    ("percent", "total", "count"),
    [(0.3, 1000, 3), (0.35, 1000, 4), (2.5, 100, 3), (2.5, 60, 2), (50, 1, 1), (49.9, 1, 0), (0, 9, 0), (100, 9, 9)],
)
def test_the_oracle_counts_half_up(percent, total, count):
    assert oracle.count_of(percent, total) == count
