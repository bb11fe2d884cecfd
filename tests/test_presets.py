"""Presets: what is left in the sum, and that each of them is a recipe that can be merged."""

import pytest
import torch
from models import read_model

from maet_core.merging import merge
from maet_core.presets import PRESETS, paper_like, task_vector
from maet_core.recipe import Recipe


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {
                    "ability": "ability",
                    "source_language": "source",
                    "alpha": 0.8,
                    "beta": 0.5,
                    "key_neurons": {"k1": 20.0},
                    "gamma": 0.7,
                    "tensors": {"k2": 50.0, "exclude": ["layer:0"]},
                }
            },
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.6}},
            "eta": 0.5,
            "scales": [{"tensors": "layer:0", "ability": 0.0}],
        }
    )


def values(llama, tmp_path, recipe: Recipe) -> dict:
    merge(recipe, llama.folder, tmp_path / "out", device="cpu")
    return {name: tensor.double() for name, tensor in read_model(tmp_path / "out").items()}


def test_base_is_the_base(llama, tmp_path, recipe):
    found = values(llama, tmp_path, PRESETS["base"](recipe))
    assert all(torch.equal(found[name], tensor.double()) for name, tensor in llama.tensors["base"].items())


@pytest.mark.parametrize(("preset", "gamma", "mu"), [("languages-only", 0.0, 0.6), ("task-vector", 0.7, 0.5 * 0.6)])
def test_what_is_left_in_the_sum(llama, tmp_path, recipe, preset, gamma, mu):
    found = values(llama, tmp_path, PRESETS[preset](recipe))
    for name, tensor in llama.tensors["base"].items():
        base = tensor.double()
        ability, language = (llama.tensors[member][name].double() - base for member in ("ability", "sw"))
        expected = base + gamma * ability + mu * language
        assert torch.allclose(found[name], expected, rtol=2**-8, atol=1e-6), name


def test_paper_like_has_every_part_and_keeps_the_models(recipe):
    ability = paper_like(recipe).abilities["math"]
    assert (ability.key_neurons.k1, ability.tensors.k2, ability.beta) == (5.0, 80.0, 0.5)
    assert ability.tensors.exclude == []
    assert (ability.ability, ability.source_language) == ("ability", "source")


def test_packs_and_missing_checkpoints_are_no_obstacle(recipe):
    packed = Recipe.from_dict({"base": "base", "abilities": {"math": {"pack": "math.safetensors"}}})
    alone = Recipe.from_dict({"base": "base", "abilities": {"math": {"ability": "ability"}}})
    for preset in PRESETS.values():
        assert preset(packed).abilities["math"].pack == "math.safetensors"
        assert preset(alone).abilities["math"].beta == 0
    assert task_vector(packed).method.name == "task-arithmetic"
