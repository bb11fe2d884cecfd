"""Key neurons scaled in memory: what every weight becomes, and that nothing is left behind."""

import numpy as np
import pytest
import torch
from models import add_tokenizer, make_family, read_model

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.importance import locate, select_key_neurons
from maet_core.knockout import random_like, scaled
from maet_core.live import LiveModel
from maet_core.recipe import Recipe
from maet_core.resident import load_model, parameter_slots
from maet_core.sources import Sources


def keys_of(family, granularity="parameter", k1=10.0, scope="global"):
    base = Checkpoint.open(family.path("base"))
    trained = Models(base, family.folder).open("ability")
    return base, select_key_neurons(locate("value-change", base, trained, granularity), k1, scope)


def bits(model) -> dict[str, bytes]:
    return {name: value.detach().view(torch.uint8).numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3", "mixtral"])
def test_every_key_weight_is_multiplied_and_no_other(tmp_path, architecture, granularity):
    family = make_family(tmp_path, architecture, members=("ability",), dtype="bfloat16", seed=5)
    base, keys = keys_of(family, granularity)
    model = load_model(base)
    slots = parameter_slots(model, base)
    before = bits(model)
    for factor in (0.0, 0.3, 2.0):
        with scaled(model, base, keys, factor) as count:
            touched = 0
            for name, values in read_model(family.path("base")).items():
                mask = np.zeros(values.numel(), bool)
                if name in keys.scores.shapes:
                    mask = keys.mask(name).numpy()
                product = np.float32(factor) * values.float().numpy().ravel()
                expected = np.where(
                    mask, torch.from_numpy(product).bfloat16().float().numpy(), values.float().numpy().ravel()
                )
                np.testing.assert_array_equal(slots[name].values.float().numpy().ravel(), expected)
                touched += int(mask.sum())
            assert count == touched > 0
        assert bits(model) == before
    with scaled(model, base, keys, 1.0) as count:
        assert (count, bits(model)) == (0, before)


def test_an_error_inside_leaves_the_weights_as_they_were(llama):
    base, keys = keys_of(llama)
    model = load_model(base)
    before = bits(model)

    def fail():
        with scaled(model, base, keys, 0.0):
            assert bits(model) != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert bits(model) == before


def test_a_merged_model_gets_its_own_weights_back(tmp_path):
    llama = make_family(tmp_path, dtype="bfloat16", seed=6)
    add_tokenizer(llama.path("base"))
    recipe = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {"math": {"ability": "ability", "source_language": "source", "beta": 0.5}},
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.7}},
        }
    )
    live = LiveModel(Sources.open(recipe, llama.folder))
    _, keys = keys_of(llama)
    merged = bits(live.model)
    with scaled(live.model, live.sources.base, keys, 0.0):
        name = max(keys.counts, key=keys.counts.get)
        slot = parameter_slots(live.model, live.sources.base, check=False)[name]
        assert not slot.values.reshape(-1)[keys.mask(name)].any()
    assert bits(live.model) == merged
    live.apply(recipe.with_value("eta", 0.0))
    live.apply(recipe)
    assert bits(live.model) == merged


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_the_control_has_as_many_in_every_tensor(llama, granularity):
    _, keys = keys_of(llama, granularity)
    control, other = random_like(keys), random_like(keys, seed=1)
    assert control.counts == keys.counts
    for name in keys.scores.shapes:
        assert int(control.neurons(name).sum()) == int(keys.neurons(name).sum())
    assert any(not torch.equal(control.neurons(name), other.neurons(name)) for name in keys.scores.shapes)
    assert any(not torch.equal(control.neurons(name), keys.neurons(name)) for name in keys.scores.shapes)
