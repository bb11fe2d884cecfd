"""Ability packs and language packs: the weights of the equations, small where they are sparse, and tied to their base."""

import json

import numpy as np
import oracle
import pytest
import torch
from models import (
    located,
    make_family,
    random_tensors,
    read_model,
    read_pack,
    save_adapter,
    sibling,
    skeleton,
    write_model,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maet_core.errors import CheckpointError, InputError, OutputError, PackError
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.weights.packs import PackDifference, write_pack


def write_ability(folder, output, **ability):
    sources = Sources.open(Recipe.from_dict({"base": "base", "abilities": {"it": ability}}), folder)
    return write_pack("ability", sources.abilities["it"], sources.base, output, {"made_from": ability})


def write_language(folder, output, checkpoint):
    recipe = Recipe.from_dict({"base": "base", "languages": {"it": {"checkpoint": checkpoint}}})
    sources = Sources.open(recipe, folder)
    return write_pack("language", sources.languages["it"], sources.base, output, {})


def forms(path):
    return {key.split("::")[1] for key in load_file(path)}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pack_holds_equation_2(tmp_path, architecture, dtype):
    family = make_family(tmp_path, architecture, ("ability", "source"), dtype, density=0.3, untouched=0.3)
    path = tmp_path / "math.safetensors"
    result = write_ability(tmp_path, path, ability="ability", source_language="source", alpha=1.5, beta=0.5)
    values = {key: oracle.to_float64(tensors) for key, tensors in family.tensors.items()}
    expected = oracle.ability_weights(values["base"], values["ability"], values["source"], 1.5, 0.5)
    found = read_pack(path, {name: tuple(tensor.shape) for name, tensor in family.tensors["base"].items()})
    for name, weights in expected.items():
        size = 1.5 * np.abs(values["ability"][name] - values["base"][name]) + 0.5 * np.abs(
            values["source"][name] - values["base"][name]
        )
        assert (np.abs(found[name] - weights) <= 6 * 2.0**-24 * size).all(), name
        assert ((found[name] == 0) == (weights == 0)).all(), name
    assert result["tensors"] == sum(weights.any() for weights in expected.values())
    assert result["values"] == sum(np.count_nonzero(weights) for weights in expected.values())
    assert result["bytes_written"] == path.stat().st_size
    assert not list(tmp_path.glob(".*part*"))


def test_the_forms_are_the_smallest_and_all_say_the_same(tmp_path):
    frame = skeleton("llama")
    base = random_tensors(frame.shapes, "float32", 1)
    trained = {name: tensor.clone() for name, tensor in base.items()}
    trained["model.layers.0.mlp.gate_proj.weight"][[3, 20]] += 1  # two rows
    trained["model.layers.0.mlp.down_proj.weight"][:, [0, 5, 23]] += 1  # three columns
    trained["model.layers.1.mlp.up_proj.weight"][2, 3] += 1  # one value
    trained["model.layers.1.mlp.down_proj.weight"] += 1  # everything
    trained["model.norm.weight"][5] += 1
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "sw", frame.config, trained)
    path = tmp_path / "sw.safetensors"
    write_language(tmp_path, path, "sw")
    stored = load_file(path)
    assert set(stored) == {
        "model.layers.0.mlp.gate_proj.weight::rows.index",
        "model.layers.0.mlp.gate_proj.weight::rows.value",
        "model.layers.0.mlp.down_proj.weight::columns.index",
        "model.layers.0.mlp.down_proj.weight::columns.value",
        "model.layers.1.mlp.up_proj.weight::scattered.index",
        "model.layers.1.mlp.up_proj.weight::scattered.value",
        "model.layers.1.mlp.down_proj.weight::dense",
        "model.norm.weight::scattered.index",
        "model.norm.weight::scattered.value",
    }
    found = read_pack(path, frame.shapes)
    for name in base:
        assert np.array_equal(found[name], (trained[name] - base[name]).double().numpy()), name
    whole = sum(tensor.nbytes for tensor in base.values())
    assert path.stat().st_size < whole / 2


