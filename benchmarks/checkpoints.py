"""Random checkpoints of real shapes, for benchmarks: a base and models trained from it, bf16 safetensors, tied embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

# hidden, intermediate, layers, heads, key-value heads, vocabulary
SHAPES = {
    "0.02B": (384, 1024, 8, 6, 3, 8000),
    "0.1B": (768, 2048, 8, 12, 4, 32000),
    "0.25B": (1024, 4096, 12, 16, 4, 64000),
    "0.4B": (1536, 4096, 12, 12, 3, 64000),
    "1B": (2048, 8192, 16, 32, 8, 128256),
}


def write_checkpoints(folder: Path, shape: str, names: list[str]) -> None:
    """One directory a name; the first is the base, the others differ from it by about 1 % of its scale."""
    hidden, intermediate, layers, heads, key_value_heads, vocabulary = SHAPES[shape]
    key_value = hidden * key_value_heads // heads
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    sizes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        sizes |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (hidden, hidden),
            prefix + "self_attn.k_proj.weight": (key_value, hidden),
            prefix + "self_attn.v_proj.weight": (key_value, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, hidden),
            prefix + "mlp.gate_proj.weight": (intermediate, hidden),
            prefix + "mlp.up_proj.weight": (intermediate, hidden),
            prefix + "mlp.down_proj.weight": (hidden, intermediate),
        }
    for position, name in enumerate(names):
        if (folder / name / "model.safetensors").exists():
            continue
        tensors = {key: _normal(size, 0, key) for key, size in sizes.items()}
        if position:
            for key, tensor in tensors.items():
                tensors[key] = (tensor.float() + 0.01 * _normal(sizes[key], position, key).float()).bfloat16()
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(config))


def _normal(size: tuple[int, ...], seed: int, name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + sum(name.encode()))
    return (torch.randn(size, generator=generator) * 0.02).bfloat16()
