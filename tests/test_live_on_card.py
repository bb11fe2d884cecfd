"""Live weights that are computed on a card: bit for bit those of a fresh merge, wherever the inputs lie.

Without a card the same code runs on torch's own CPU device, with torch's operations in place of the fused kernel; with Triton and its
interpreter (TRITON_INTERPRET=1) the kernel itself runs there.
"""

import importlib.util
import os
import random

import pytest
import torch
import transformers
from models import add_tokenizer, make_family
from safetensors.torch import load_file, save_file

from maet_core.errors import CheckpointError, InputError
from maet_core.live import LiveModel
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.sources import Sources

CUDA = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None
WAYS = ["torch", *(["kernel"] if CUDA or INTERPRETED else [])]
pytestmark = [pytest.mark.cuda] if CUDA else []  # there every test of this file computes on the card

KEYS = {
    "none": None,
    "parameters": {"k1": 12.0},
    "many parameters": {"k1": 60.0},
    "units": {"k1": 15.0, "granularity": "unit"},
    "per tensor": {"k1": 10.0, "scope": "per-tensor"},
    "random": {"k1": 20.0, "method": "random"},
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """The device to open a model on; there, the kernel or torch's operations compute."""
    from maet_core.live_on_card import weights
    from maet_core.live_on_card.jobs import ByTorch

    monkeypatch.setattr("maet_core.live.computes", lambda device: True)
    if request.param == "torch":
        monkeypatch.setattr(weights, "executor_for", lambda device: ByTorch())
    elif not CUDA:
        from maet_core.live_on_card.launch import ByKernel

        monkeypatch.setattr(weights, "executor_for", ByKernel)
    return "cuda" if CUDA else "cpu"


def recipe_of(keys=None, other_keys=None, **changes):
    math = {"ability": "ability", "source_language": "source", "alpha": 0.9, "beta": 0.3, "gamma": 0.7}
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": math | {"key_neurons": keys, "tensors": {"k2": 60.0}},
                "other": {"ability": "te", "key_neurons": other_keys, "gamma": -0.4},
            },
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.35}, "te": {"checkpoint": "te", "mu": 0.5}},
            "eta": 0.6,
        }
        | changes
    )


def make_world(folder, architecture="llama", dtype="bfloat16", **changes):
    make_family(folder, architecture, dtype=dtype, seed=8, **changes)
    add_tokenizer(folder / "base")


def open_live(folder, recipe, device, host_bytes=1 << 40, card_bytes=1 << 40):
    return LiveModel(Sources.open(recipe, folder), device, host_bytes, card_bytes=card_bytes)


def bits(tensor):
    return (
        tensor.detach().cpu().contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
    )


def assert_same_weights(live, folder, tmp_path):
    output = tmp_path / f"fresh-{len(list(tmp_path.glob('fresh-*')))}"
    merge(live.recipe, folder, output, device="cpu")
    fresh = transformers.AutoModelForCausalLM.from_pretrained(output, dtype="auto")
    found = dict(live.model.named_parameters())
    for name, parameter in fresh.named_parameters():
        assert torch.equal(bits(found[name]), bits(parameter)), name


def change_often(live, folder, tmp_path, steps=9, seed=0):
    """Random values in random places; every third change is compared."""
    draw = random.Random(seed)
    values = {
        "abilities.math.alpha": (0.0, 1.3, -0.7),
        "abilities.math.beta": (0.0, 0.5, 1.0),
        "abilities.math.gamma": (0.0, 1.0, 2.5, -0.5),
        "abilities.other.gamma": (0.0, 0.3, -1.1),
        "abilities.math.tensors.k2": (0.0, 30.0, 100.0),
        "languages.sw.mu": (0.0, 1.0, -1.0, 0.37),
        "languages.te.mu": (0.0, 0.11),
        "eta": (0.0, 1.0, 0.5),
    }
    if live.recipe.abilities["math"].key_neurons is not None:
        values["abilities.math.key_neurons.k1"] = (0.0, 5.0, 100.0)
        values["abilities.math.gamma"] *= 3
    for step in range(steps):
        field = draw.choice([name for name, of in values.items() for _ in of])
        live.apply(live.recipe.with_value(field, draw.choice(values[field])))
        if step % 3 == 2:
            assert_same_weights(live, folder, tmp_path)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "mixed"])
def test_any_sequence_of_changes_leaves_the_weights_of_a_fresh_merge(tmp_path, way, dtype, keys):
    make_world(tmp_path / "world", dtype=dtype)
    live = open_live(tmp_path / "world", recipe_of(KEYS[keys]), way)
    assert_same_weights(live, tmp_path / "world", tmp_path)
    change_often(live, tmp_path / "world", tmp_path)


@pytest.mark.parametrize("keys", ["none", "parameters", "units"])
@pytest.mark.parametrize(
    ("card_bytes", "host_bytes"), [(0, 1 << 40), (12_000, 1 << 40), (12_000, 12_000), (0, 0)], ids=str
)
def test_what_has_no_room_on_the_card_comes_from_host_memory_or_from_the_files(
    tmp_path, way, card_bytes, host_bytes, keys
):
    make_world(tmp_path / "world")
    live = open_live(tmp_path / "world", recipe_of(KEYS[keys]), way, host_bytes, card_bytes)
    held = live._cards._inputs.held.values()
    assert any(one.on_card for one in held) == (card_bytes > 0)
    assert any(not one.on_card for one in held) == (host_bytes > 0)
    change_often(live, tmp_path / "world", tmp_path, steps=6, seed=card_bytes + host_bytes)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("llama", {"tie_word_embeddings": True}), ("qwen3_moe", {}), ("gpt2", {}), ("llama", {"intermediate_size": 21})],
    ids=["tied", "experts", "gpt2", "odd size"],
)
def test_other_shapes(tmp_path, way, architecture, changes):
    make_world(tmp_path / "world", architecture, **changes)
    live = open_live(tmp_path / "world", recipe_of(KEYS["units"]), way)
    change_often(live, tmp_path / "world", tmp_path, steps=6)


def test_a_value_that_the_dtype_cannot_hold_is_refused_and_the_weights_stay(tmp_path, way):
    make_world(tmp_path / "world", dtype="float16")
    live = open_live(tmp_path / "world", recipe_of(), way)
    with pytest.raises(InputError, match="beyond 65504"):
        live.apply(live.recipe.with_value("eta", 1e9))
    assert live.recipe.eta == 0.6
    assert_same_weights(live, tmp_path / "world", tmp_path)


def test_a_damaged_input_is_named(tmp_path, way):
    make_world(tmp_path / "world")
    path = tmp_path / "world" / "sw" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "down_proj" in name)
    tensors[name].view(-1)[3] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"sw.*{name}"):
        open_live(tmp_path / "world", recipe_of(), way)