def test_key_neurons_make_a_pack_small(tmp_path):
    make_family(tmp_path, "llama", ("ability",), hidden_size=64, intermediate_size=128)
    sizes = {}
    for k1 in (1, 10, 100):
        path = tmp_path / f"{k1}.safetensors"
        write_ability(tmp_path, path, ability="ability", key_neurons={"k1": k1, "granularity": "unit"})
        sizes[k1] = path.stat().st_size
    assert sizes[1] < sizes[10] / 3 < sizes[100] / 6
    assert forms(tmp_path / "1.safetensors") <= {"rows.index", "rows.value", "columns.index", "columns.value", "scattered.index", "scattered.value"}  # fmt: skip


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_merging_from_packs_is_merging_from_the_models(tmp_path, architecture):
    """Exactly, where α is 1 and β is 0: the pack holds the very differences."""
    make_family(tmp_path, architecture, ("ability", "sw"), "bfloat16", density=0.2)
    write_ability(tmp_path, tmp_path / "math.safetensors", ability="ability", key_neurons={"k1": 20})
    write_language(tmp_path, tmp_path / "sw.safetensors", "sw")
    common = {"gamma": 0.7, "tensors": {"k2": 60}}
    direct = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {"math": {"ability": "ability", "key_neurons": {"k1": 20}} | common},
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.5}},
        }
    )
    packed = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {"math": {"pack": "math.safetensors"} | common},
            "languages": {"sw": {"pack": "sw.safetensors", "mu": 0.5}},
        }
    )
    merge(direct, tmp_path, tmp_path / "one", device="cpu")
    merge(packed, tmp_path, tmp_path / "two", device="cpu")
    one, two = read_model(tmp_path / "one"), read_model(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_pack_of_adapters(tmp_path):
    make_family(tmp_path, "llama", ())
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2, lora_alpha=2, target_modules=["q_proj"])
    result = write_ability(tmp_path, tmp_path / "math.safetensors", ability="adapter")
    assert result["tensors"] == 2
    merge(
        Recipe.from_dict({"base": "base", "abilities": {"math": {"pack": "math.safetensors"}}}),
        tmp_path,
        tmp_path / "a",
    )
    merge(Recipe.from_dict({"base": "base", "abilities": {"math": {"ability": "adapter"}}}), tmp_path, tmp_path / "b")
    one, two = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_nothing_learned_is_an_empty_pack_that_merges(tmp_path):
    family = make_family(tmp_path, "llama", ())
    write_model(tmp_path / "same", family.config, family.tensors["base"])
    result = write_language(tmp_path, tmp_path / "none.safetensors", "same")
    assert (result["tensors"], result["values"]) == (0, 0)
    report = merge(
        Recipe.from_dict({"base": "base", "languages": {"sw": {"pack": "none.safetensors"}}}),
        tmp_path,
        tmp_path / "out",
    )
    assert report.parameters_changed == 0


def test_a_pack_says_where_it_comes_from(tmp_path):
    make_family(tmp_path, "llama", ("ability",))
    path = tmp_path / "math.safetensors"
    write_ability(tmp_path, path, ability="ability")
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["maet"])
    base = Sources.open(Recipe(base="base"), tmp_path).base
    assert metadata["base"] == base.identity
    assert metadata["kind"] == "ability"
    assert metadata["made_from"] == {"ability": "ability"}
    assert "maet_version" in metadata


def test_float64_models_keep_their_precision(tmp_path):
    frame = skeleton("llama")
    base = {name: tensor.double() for name, tensor in random_tensors(frame.shapes, "float32", 1).items()}
    trained = {name: tensor + 1e-12 * torch.ones_like(tensor) for name, tensor in base.items()}
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "sw", frame.config, trained)
    write_language(tmp_path, tmp_path / "sw.safetensors", "sw")
    for languages in ({"pack": "sw.safetensors"}, {"checkpoint": "sw"}):
        recipe = Recipe.from_dict({"base": "base", "languages": {"sw": languages | {"mu": 0.5}}})
        merge(recipe, tmp_path, tmp_path / next(iter(languages)), device="cpu")
        for name, tensor in read_model(tmp_path / next(iter(languages))).items():
            expected = base[name] + 0.5 * (trained[name] - base[name])
            assert tensor.dtype == torch.float64
            assert torch.allclose(tensor, expected, rtol=0, atol=1e-15), name


# --- refused -------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    """base, ability, another base, and one pack of each kind."""
    family = make_family(tmp_path, "llama", ("ability", "sw"), density=0.05)
    write_model(tmp_path / "other", family.config, sibling(family.tensors["base"], 77))
    write_ability(tmp_path, tmp_path / "math.safetensors", ability="ability")
    write_language(tmp_path, tmp_path / "sw.safetensors", "sw")
    return family


def merge_with(tmp_path, base="base", ability=None, language=None):
    content = {"base": base}
    if ability:
        content["abilities"] = {"math": {"pack": ability}}
    if language:
        content["languages"] = {"sw": {"pack": language}}
    try:
        return merge(Recipe.from_dict(content), tmp_path, tmp_path / "out", device="cpu")
    finally:
        leftovers = [path.name for path in tmp_path.iterdir() if "out" in path.name and path.name != "out"]
        assert leftovers == []


def test_another_base_is_refused_with_both_identities(packed, tmp_path):
    identity = Sources.open(Recipe(base="base"), tmp_path).base.identity
    other = Sources.open(Recipe(base="other"), tmp_path).base.identity
    for kwargs in ({"ability": "math.safetensors"}, {"language": "sw.safetensors"}):
        with pytest.raises(PackError, match=identity) as caught:
            merge_with(tmp_path, base="other", **kwargs)
        assert other in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_the_other_kind_is_refused(packed, tmp_path):
    with pytest.raises(PackError, match=r"abilities\.math\.pack.*sw\.safetensors.*language"):
        merge_with(tmp_path, ability="sw.safetensors")
    with pytest.raises(PackError, match=r"languages\.sw\.pack.*math\.safetensors.*ability"):
        merge_with(tmp_path, language="math.safetensors")


