"""Every tensor of every supported architecture is placed, and the neuron axes mean what they say: switching unit i off
along them switches off exactly that unit of the real model."""

import json

import numpy as np
import pytest
import torch
import transformers
from models import CONFIGS, build, input_ids, read_model, skeleton

from maet_core.anatomy import read_anatomy

KNOWN = [name for name in CONFIGS if name != "opt"]
MIXTURES = ["mixtral", "qwen2_moe", "qwen3_moe"]
TEXT_KINDS = {"attention", "mlp", "expert", "router", "embedding", "head", "norm"}

# Columns as a reader of the papers would name them, in the order of computation.
DENSE = ("embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "norm", "lm_head")
COLUMNS = {
    "llama": DENSE,
    "mistral": DENSE,
    "qwen2": DENSE,
    "qwen3": DENSE,
    "gemma2": DENSE[:-1],
    "gemma3_text": DENSE[:-1],
    "gemma3": (*DENSE[:-1], "vision"),
    "phi3": ("embed_tokens", "qkv_proj", "o_proj", "gate_up_proj", "down_proj", "norm", "lm_head"),
    "mixtral": (*DENSE[:5], "router", *DENSE[5:]),
    "qwen2_moe": (*DENSE[:5], "router", *DENSE[5:]),
    "qwen3_moe": (*DENSE[:5], "router", *DENSE[5:]),
    "gpt_neox": ("embed_tokens", "qkv_proj", "o_proj", "up_proj", "down_proj", "norm", "lm_head"),
    "gpt2": ("embed_tokens", "pos_embed", "qkv_proj", "o_proj", "up_proj", "down_proj", "norm"),
}


def anatomy_of(architecture, **changes):
    frame = skeleton(architecture, **changes)
    return frame, read_anatomy(frame.config, frame.shapes)


@pytest.mark.parametrize("architecture", KNOWN)
def test_every_tensor_is_placed(architecture):
    frame, anatomy = anatomy_of(architecture)
    assert anatomy.known
    assert anatomy.architecture == frame.config["architectures"][0]
    assert anatomy.layers == 2
    assert anatomy.modules == COLUMNS[architecture]
    assert set(anatomy.places) == set(frame.shapes)
    allowed = TEXT_KINDS | ({"vision"} if architecture == "gemma3" else set())
    for name, place in anatomy.places.items():
        assert place.name == name
        assert place.kind in allowed, f"{name} is {place.kind}"
        in_layer = ("layers." in name or ".h." in name) and place.kind != "vision"
        assert (place.layer is not None) == in_layer, name
        if in_layer:
            assert f".{place.layer}." in name
        assert (place.expert is not None) == ("experts." in name), name


@pytest.mark.parametrize("architecture", KNOWN)
def test_axis_lengths_are_the_sizes_of_the_config(architecture):
    frame, anatomy = anatomy_of(architecture)
    config = frame.config.get("text_config", frame.config)
    hidden = config.get("hidden_size", config.get("n_embd"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    width = config.get("head_dim") or hidden // heads
    keys = (config.get("num_key_value_heads") or heads) * width
    dense = config.get("intermediate_size") or 4 * hidden
    expert = config.get("moe_intermediate_size", dense)
    for name, place in anatomy.places.items():
        if place.kind == "vision":
            continue
        mlp = {"mlp": dense, "expert": expert}.get(place.kind)
        if "shared_expert." in name:
            mlp = config["shared_expert_intermediate_size"]
        router = 1 if "shared_expert_gate" in name else config.get("num_experts", config.get("num_local_experts"))
        lengths = {
            "q_proj": heads * width,
            "k_proj": keys,
            "v_proj": keys,
            "o_proj": heads * width,
            "qkv_proj": heads * width + 2 * keys,
            "gate_proj": mlp,
            "up_proj": mlp,
            "gate_up_proj": 2 * dense,
            "down_proj": mlp,
            "router": router,
            "embed_tokens": 40,
            "lm_head": 40,
            "pos_embed": config.get("n_positions"),
        }
        if place.neuron_axis is None:
            assert place.module == "norm" or name.endswith(("c_proj.bias", "dense.bias", "dense_4h_to_h.bias")), name
        else:
            assert frame.shapes[name][place.neuron_axis] == lengths[place.module], name


@pytest.mark.parametrize("architecture", ["phi3", "gpt_neox", "gpt2"])
def test_parts_cover_a_fused_tensor_exactly_once(architecture):
    frame, anatomy = anatomy_of(architecture)
    fused = [place for place in anatomy.places.values() if place.module in ("qkv_proj", "gate_up_proj")]
    assert fused
    for place in fused:
        units = np.concatenate([np.asarray(part.units) for part in place.parts])
        assert sorted(units) == list(range(frame.shapes[place.name][place.neuron_axis])), place.name
    assert {"q_proj", "k_proj", "v_proj"} <= set(anatomy.neuron_modules)
    assert not {"qkv_proj", "gate_up_proj"} & set(anatomy.neuron_modules)


def test_locating_leaves_out_embeddings_head_norms_buffers_and_vision():
    for architecture in ("llama", "gemma3", "gpt2", "qwen2_moe"):
        frame, anatomy = anatomy_of(architecture)
        expected = [
            name
            for name in sorted(frame.shapes)
            if (".layers." in name or ".h." in name)
            and "norm" not in name
            and "ln_" not in name
            and "vision" not in name
        ]
        assert anatomy.default_neurons() == expected


def test_constants_of_older_checkpoints_are_buffers():
    frame = skeleton("gpt2")
    shapes = frame.shapes | {"transformer.h.0.attn.bias": (1, 1, 64, 64), "transformer.h.0.attn.masked_bias": ()}
    anatomy = read_anatomy(frame.config, shapes)
    assert anatomy.place("transformer.h.0.attn.bias").kind == "buffer"
    assert anatomy.place("transformer.h.0.attn.masked_bias").kind == "buffer"
    llama = skeleton("llama")
    anatomy = read_anatomy(llama.config, llama.shapes | {"model.layers.1.self_attn.rotary_emb.inv_freq": (2,)})
    assert anatomy.place("model.layers.1.self_attn.rotary_emb.inv_freq").kind == "buffer"
    assert set(anatomy.default_neurons()) <= set(llama.shapes)


def test_names_on_the_hub_without_prefix_and_other_nestings_get_the_same_places():
    for architecture, strip in (("gpt2", "transformer."), ("llama", "model.")):
        frame, anatomy = anatomy_of(architecture)
        shapes = {name.removeprefix(strip): shape for name, shape in frame.shapes.items()}
        bare = read_anatomy(frame.config, shapes)
        for name, place in anatomy.places.items():
            other = bare.place(name.removeprefix(strip))
            assert (other.layer, other.module, other.kind, other.neuron_axis) == (
                place.layer,
                place.module,
                place.kind,
                place.neuron_axis,
            )
    frame, anatomy = anatomy_of("gemma3")
    moved = {name.replace("language_model.model.", "model.language_model."): name for name in frame.shapes}
    nested = read_anatomy(frame.config, {new: frame.shapes[old] for new, old in moved.items()})
    for new, old in moved.items():
        assert (nested.place(new).layer, nested.place(new).module) == (
            anatomy.place(old).layer,
            anatomy.place(old).module,
        )


@pytest.mark.parametrize("architecture", ["mixtral", "qwen3_moe"])
def test_experts_stacked_in_three_dimensions(architecture, tmp_path):
    # What transformers writes when it is told not to go back to the names of the hub.
    build(architecture).save_pretrained(tmp_path, save_original_format=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in read_model(tmp_path).items()}
    anatomy = read_anatomy(json.loads((tmp_path / "config.json").read_text()), shapes)
    stacked = [place for place in anatomy.places.values() if place.kind == "expert"]
    assert len(stacked) == 4
    inner = 24 if architecture == "mixtral" else 12
    for place in stacked:
        shape = shapes[place.name]
        assert len(shape) == 3
        assert shape[0] == 3
        if place.module == "down_proj":
            assert shape[place.neuron_axis] == inner
        else:
            assert shape[place.neuron_axis] == 2 * inner
            assert [(part.module, part.units) for part in place.parts] == [
                ("gate_proj", range(inner)),
                ("up_proj", range(inner, 2 * inner)),
            ]


def test_an_unknown_architecture_is_placed_by_name():
    _, anatomy = anatomy_of("opt")
    assert not anatomy.known
    assert anatomy.architecture == "OPTForCausalLM"
    assert anatomy.layers == 2
    place = anatomy.place("model.decoder.layers.1.self_attn.q_proj.weight")
    assert (place.layer, place.module, place.kind, place.neuron_axis) == (1, "self_attn.q_proj", "other", 0)
    assert anatomy.place("model.decoder.layers.0.fc1.bias").neuron_axis is None
    assert anatomy.place("model.decoder.embed_tokens.weight").layer is None
    located = anatomy.default_neurons()
    assert "model.decoder.layers.0.fc1.weight" in located
    assert "model.decoder.embed_tokens.weight" not in located


def test_tensors_without_any_layer_are_still_located():
    anatomy = read_anatomy({}, {"encoder.weight": (4, 3), "encoder.bias": (4,), "scale": ()})
    assert (anatomy.known, anatomy.layers, anatomy.architecture) == (False, 0, "unknown")
    assert anatomy.default_neurons() == ["encoder.weight"]


def test_many_experts_of_an_unknown_architecture_share_columns():
    shapes = {f"model.blocks.{layer}.experts.{e}.w.weight": (4, 3) for layer in range(2) for e in range(5)}
    anatomy = read_anatomy({"model_type": "new"}, shapes)
    assert anatomy.modules == ("experts.*.w",)
    assert anatomy.layers == 2


# --- behaviour ---------------------------------------------------------------------------------------------------


def load_with(tmp_path, architecture, change):
    """The model of `build`, saved, changed on disk by `change(tensors, anatomy)`, and loaded by transformers again."""
    from safetensors.torch import save_file

    build(architecture).save_pretrained(tmp_path)
    tensors = read_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(tensors, read_anatomy(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()}))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    kind = transformers.AutoModelForImageTextToText if architecture == "gemma3" else transformers.AutoModelForCausalLM
    return kind.from_pretrained(tmp_path, dtype=torch.float32).eval()


def switch_off(tensors, anatomy, layer, module, unit, experts=(None,)):
    """Zeroes unit `unit` of a module everywhere its parameters lie; returns the tensors it touched."""
    touched = []
    for name, place in anatomy.places.items():
        if place.layer != layer or place.neuron_axis is None or place.expert not in experts or "shared" in name:
            continue
        if place.module == module:
            index = unit
        elif any(part.module == module for part in place.parts):
            index = next(int(part.units[unit]) for part in place.parts if part.module == module)
        else:
            continue
        tensors[name].select(place.neuron_axis, index).zero_()
        touched.append(name)
    return touched


@pytest.mark.parametrize("architecture", [name for name in KNOWN if name not in MIXTURES])
def test_a_unit_of_the_mlp_is_one_hidden_activation(architecture, tmp_path):
    """What reaches down_proj loses coordinate i, and only that, when unit i of up_proj is switched off; and with unit i of
    down_proj switched off, that coordinate no longer reaches anything."""
    unit = 5
    seen = {}

    def hook(key):
        return lambda module, inputs: seen.__setitem__(key, inputs[0].detach().clone())

    def down(model):
        names = ("down_proj", "dense_4h_to_h", "mlp.c_proj")
        return next(
            m
            for n, m in model.named_modules()
            if n.endswith(names) and ("layers.1." in n or "h.1." in n) and "vision" not in n
        )

    original = load_with(tmp_path, architecture, lambda tensors, anatomy: None)
    down(original).register_forward_pre_hook(hook("original"))
    without_up = load_with(tmp_path, architecture, lambda t, a: switch_off(t, a, 1, "up_proj", unit))
    down(without_up).register_forward_pre_hook(hook("up"))
    for model in (original, without_up):
        with torch.no_grad():
            model(input_ids=input_ids())
    assert (seen["original"][..., unit] != 0).any()
    assert (seen["up"][..., unit] == 0).all()
    kept = [i for i in range(seen["up"].shape[-1]) if i != unit]
    assert torch.equal(seen["up"][..., kept], seen["original"][..., kept])

    without_down = load_with(tmp_path, architecture, lambda t, a: switch_off(t, a, 1, "down_proj", unit))
    probe = torch.zeros(1, seen["up"].shape[-1])
    nothing = down(without_down)(probe)
    probe[0, unit] = 1
    assert torch.equal(down(without_down)(probe), nothing)
    probe[0, unit - 1] = 1
    assert not torch.equal(down(without_down)(probe), nothing)


@pytest.mark.parametrize("module", ["q_proj", "k_proj", "v_proj"])
@pytest.mark.parametrize("architecture", KNOWN)
def test_parts_are_the_query_key_and_value_that_the_attention_uses(architecture, module, tmp_path, monkeypatch):
    """Switching unit i of q, k or v off zeroes coordinate (i // head_dim, i % head_dim) of what enters the attention.

    Rotation mixes coordinates of q and k inside a head, so a whole head is switched off; all others must stay the same.
    """
    entered = {}

    def spy(key):
        def attention(owner, query, keys, values, mask, **options):
            entered.setdefault(key, {"q_proj": query, "k_proj": keys, "v_proj": values})  # layer 0 comes first
            groups = query.shape[1] // keys.shape[1]
            keys, values = (t.repeat_interleave(groups, dim=1) for t in (keys, values))
            weights = torch.softmax(query @ keys.transpose(-1, -2), dim=-1)
            return (weights @ values).transpose(1, 2), weights

        return attention

    frame = skeleton(architecture)
    config = frame.config.get("text_config", frame.config)
    heads = config.get("num_attention_heads", config.get("n_head"))
    width = config.get("head_dim") or config.get("hidden_size", config.get("n_embd")) // heads
    head = 1
    dead = range(head * width, (head + 1) * width)

    def kill(tensors, anatomy):
        assert all([switch_off(tensors, anatomy, 0, module, unit) for unit in dead])

    for key, change in (("before", lambda tensors, anatomy: None), ("after", kill)):
        monkeypatch.setitem(transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS, "spy", spy(key))
        model = load_with(tmp_path, architecture, change)
        model.set_attn_implementation({"text_config": "spy"} if architecture == "gemma3" else "spy")
        with torch.no_grad():
            model(input_ids=input_ids())
    before, after = entered["before"], entered["after"]
    for other in ("q_proj", "k_proj", "v_proj"):
        for index in range(before[other].shape[1]):
            if other == module and index == head:
                assert (before[other][:, index] != 0).any()
                assert (after[other][:, index] == 0).all()
            else:
                assert torch.equal(before[other][:, index], after[other][:, index]), (other, index)


@pytest.mark.parametrize("architecture", KNOWN)
def test_a_head_of_o_proj_is_what_that_head_writes(architecture, tmp_path):
    """With a head's units of o_proj switched off, nothing that this head computes reaches the logits any more."""
    frame = skeleton(architecture)
    config = frame.config.get("text_config", frame.config)
    heads = config.get("num_attention_heads", config.get("n_head"))
    width = config.get("head_dim") or config.get("hidden_size", config.get("n_embd")) // heads

    def kill(tensors, anatomy):
        for unit in range(2 * width, 3 * width):
            assert switch_off(tensors, anatomy, 1, "o_proj", unit)

    def projection(model):
        names = ("o_proj", "attention.dense", "attn.c_proj")
        return next(
            m
            for n, m in model.named_modules()
            if n.endswith(names) and ("layers.1." in n or "h.1." in n) and "vision" not in n
        )

    layer = projection(load_with(tmp_path, architecture, kill))
    silent, probe = torch.zeros(1, heads * width), torch.zeros(1, heads * width)
    probe[0, 2 * width : 3 * width] = 1
    assert torch.equal(layer(probe), layer(silent))
    probe[0, 0] = 1
    assert not torch.equal(layer(probe), layer(silent))


@pytest.mark.parametrize("architecture", MIXTURES)
def test_a_unit_of_an_expert_needs_both_of_its_sides(architecture, tmp_path):
    """Unit i of an expert's up_proj off, or unit i of the same expert's down_proj off: the same model in both cases, and
    another one when the expert, or the unit, is another."""

    def outputs(module, unit, expert):
        def kill(tensors, anatomy):
            assert len(switch_off(tensors, anatomy, 0, module, unit, experts=(expert,))) == 1

        with torch.no_grad():
            return load_with(tmp_path, architecture, kill)(input_ids=input_ids()).logits

    assert torch.allclose(outputs("up_proj", 3, 1), outputs("down_proj", 3, 1), atol=1e-5)
    assert torch.allclose(outputs("up_proj", 3, 1), outputs("gate_proj", 3, 1), atol=1e-5)
    assert not torch.allclose(outputs("up_proj", 3, 1), outputs("down_proj", 4, 1), atol=1e-5)
    assert not torch.allclose(outputs("up_proj", 3, 1), outputs("down_proj", 3, 2), atol=1e-5)


@pytest.mark.parametrize("architecture", MIXTURES)
def test_a_unit_of_the_router_is_one_expert(architecture, tmp_path):
    """Two experts may change places if their units of the router do; experts alone may not."""

    def logits_of(swapped_kinds):
        def change(tensors, anatomy):
            for name, place in anatomy.places.items():
                if place.layer != 0 or place.kind not in swapped_kinds or "shared" in name:
                    continue
                if place.kind == "router":
                    order = torch.tensor([0, 2, 1])
                    tensors[name] = tensors[name].index_select(place.neuron_axis, order).contiguous()
                elif place.expert == 1:
                    twin = next(
                        n for n, p in anatomy.places.items() if (p.layer, p.expert, p.module) == (0, 2, place.module)
                    )
                    tensors[name], tensors[twin] = tensors[twin], tensors[name]

        with torch.no_grad():
            return load_with(tmp_path, architecture, change)(input_ids=input_ids()).logits

    assert torch.allclose(logits_of(()), logits_of(("router", "expert")), atol=1e-5)
    assert not torch.allclose(logits_of(()), logits_of(("expert",)), atol=1e-5)
