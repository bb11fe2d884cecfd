"""Anatomy of a checkpoint: which layer, module and neuron axis every tensor has.

A checkpoint is a flat list of names and shapes. `read_anatomy` turns each name into a `Place`; it needs only
`config.json` and the shapes, never the weights. The tables below are the only spot where an architecture is
known by name: one table per naming family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """One module's share of a fused tensor: `units` are indices along the fused tensor's neuron axis."""

    module: str
    units: range | np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a tensor sits.

    `layer` is None outside the decoder layers. `module` is the column of the heatmap: q_proj, k_proj, v_proj,
    o_proj, gate_proj, up_proj, down_proj, router, embed_tokens, pos_embed, lm_head, norm; qkv_proj and
    gate_up_proj for fused tensors, which carry `parts`; experts use the same modules with `expert` set.
    `kind` is one of attention, mlp, expert, router, embedding, head, norm, buffer (a constant that is stored
    but never trained), vision, other.

    `neuron_axis` is the axis of the stored tensor along which hidden units lie. A matrix that computes units
    from the residual stream (q_proj, up_proj …) has it on its output side, axis 0 of an `nn.Linear`; one that
    reads units (o_proj, down_proj) on its input side, axis 1. GPT-2 stores matrices the other way round.
    The bias of the former has axis 0; the bias of the latter belongs to no unit and has None, as norms have.
    A row of an embedding or of the head is a token. A stack of experts in one three-dimensional tensor has
    the experts along axis 0 and the axis of the single expert plus one; a unit is then one index of both.
    """

    name: str
    layer: int | None
    module: str
    kind: str
    neuron_axis: int | None
    parts: tuple[Part, ...] = ()
    expert: int | None = None


@dataclass(frozen=True)
class Anatomy:
    """Every tensor's place. `known` is False when the architecture has no table: places are by name alone."""

    architecture: str
    known: bool
    layers: int
    modules: tuple[str, ...]
    """One column per module of the tensors, in the order of computation; a fused tensor is one column."""
    neuron_modules: tuple[str, ...]
    """The same with fused tensors split into their parts: q_proj, k_proj, v_proj instead of qkv_proj."""
    places: dict[str, Place] = field(repr=False)

    def place(self, name: str) -> Place:
        return self.places[name]

    def default_neurons(self) -> list[str]:
        """Names of the tensors that take part in locating unless the user asks for others, sorted.

        Embeddings, head and norms are left out, and what text never trains: buffers and the vision side.
        Tensors that no table knows count when they are matrices inside a layer (or anywhere, if no name has a
        layer).
        """

        def takes_part(place: Place) -> bool:
            if place.kind != "other":
                return place.kind in {"attention", "mlp", "expert", "router"}
            return place.neuron_axis is not None and (place.layer is not None or self.layers == 0)

        return sorted(name for name, place in self.places.items() if takes_part(place))


# How the hidden units of a module lie in its matrix: written by it, read by it, or not at all.
WRITES, READS, NONE = "writes", "reads", None

