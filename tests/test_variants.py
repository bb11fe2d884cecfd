"""Models of several recipes at once: each is what a merge gives, and what they have in common is in memory once."""

import pytest
import torch
from models import add_tokenizer, make_family, read_model

from maet_core import variants
from maet_core.errors import RecipeError
from maet_core.merging import merge
from maet_core.presets import PRESETS
from maet_core.recipe import Recipe
from maet_core.resident import load_model, parameter_slots
from maet_core.sources import Sources
from maet_core.variants import NoRoom, Variants


def recipe_of(**changes) -> Recipe:
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {
                    "ability": "ability",
                    "source_language": "source",
                    "beta": 0.5,
                    "key_neurons": {"k1": 20.0},
                    "tensors": {"k2": 60.0},
                }
            },
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.5}},
        }
        | changes
    )


@pytest.fixture(
    scope="module", params=[("llama", "bfloat16", {"tie_word_embeddings": True}), ("mixtral", "float32", {})], ids=str
)
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    architecture, dtype, changes = request.param
    make_family(folder, architecture, dtype=dtype, seed=8, **changes)
    add_tokenizer(folder / "base")
    return folder


@pytest.fixture
def side_by_side(world) -> Variants:
    sources = Sources.open(recipe_of(), world)
    return Variants(sources, load_model(sources.base))


def slots_of(model, side_by_side) -> dict[str, torch.Tensor]:
    return {name: slot.values for name, slot in parameter_slots(model, side_by_side.sources.base, check=False).items()}


def test_each_is_what_a_merge_gives_and_the_base_stays_as_it_was(side_by_side, world, tmp_path):
    recipes = {name: preset(recipe_of()) for name, preset in PRESETS.items()}
    recipes["ties"] = recipe_of(
        method={"name": "ties", "density": 0.5}, abilities={"math": {"ability": "ability", "gamma": 0.5}}
    )
    sources = Sources.open(recipes["ties"], world)
    for name, recipe in recipes.items():
        pool = side_by_side if name != "ties" else Variants(sources, side_by_side.base_model)
        merge(recipe, world, tmp_path / name, device="cpu")
        expected = read_model(tmp_path / name)
        for tensor, values in slots_of(pool.model(recipe), side_by_side).items():
            assert torch.equal(values, expected[tensor]), (name, tensor)
    stored = read_model(world / "base")
    for tensor, values in slots_of(side_by_side.base_model, side_by_side).items():
        assert torch.equal(values, stored[tensor]), tensor


def test_what_two_have_in_common_is_there_once(side_by_side):
    first = side_by_side.model(recipe_of())
    second = side_by_side.model(PRESETS["languages-only"](recipe_of()))
    base = side_by_side.model(PRESETS["base"](recipe_of()))
    assert {id(p) for p in base.parameters()} == {id(p) for p in side_by_side.base_model.parameters()}
    assert side_by_side.model(recipe_of()) is first
    both = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert 0 < len(both) < len(list(first.parameters()))  # outside of T both are θ_o + R_Lang
    assert both - {id(p) for p in side_by_side.base_model.parameters()}


def test_only_the_last_few_are_kept_and_memory_is_asked_first(side_by_side, monkeypatch):
    first = side_by_side.model(recipe_of())
    for step in range(variants.MOST_MODELS):
        side_by_side.model(recipe_of(eta=2.0 + step))
    assert side_by_side.model(recipe_of()) is not first
    monkeypatch.setattr(variants, "SPARE_BYTES", 1 << 60)
    with pytest.raises(NoRoom, match="memory are free"):
        side_by_side.model(recipe_of(eta=9.0))


def test_other_models_must_be_opened_anew(side_by_side):
    with pytest.raises(RecipeError, match="other models"):
        side_by_side.model(recipe_of(languages={}))