def test_a_model_or_nothing_where_a_pack_should_be(packed, tmp_path):
    with pytest.raises(PackError, match="maet pack"):
        merge_with(tmp_path, ability="ability/model.safetensors")
    for name in ("absent.safetensors", "ability"):
        with pytest.raises(PackError, match=name):
            merge_with(tmp_path, ability=name)


def damage(path, change):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def first(tensors, end):
    return next(key for key in sorted(tensors) if key.endswith(end))


def set_index(value):
    def change(tensors, metadata):
        tensors[first(tensors, ".index")][0] = value

    return change


def set_value(value):
    def change(tensors, metadata):
        tensors[first(tensors, ".value")].view(-1)[0] = value

    return change


def drop(end):
    return lambda tensors, metadata: tensors.pop(first(tensors, end))


def rename(tensors, metadata):
    key = first(tensors, ".index")
    tensors["strange." + key] = tensors.pop(key)


def shorten(tensors, metadata):
    key = first(tensors, ".value")
    tensors[key] = tensors[key][:-1].clone()


def unknown_form(tensors, metadata):
    key = first(tensors, ".index")
    name = key.split("::")[0]
    for part in ("index", "value"):
        old = first(tensors, f".{part}")
        tensors[f"{name}::spiral.{part}"] = tensors.pop(old)


def wrong_dense(tensors, metadata):
    name = first(tensors, ".index").split("::")[0]
    tensors[f"{name}::dense"] = torch.zeros(3)


def wrong_format(tensors, metadata):
    metadata["maet"] = json.dumps(json.loads(metadata["maet"]) | {"format": "maet-pack/99"})


def no_base(tensors, metadata):
    content = json.loads(metadata["maet"])
    del content["base"]
    metadata["maet"] = json.dumps(content)


DAMAGES = {
    "an index beyond the tensor": set_index(10**6),
    "a negative index": set_index(-2),
    "NaN": set_value(float("nan")),
    "infinity": set_value(float("inf")),
    "values without their index": drop(".index"),
    "an index without its values": drop(".value"),
    "a tensor that the base does not have": rename,
    "fewer values than indices": shorten,
    "a form from the future": unknown_form,
    "all values of another shape": wrong_dense,
    "a format from the future": wrong_format,
    "no base": no_base,
    "metadata that is no JSON": lambda tensors, metadata: metadata.update(maet="{"),
    "metadata that is a list": lambda tensors, metadata: metadata.update(maet="[]"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_pack_is_one_clear_error(packed, tmp_path, kind):
    damage(tmp_path / "math.safetensors", DAMAGES[kind])
    with pytest.raises((PackError, CheckpointError), match=r"math\.safetensors") as caught:
        merge_with(tmp_path, ability="math.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_pack_cut_short_is_refused(packed, tmp_path):
    path = tmp_path / "math.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(PackError, match=r"math\.safetensors.*cut short"):
        merge_with(tmp_path, ability="math.safetensors")


def test_an_existing_file_is_never_overwritten(packed, tmp_path):
    (tmp_path / "kept.safetensors").write_text("mine")
    with pytest.raises(OutputError, match=r"kept\.safetensors.*exists"):
        write_language(tmp_path, tmp_path / "kept.safetensors", "sw")
    assert (tmp_path / "kept.safetensors").read_text() == "mine"


def test_a_damaged_model_leaves_no_pack(packed, tmp_path):
    name = located(packed.tensors["base"])[-1]
    tensors = {key: tensor.clone() for key, tensor in packed.tensors["sw"].items()}
    tensors[name].view(-1)[2] = float("inf")
    write_model(tmp_path / "sw", packed.config, tensors)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=name):
        write_language(tmp_path, tmp_path / "new.safetensors", "sw")
    assert sorted(tmp_path.iterdir()) == before


def test_a_pack_is_read_range_by_range(packed, tmp_path):
    base = Sources.open(Recipe(base="base"), tmp_path).base
    pack = PackDifference(tmp_path / "sw.safetensors", base, "language")
    expanded = read_pack(tmp_path / "sw.safetensors", {name: info.shape for name, info in base.tensors.items()})
    for name in base.tensors:
        if not pack.touches(name):
            assert not expanded[name].any()
            continue
        flat = expanded[name].ravel()
        for start, stop in ((0, flat.size), (5, 9), (flat.size - 1, flat.size)):
            values = pack.values(name, start, stop, np.zeros(stop - start, np.float32))
            assert np.array_equal(values.astype(np.float64), flat[start:stop]), name