# path of the module inside its layer (or inside the model) → (canonical module, kind, side of the units)
_ATTENTION = {
    "input_layernorm": ("norm", "norm", NONE),
    "self_attn.q_proj": ("q_proj", "attention", WRITES),
    "self_attn.k_proj": ("k_proj", "attention", WRITES),
    "self_attn.v_proj": ("v_proj", "attention", WRITES),
    "self_attn.qkv_proj": ("qkv_proj", "attention", WRITES),
    "self_attn.q_norm": ("norm", "norm", NONE),
    "self_attn.k_norm": ("norm", "norm", NONE),
    "self_attn.rotary_emb": ("rotary_emb", "buffer", NONE),
    "self_attn.o_proj": ("o_proj", "attention", READS),
    "post_attention_layernorm": ("norm", "norm", NONE),
    "pre_feedforward_layernorm": ("norm", "norm", NONE),
    "post_feedforward_layernorm": ("norm", "norm", NONE),
}
_OUTSIDE = {
    "embed_tokens": ("embed_tokens", "embedding", WRITES),
    "norm": ("norm", "norm", NONE),
    "lm_head": ("lm_head", "head", WRITES),
    "rotary_emb": ("rotary_emb", "buffer", NONE),
}
_GATED_MLP = {
    "mlp.gate_proj": ("gate_proj", "mlp", WRITES),
    "mlp.up_proj": ("up_proj", "mlp", WRITES),
    "mlp.gate_up_proj": ("gate_up_proj", "mlp", WRITES),
    "mlp.down_proj": ("down_proj", "mlp", READS),
}
_LLAMA = _ATTENTION | _GATED_MLP | _OUTSIDE
_EXPERTS = {
    "gate_proj": ("gate_proj", "expert", WRITES),
    "up_proj": ("up_proj", "expert", WRITES),
    "gate_up_proj": ("gate_up_proj", "expert", WRITES),
    "down_proj": ("down_proj", "expert", READS),
    "w1": ("gate_proj", "expert", WRITES),
    "w3": ("up_proj", "expert", WRITES),
    "w2": ("down_proj", "expert", READS),
}
_MIXTURE = (
    _ATTENTION
    | {
        "mlp.gate": ("router", "router", WRITES),
        "block_sparse_moe.gate": ("router", "router", WRITES),
        "mlp.shared_expert_gate": ("router", "router", WRITES),
        "mlp.shared_expert.gate_proj": ("gate_proj", "mlp", WRITES),
        "mlp.shared_expert.up_proj": ("up_proj", "mlp", WRITES),
        "mlp.shared_expert.down_proj": ("down_proj", "mlp", READS),
    }
    # Qwen-MoE may keep some layers dense, so the plain names stand beside the experts'.
    | _GATED_MLP
    | {f"mlp.experts.{path}": place for path, place in _EXPERTS.items()}
    | {f"block_sparse_moe.experts.{path}": place for path, place in _EXPERTS.items()}
    | _OUTSIDE
)
_GPT_NEOX = {
    "input_layernorm": ("norm", "norm", NONE),
    "attention.query_key_value": ("qkv_proj", "attention", WRITES),
    "attention.rotary_emb": ("rotary_emb", "buffer", NONE),
    "attention": ("causal_mask", "buffer", NONE),
    "attention.dense": ("o_proj", "attention", READS),
    "post_attention_layernorm": ("norm", "norm", NONE),
    "mlp.dense_h_to_4h": ("up_proj", "mlp", WRITES),
    "mlp.dense_4h_to_h": ("down_proj", "mlp", READS),
    "embed_in": ("embed_tokens", "embedding", WRITES),
    "final_layer_norm": ("norm", "norm", NONE),
    "embed_out": ("lm_head", "head", WRITES),
}
_GPT2 = {
    "ln_1": ("norm", "norm", NONE),
    "attn.c_attn": ("qkv_proj", "attention", WRITES),
    "attn": ("causal_mask", "buffer", NONE),
    "attn.c_proj": ("o_proj", "attention", READS),
    "ln_2": ("norm", "norm", NONE),
    "mlp.c_fc": ("up_proj", "mlp", WRITES),
    "mlp.c_proj": ("down_proj", "mlp", READS),
    "wte": ("embed_tokens", "embedding", WRITES),
    "wpe": ("pos_embed", "embedding", WRITES),
    "ln_f": ("norm", "norm", NONE),
    "lm_head": ("lm_head", "head", WRITES),
}
# model_type of config.json → table
_TABLES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "gemma3": _LLAMA,
    "phi3": _LLAMA,
    "mixtral": _MIXTURE,
    "qwen2_moe": _MIXTURE,
    "qwen3_moe": _MIXTURE,
    "gpt_neox": _GPT_NEOX,
    "gpt2": _GPT2,
}
# The order of computation over all tables; a module that appears in several keeps one column.
_ORDER = (
    *("embed_tokens", "pos_embed", "qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "router"),
    *("gate_up_proj", "gate_proj", "up_proj", "down_proj", "norm", "lm_head"),
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_LEAF = re.compile(r"\.(?:weight|bias|masked_bias|inv_freq)$")
_VISION = re.compile(r"(?:^|\.)(?:vision_tower|vision_model|multi_modal_projector)\.")


def read_anatomy(config: Mapping, shapes: Mapping[str, tuple[int, ...]]) -> Anatomy:
    """Places every tensor of a checkpoint from its `config.json` (as a dict) and its shapes by name.

    An architecture without a table gets `known=False`: the layer is read off the first number in the name,
    the module is the rest of the name, the neuron axis is 0 for two and more dimensions.
    """
    model_type = config.get("model_type") or ""
    architectures = config.get("architectures") or []
    table = _TABLES.get(model_type)
    text_config = config.get("text_config") or config
    places = {}
    for name in sorted(shapes):
        place = None
        if table is not None:
            place = _from_table(name, tuple(shapes[name]), table, model_type, text_config)
        places[name] = place or _from_name(name, tuple(shapes[name]))
    layers = [place.layer for place in places.values() if place.layer is not None]
    return Anatomy(
        architecture=architectures[0] if architectures else model_type or "unknown",
        known=table is not None,
        layers=max(layers, default=-1) + 1,
        modules=_columns([place.module for place in places.values()]),
        neuron_modules=_columns([m for p in places.values() for m in ([q.module for q in p.parts] or [p.module])]),
        places=places,
    )


def _columns(modules: list[str]) -> tuple[str, ...]:
    # Modules that no table names come in the order of first appearance, between the layers' own and the head.
    rank = {module: (position, 0) for position, module in enumerate(_ORDER)}
    unnamed = rank["norm"][0]
    found = list(dict.fromkeys(modules))
    return tuple(sorted(found, key=lambda module: rank.get(module, (unnamed, 1 + found.index(module)))))


def _from_table(name: str, shape: tuple[int, ...], table: Mapping, model_type: str, config: Mapping) -> Place | None:
    if _VISION.search(name):
        # The tower's layers are not the decoder's; one column keeps them apart from it.
        return Place(name, None, "vision", "vision", 0 if len(shape) >= 2 else None)
    match = _LAYER.search(name)
    layer = int(match[1]) if match else None
    path = _LEAF.sub("", name[match.end() :] if match else name)
    expert = _EXPERT.search("." + path + ".")
    if expert:
        path = path.replace(f"experts.{expert[1]}.", "experts.")
    if layer is None:
        path = path.rpartition(".")[2]
    if path not in table:
        return None
    module, kind, side = table[path]
    axis = _neuron_axis(side, shape, transposed=table is _GPT2 and kind in {"attention", "mlp"})
    parts = () if axis is None else _parts(module, shape[axis], model_type, config)
    return Place(name, layer, module, kind, axis, parts, int(expert[1]) if expert else None)


def _neuron_axis(side: str | None, shape: tuple[int, ...], transposed: bool) -> int | None:
    if side is NONE or not shape:
        return None
    if len(shape) == 1:
        return 0 if side == WRITES else None
    first = (side == WRITES) != transposed
    return len(shape) - 2 if first else len(shape) - 1


def _parts(module: str, units: int, model_type: str, config: Mapping) -> tuple[Part, ...]:
    """The modules inside a fused tensor of `units` hidden units; none where the config contradicts it."""
    if module == "gate_up_proj" and units % 2 == 0:
        return (Part("gate_proj", range(units // 2)), Part("up_proj", range(units // 2, units)))
    if module != "qkv_proj":
        return ()
    if model_type == "gpt2" and units % 3 == 0:
        third = units // 3
        return tuple(Part(f"{m}_proj", range(i * third, (i + 1) * third)) for i, m in enumerate("qkv"))
    heads = config.get("num_attention_heads") or 0
    if not heads:
        return ()
    if model_type == "gpt_neox" and units % (3 * heads) == 0:
        # Each head holds its own q, k and v rows, one after the other.
        rows = np.arange(units).reshape(heads, 3, -1)
        return tuple(Part(f"{m}_proj", rows[:, i].ravel()) for i, m in enumerate("qkv"))
    width = config.get("head_dim") or config.get("hidden_size", 0) // heads
    query, key = heads * width, (config.get("num_key_value_heads") or heads) * width
    if units != query + 2 * key:
        return ()
    return (
        Part("q_proj", range(query)),
        Part("k_proj", range(query, query + key)),
        Part("v_proj", range(query + key, units)),
    )


def _from_name(name: str, shape: tuple[int, ...]) -> Place:
    components = name.removesuffix(".weight").split(".")
    numbers = [i for i, component in enumerate(components) if component.isdecimal()]
    axis = 0 if len(shape) >= 2 else None
    if not numbers:
        return Place(name, None, ".".join(components), "other", axis)
    first = numbers[0]
    # Further numbers (experts) would make a column each; they share one.
    rest = ["*" if component.isdecimal() else component for component in components[first + 1 :]]
    return Place(name, int(components[first]), ".".join(rest) or components[first - 1], "other", axis)
