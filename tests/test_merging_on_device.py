"""The merge on an accelerator: every byte is the one that the compiled loops write.

Streams and pinned memory need a CUDA card; everything else of that way runs here on torch's own CPU device.
"""

import pytest
import torch
from models import make_family, random_tensors, save_adapter, sibling, skeleton, write_model

from maet_core.errors import CheckpointError, InputError
from maet_core.merging import merge
from maet_core.merging.devices import choose_cards, choose_device
from maet_core.recipe import Recipe

KEYS = {
    "none": None,
    "parameters": {"k1": 30.0},
    "units": {"k1": 30.0, "granularity": "unit"},
    "per tensor": {"k1": 20.0, "scope": "per-tensor"},
    "random": {"k1": 30.0, "method": "random"},
}


def recipe_of(keys=None, **changes):
    ability = {"ability": "ability", "source_language": "source", "alpha": 0.9, "beta": 0.3, "key_neurons": keys}
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": ability | {"gamma": 0.7, "tensors": {"k2": 60.0}},
                "other": {"ability": "te", "key_neurons": keys, "gamma": -0.4},
            },
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.35}, "te": {"checkpoint": "te", "mu": 0.5}},
            "eta": 0.6,
        }
        | changes
    )


def on(monkeypatch, *devices):
    monkeypatch.setattr("maet_core.merging.run.choose_cards", lambda wanted: (list(devices), "asked for"))


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".safetensors", ".json")}


def assert_same_bytes(monkeypatch, recipe, folder, tmp_path, *devices):
    expected = merge(recipe, folder, tmp_path / "compiled", device="cpu")
    on(monkeypatch, *devices)
    monkeypatch.setattr("maet_core.merging.writer.BLOCK_ELEMENTS", 500)
    monkeypatch.setattr("maet_core.merging.writer.PIECE_ELEMENTS", 130)
    report = merge(recipe, folder, tmp_path / "device")
    assert bytes_of(tmp_path / "device") == bytes_of(tmp_path / "compiled")
    assert report.parameters_changed == expected.parameters_changed
    assert report.device == ", ".join(map(str, devices))


CPU = torch.device("cpu")


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "mixed"])
def test_the_bytes_are_those_of_the_compiled_loops(tmp_path, monkeypatch, dtype, keys):
    make_family(tmp_path, "llama", dtype=dtype, density=0.5, untouched=0.2, shards=2, seed=3)
    recipe = recipe_of(KEYS[keys], output={"shard_size": "9KB"})
    assert_same_bytes(monkeypatch, recipe, tmp_path, tmp_path, CPU)


def test_several_devices_share_the_tensors(tmp_path, monkeypatch):
    make_family(tmp_path, "llama", dtype="bfloat16")
    assert_same_bytes(monkeypatch, recipe_of(KEYS["parameters"]), tmp_path, tmp_path, CPU, CPU, CPU)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_another_output_dtype(tmp_path, monkeypatch, dtype):
    make_family(tmp_path, "llama", dtype="bfloat16")
    assert_same_bytes(monkeypatch, recipe_of(output={"dtype": dtype}), tmp_path, tmp_path, CPU)


def test_adapters_float64_and_tensors_that_are_no_numbers(tmp_path, monkeypatch):
    frame = skeleton("gpt2")
    base = {name: tensor.double() for name, tensor in random_tensors(frame.shapes, "float32", 1).items()}
    extra = {
        "transformer.h.0.attn.bias": torch.tril(torch.ones(1, 1, 64, 64, dtype=torch.bool)),
        "steps": torch.tensor([3]),
    }
    write_model(tmp_path / "base", frame.config, base | extra)
    write_model(tmp_path / "ability", frame.config, sibling(base, 2) | extra)
    save_adapter(tmp_path / "sw", tmp_path / "base", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    recipe = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {"math": {"ability": "ability", "key_neurons": {"k1": 20.0}, "gamma": 0.3}},
            "languages": {"sw": {"checkpoint": "sw", "mu": 0.7}},
        }
    )
    assert_same_bytes(monkeypatch, recipe, tmp_path, tmp_path, CPU)


def test_a_value_that_is_not_finite_is_told_with_its_place(tmp_path, monkeypatch):
    family = make_family(tmp_path, "llama", dtype="bfloat16")
    tensors = dict(family.tensors["te"])
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].clone()
    tensors[name][5, 7] = float("nan")
    write_model(family.path("te"), family.config, tensors)
    on(monkeypatch, CPU)
    recipe = Recipe.from_dict({"base": "base", "languages": {"te": {"checkpoint": "te"}}})
    with pytest.raises(CheckpointError, match=rf"te: tensor {name} holds nan at element {5 * 16 + 7}"):
        merge(recipe, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("gamma", [1e30, 1e300])
def test_a_value_that_does_not_fit_is_refused(tmp_path, monkeypatch, gamma):
    make_family(tmp_path, "llama", dtype="float16")
    on(monkeypatch, CPU)
    recipe = Recipe.from_dict({"base": "base", "abilities": {"math": {"ability": "ability", "gamma": gamma}}})
    with pytest.raises(InputError, match=r"output\.dtype.*float16"):
        merge(recipe, tmp_path, tmp_path / "out")


def test_a_fault_on_a_device_fails_the_merge(tmp_path, monkeypatch):
    from maet_core.merging.on_device import OnDevice

    make_family(tmp_path, "llama")
    on(monkeypatch, CPU, CPU)
    monkeypatch.setattr(OnDevice, "_compute", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merge(recipe_of(), tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


# --- the choice ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch):
    """As on a machine with so many free GiB on its CUDA cards."""

    def pretend(*free):
        monkeypatch.setattr("maet_core.merging.devices._has_nvidia_driver", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda card: (int(free[card] * 2**30), 80 * 2**30))

    return pretend


@pytest.mark.parametrize(
    ("free", "wanted", "chosen", "reason"),
    [
        ((), "auto", [], "torch cannot use"),
        ((0.5,), "auto", [], "only 0.5 GiB"),
        ((0.5, 40), "auto", ["cuda:1"], "40.0 GiB free"),
        ((40, 30, 0.1), "auto", ["cuda:0", "cuda:1"], "2 CUDA cards share"),
        ((40, 30), "cuda", ["cuda:0", "cuda:1"], "2 CUDA cards share"),
        ((40, 30), "cuda:1", ["cuda:1"], "asked for"),
        ((0.5,), "cuda", ["cuda:0"], "asked for"),
        ((40,), "cpu", [], "asked for"),
    ],
)
def test_the_cards_that_merge(cards, free, wanted, chosen, reason):
    cards(*free)
    found, why = choose_cards(wanted)
    assert [str(card) for card in found] == chosen
    assert reason in why


def test_a_card_that_is_not_there(cards):
    cards(40, 40)
    assert choose_device("auto")[0] == "cuda"
    for wanted in ("cuda:2", "cuda:x", "tpu"):
        with pytest.raises(InputError, match=r"--device: .* available: auto, cpu, cuda, cuda:0, cuda:1"):
            choose_device(wanted)


# --- a real card ---------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_bytes_of_a_cuda_card(tmp_path, monkeypatch, dtype, keys):
    make_family(tmp_path, "llama", dtype=dtype, density=0.5, shards=2)
    cards = [torch.device("cuda", card) for card in range(torch.cuda.device_count())]
    assert_same_bytes(monkeypatch, recipe_of(KEYS[keys]), tmp_path, tmp_path, *cards)
