"""The resident model: after any sequence of changes it holds, bit for bit, the weights of a fresh merge."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from models import add_tokenizer, logits, make_family, random_tensors, read_model, sibling, skeleton, write_model

from maet_core.errors import CheckpointError, InputError, RecipeError
from maet_core.key_slices import LARGEST_SHARE
from maet_core.live import LiveModel
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.sources import Sources


def recipe_of(**changes):
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {
                    "ability": "ability",
                    "source_language": "source",
                    "beta": 0.5,
                    "key_neurons": {"k1": 40.0, "granularity": "unit"},
                    "tensors": {"k2": 60.0},
                }
            },
            "languages": {"sw": {"checkpoint": "sw"}, "te": {"checkpoint": "te", "mu": 0.5}},
        }
        | changes
    )


def make_world(folder, architecture="llama", dtype="bfloat16", **changes):
    family = make_family(folder, architecture, dtype=dtype, seed=8, **changes)
    add_tokenizer(folder / "base")
    return family


def open_live(folder, recipe):
    return LiveModel(Sources.open(recipe, folder))


def bits(tensor):
    return tensor.detach().contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


def assert_same_weights(live, folder, tmp_path):
    """Every parameter against the model that transformers opens from a fresh merge."""
    output = tmp_path / f"fresh-{len(list(tmp_path.glob('fresh-*')))}"
    merge(live.recipe, folder, output, device="cpu")
    fresh = transformers.AutoModelForCausalLM.from_pretrained(output, dtype="auto").eval()
    expected, found = dict(fresh.named_parameters()), dict(live.model.named_parameters())
    assert set(found) == set(expected)
    for name, parameter in expected.items():
        assert parameter.dtype == found[name].dtype
        assert torch.equal(bits(found[name]), bits(parameter)), name
    assert torch.equal(logits(live.model), logits(fresh))


@pytest.mark.parametrize(
    ("architecture", "dtype", "changes"),
    [
        ("llama", "bfloat16", {"tie_word_embeddings": True}),
        ("llama", "float16", {}),
        ("qwen2", "float32", {}),
        ("gpt2", "bfloat16", {}),
        ("phi3", "float32", {}),
        ("gemma2", "bfloat16", {}),
        ("gpt_neox", "float32", {}),
        ("opt", "bfloat16", {}),
        ("mixtral", "bfloat16", {}),
        ("qwen2_moe", "float32", {}),
    ],
)
def test_any_sequence_of_changes_leaves_the_weights_of_a_fresh_merge(tmp_path, architecture, dtype, changes):
    folder = tmp_path / "world"
    make_world(folder, architecture, dtype, **changes)
    live = open_live(folder, recipe_of())
    assert_same_weights(live, folder, tmp_path)
    fields = {
        "abilities.math.alpha": lambda g: round(g.uniform(-1, 2), 2),
        "abilities.math.beta": lambda g: float(g.choice([0.0, 0.5, 1.0])),
        "abilities.math.gamma": lambda g: float(g.choice([0.0, 1.0, 1.5, -0.5])),
        "abilities.math.tensors.k2": lambda g: float(g.integers(0, 101)),
        "abilities.math.tensors.exclude": lambda g: [["*"], ["layer:0"], ["*.weight"], []][g.integers(4)],
        "abilities.math.key_neurons.k1": lambda g: float(g.choice([0.0, 5.0, 100.0])),
        "languages.sw.mu": lambda g: float(g.choice([0.0, 1.0, -1.0])),
        "languages.te.mu": lambda g: round(g.uniform(-1, 1), 2),
        "eta": lambda g: float(g.choice([0.0, 1.0, 0.5])),
        "scales": lambda g: [[], [{"tensors": "layer:0", "ability": 0.5, "languages": round(g.uniform(0, 2), 2)}]][
            g.integers(2)
        ],
    }
    generator = np.random.default_rng(0)
    recipe = live.recipe
    for step in range(12):
        field = list(fields)[generator.integers(len(fields))]
        value = fields[field](generator)
        recipe = recipe.with_value(field, value if isinstance(value, list) else float(value))
        live.apply(recipe)
        assert live.recipe == recipe
        if step % 3 == 2:
            assert_same_weights(live, folder, tmp_path)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    make_world(folder, tie_word_embeddings=True)
    return folder


def test_zero_coefficients_are_the_base_bit_for_bit(world):
    live = open_live(world, recipe_of())
    recipe = live.recipe
    for field in ("abilities.math.gamma", "languages.sw.mu", "languages.te.mu"):
        recipe = recipe.with_value(field, 0.0)
    changed = live.apply(recipe)
    assert changed.tensors > 0
    base = read_model(world / "base")
    state = live.model.state_dict()
    for name, tensor in base.items():
        assert torch.equal(bits(state[name]), bits(tensor)), name
    assert torch.equal(bits(state["lm_head.weight"]), bits(base["model.embed_tokens.weight"]))


def test_only_what_a_change_touches_is_rewritten(world):
    live = open_live(world, recipe_of())
    recipe = live.recipe
    assert live.apply(recipe).tensors == 0
    selected = live.selections["math"].tensors
    everything = len(read_model(world / "base"))
    gamma = live.apply(recipe.with_value("abilities.math.gamma", 2.0))
    assert gamma.tensors == len(selected) < everything
    sizes = {name: tensor.numel() for name, tensor in read_model(world / "base").items()}
    assert 0 < gamma.parameters <= sum(sizes[name] for name in selected)
    recipe = recipe.with_value("abilities.math.gamma", 2.0)
    assert live.apply(recipe.with_value("eta", 0.5)).tensors == len(selected)  # η acts inside T only
    recipe = recipe.with_value("eta", 0.5)
    assert live.apply(recipe.with_value("languages.sw.mu", 0.25)).tensors == everything


def test_gamma_moves_the_key_neurons_alone(world):
    recipe = recipe_of().with_value("abilities.math.key_neurons.k1", 10.0)
    live = open_live(world, recipe)
    keys = live.sources.abilities["math"].key_neurons
    masks = {name: keys.mask(name) for name in live.selections["math"].tensors}
    few = {name for name, mask in masks.items() if 0 < mask.sum() <= LARGEST_SHARE * mask.numel()}
    assert few
    changed = live.apply(recipe.with_value("abilities.math.gamma", 2.0))
    assert changed.parameters == sum(int(mask.sum()) if name in few else mask.numel() for name, mask in masks.items())


@pytest.mark.parametrize("granularity", ["unit", "parameter"])
@pytest.mark.parametrize(
    ("architecture", "dtype", "changes"),
    [
        ("llama", "bfloat16", {"intermediate_size": 37}),
        ("llama", "float16", {}),
        ("gpt2", "bfloat16", {}),
        ("mixtral", "bfloat16", {}),
    ],
)
def test_key_neurons_alone_move_wherever_they_lie(tmp_path, architecture, dtype, changes, granularity):
    """Whole rows, columns (an odd number of them) and single values, one value a word and two."""
    folder = tmp_path / "world"
    make_world(folder, architecture, dtype, **changes)
    content = recipe_of().to_dict()
    content["abilities"]["math"] |= {
        "key_neurons": {"k1": 15.0, "granularity": granularity, "scope": "per-tensor"},
        "tensors": {"k2": 100.0},
    }
    live = open_live(folder, Recipe.from_dict(content))
    keys = live.sources.abilities["math"].key_neurons
    chosen = sum(int(keys.mask(name).sum()) for name in keys.counts)
    for value in (-0.5, 2.0):
        assert live.apply(live.recipe.with_value("abilities.math.gamma", value)).parameters == chosen
    assert_same_weights(live, folder, tmp_path)


@pytest.mark.parametrize("room", ["all", "half", "none"])
def test_any_amount_of_memory_gives_the_same_weights(world, tmp_path, room):
    """Two abilities with key neurons of their own and a language, held in memory, in part, or read from the files each time."""
    content = recipe_of().to_dict()
    content["abilities"]["science"] = {
        "ability": "source",
        "key_neurons": {"k1": 15.0},
        "tensors": {"k2": 50.0},
        "gamma": 0.5,
    }
    content["abilities"]["math"]["key_neurons"]["k1"] = 10.0
    recipe = Recipe.from_dict(content)
    sources = Sources.open(recipe, world)
    needed = sum(file.nbytes for file in sources.files)
    live = LiveModel(sources, budget_bytes={"all": 10 * needed, "half": needed // 2, "none": 0}[room])
    assert (sum(len(file._held) > 0 for file in sources.files) == len(sources.files)) == (room == "all")
    for field, value in (
        ("abilities.math.gamma", 0.25),
        ("abilities.science.gamma", -1.0),
        ("abilities.math.tensors.k2", 20.0),
        ("abilities.science.key_neurons.k1", 5.0),
        ("abilities.math.gamma", 3.0),
        ("abilities.math.alpha", 0.0),
        ("eta", 0.25),
        ("abilities.math.alpha", 1.5),
    ):
        live.apply(live.recipe.with_value(field, value))
    assert_same_weights(live, world, tmp_path)


def test_another_order_is_another_recipe(world, tmp_path):
    """Sums in floating point depend on it, and so does which μ belongs to which language."""
    live = open_live(
        world, recipe_of(languages={"sw": {"checkpoint": "sw", "mu": 0.9}, "te": {"checkpoint": "te", "mu": 0.1}})
    )
    live.apply(recipe_of(languages={"te": {"checkpoint": "te", "mu": 0.3}, "sw": {"checkpoint": "sw", "mu": 0.7}}))
    assert_same_weights(live, world, tmp_path)
    live.apply(live.recipe.with_value("abilities.math.gamma", 0.4))
    assert_same_weights(live, world, tmp_path)


def test_nothing_is_written_to_disk(world):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    live = open_live(world, recipe_of())
    live.apply(live.recipe.with_value("eta", 0.5))
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_other_models_must_be_opened_anew(world):
    live = open_live(world, recipe_of())
    state = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    for other in (
        recipe_of(languages={"sw": {"checkpoint": "te"}}),
        recipe_of(abilities={}),
        recipe_of(base="source"),
    ):
        with pytest.raises(RecipeError, match="other models"):
            live.apply(other)
        assert live.recipe == recipe_of()
    assert all(torch.equal(tensor, state[name]) for name, tensor in live.model.state_dict().items())


def test_a_change_that_cannot_be_made_changes_nothing(tmp_path):
    """A value beyond float16 is found when half of the tensors may have been rewritten already."""
    make_world(tmp_path / "world", dtype="float16")
    live = open_live(tmp_path / "world", recipe_of())
    state = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    with pytest.raises(InputError, match="beyond"):
        live.apply(live.recipe.with_value("languages.sw.mu", 1e7))
    assert live.recipe == recipe_of()
    for name, tensor in live.model.state_dict().items():
        assert torch.equal(bits(tensor), bits(state[name])), name
    with pytest.raises(RecipeError, match="matches no tensor"):
        live.apply(live.recipe.with_value("abilities.math.tensors.include", ["*zzz*"]))
    with pytest.raises(RecipeError, match=r"^scales\.0\.tensors: 'layer:99' matches no tensor"):
        live.apply(live.recipe.with_value("scales", [{"tensors": "layer:99"}]))
    assert live.recipe == recipe_of()
    live.apply(live.recipe.with_value("languages.sw.mu", 0.5))
    assert_same_weights(live, tmp_path / "world", tmp_path)


def test_a_stored_tied_head_follows_its_embedding(tmp_path):
    """transformers ties the head to the embedding whatever the file says, so the embedding decides."""
    folder = tmp_path / "world"
    frame = skeleton("llama", tie_word_embeddings=True)
    base = random_tensors(frame.shapes, "float32", 1)
    for member, tensors in (("base", base), ("ability", sibling(base, 2)), ("sw", sibling(base, 3))):
        tensors = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
        write_model(folder / member, frame.config, tensors)
    add_tokenizer(folder / "base")
    recipe = Recipe.from_dict(
        {"base": "base", "abilities": {"math": {"ability": "ability"}}, "languages": {"sw": {"checkpoint": "sw"}}}
    )
    live = open_live(folder, recipe)
    assert_same_weights(live, folder, tmp_path)
    for exclude in (["lm_head.weight"], ["model.embed_tokens.weight"], []):
        live.apply(live.recipe.with_value("abilities.math.tensors.exclude", exclude))
        assert_same_weights(live, folder, tmp_path)


def test_an_answer_holds_the_weights_still(world):
    live = open_live(world, recipe_of())
    done = threading.Event()

    def change():
        live.apply(live.recipe.with_value("eta", 0.0))
        done.set()

    with live.lock:
        before = logits(live.model)
        thread = threading.Thread(target=change)
        thread.start()
        time.sleep(0.2)
        assert not done.is_set()
        assert torch.equal(logits(live.model), before)
    thread.join(10)
    assert done.is_set()
    assert not torch.equal(logits(live.model), before)


def test_a_model_that_transformers_keeps_in_another_shape_says_so(tmp_path, monkeypatch):
    """Clear words, not wrong weights, where a tensor of the checkpoint is nowhere in the model."""
    make_world(tmp_path, "mixtral", "float32")
    monkeypatch.setattr("maet_core.resident._renamed", lambda parameters, name, place: None)
    with pytest.raises(CheckpointError, match=r"block_sparse_moe.*merge to disk"):
        open_live(tmp_path, recipe_of())


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_what_an_answer_needs_is_named(tmp_path, missing):
    make_world(tmp_path)
    for file in (tmp_path / "base").glob(missing.replace("tokenizer.json", "tokenizer*")):
        file.unlink()
    with pytest.raises(CheckpointError, match=missing.partition(".")[0]):
        open_live(tmp_path, recipe_of())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at what the system has mapped")
def test_the_model_no_longer_needs_its_file(tmp_path):
    """Its weights will move: they lie in memory of their own, and whoever replaces the file does no harm. What is tied stays tied."""
    make_world(tmp_path, tie_word_embeddings=True)
    live = open_live(tmp_path, recipe_of())
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert live.model.lm_head.weight is live.model.model.embed_tokens.weight
    assert all(parameter.data_ptr() % 64 == 0 for parameter in live.model.parameters())
    assert_same_weights(live, tmp_path, tmp_path)
