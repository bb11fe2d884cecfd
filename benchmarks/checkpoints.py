"""Random checkpoints of real shapes, for benchmarks: a base and models trained from it, bf16 safetensors."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np
import torch

from maet_core.kernels import CHUNK_ELEMENTS, narrow_bf16
from maet_core.safetensors_writer import PlacedSafetensors

_NOISE = 1 << 24
_DRAWN = 1 << 25  # values drawn at once on a card

# hidden, intermediate, layers, heads, key-value heads, vocabulary
SHAPES = {
    "0.02B": (384, 1024, 8, 6, 3, 8000),
    "0.1B": (768, 2048, 8, 12, 4, 32000),
    "0.25B": (1024, 4096, 12, 16, 4, 64000),
    "0.4B": (1536, 4096, 12, 12, 3, 64000),
    "1B": (2048, 8192, 16, 32, 8, 128256),
    "8B": (4096, 14336, 32, 32, 8, 128256),
}
UNTIED = ("8B",)  # a head of its own, as Llama 3 has at this size


def write_checkpoints(folder: Path, shape: str, names: list[str], device: str = "cpu") -> None:
    """One directory a name; the first is the base, the others differ from it by about 1 % of its scale. On a CUDA device every value is
    drawn afresh, there."""
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
        "tie_word_embeddings": shape not in UNTIED,
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
    if shape in UNTIED:
        sizes["lm_head.weight"] = (vocabulary, hidden)
    layout = {name: ("BF16", shape) for name, shape in sizes.items()}
    write = _draw_on if device != "cpu" else _cut_from_noise
    for position, name in enumerate(names):
        if (folder / name / "config.json").exists():
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        file = PlacedSafetensors(folder / name / "model.safetensors", layout, {"format": "pt"})
        write(file, sizes, position, device)
        file.close()
        (folder / name / "config.json").write_text(json.dumps(config))  # last: it says that the model is whole


def link_checkpoint(folder: Path, source: str, name: str) -> None:
    """The same model once more, as a model of its own that takes no room on the disk."""
    (folder / name).mkdir(exist_ok=True)
    for file in (folder / source).iterdir():
        if not (folder / name / file.name).exists():
            os.link(file, folder / name / file.name)


def _draw_on(file: PlacedSafetensors, sizes: dict[str, tuple[int, ...]], position: int, device: str) -> None:
    def write(item: tuple[int, tuple[str, tuple[int, ...]]]) -> None:
        number, (name, shape) = item
        generator = torch.Generator(device)
        for start in range(0, prod(shape), _DRAWN):
            size = min(_DRAWN, prod(shape) - start)
            generator.manual_seed(number << 20 | start // _DRAWN)
            values = torch.randn(size, generator=generator, device=device) * 0.02
            if position:
                generator.manual_seed(position << 40 | number << 20 | start // _DRAWN)
                values += 0.0002 * torch.randn(size, generator=generator, device=device)
            file.write(name, start, values.to(torch.bfloat16).view(torch.int16).cpu().numpy().view(np.uint16))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, enumerate(sizes.items())))


def _cut_from_noise(file: PlacedSafetensors, sizes: dict[str, tuple[int, ...]], position: int, device: str) -> None:
    noise = (np.random.default_rng(0).standard_normal(_NOISE) * 0.02).astype(np.float32)
    for number, (key, shape) in enumerate(sizes.items()):
        for start in range(0, prod(shape), CHUNK_ELEMENTS):
            size = min(CHUNK_ELEMENTS, prod(shape) - start)
            values = _from(noise, (number, start), size)
            if position:
                values = values + np.float32(0.01) * _from(noise, (number, start, position), size)
            bits = np.empty(size, np.uint16)
            narrow_bf16(values, bits)
            file.write(key, start, bits)


def _from(noise: np.ndarray, seed: tuple[int, ...], size: int) -> np.ndarray:
    """A stretch of the noise. To draw billions of numbers afresh would take longer than all that is measured."""
    first = hash(seed) % (noise.size - size)
    return noise[first : first + size]
