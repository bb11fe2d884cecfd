"""A workspace whose base has the layers and hidden units of an 8 B model (32 × 14336) and next to no weights.

The model is 64 wide and its file is a hole, so it takes no disk; the scores are random numbers in a file, as `maet locate` writes
them. Enough for every view of key neurons, at full size.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from maet_core.checkpoints import Checkpoint
from maet_core.importance import save_scores
from maet_core.importance.attribution import HeldScores
from maet_core.importance.locators import participating
from maet_core.importance.scores import score_shape

LAYERS, UNITS, WIDTH = 32, 14336, 64
RECIPE = """\
base: ../models/large
abilities:
  math:
    ability: ../models/large
    key_neurons: {method: taylor, k1: 5.0, granularity: unit, scores: ../scores/math.safetensors}
"""


def build_large_workspace(folder: Path) -> Path:
    for name in ("models/large", "scores", "recipes"):
        (folder / name).mkdir(parents=True)
    (folder / "recipes" / "demo.yaml").write_text(RECIPE)
    write_hollow_model(folder / "models" / "large")
    base = Checkpoint.open(folder / "models" / "large")
    for seed, name in enumerate(("math", "science")):
        generator = np.random.default_rng(seed)
        values = {
            tensor: torch.from_numpy(generator.lognormal(0, 1, score_shape(base, tensor, "unit")).astype(np.float32))
            for tensor in participating(base)
        }
        held = HeldScores("taylor", "unit", base, {"split_half": {"1": 0.6, "5": 0.7}}, values)
        save_scores(held, folder / "scores" / f"{name}.safetensors")
    return folder


def write_hollow_model(folder: Path) -> None:
    shapes = {"model.embed_tokens.weight": (128, WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        head = f"model.layers.{layer}"
        shapes |= {f"{head}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qo"}
        shapes |= {f"{head}.self_attn.{name}_proj.weight": (WIDTH // 4, WIDTH) for name in "kv"}
        shapes |= {f"{head}.mlp.{name}_proj.weight": (UNITS, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{head}.mlp.down_proj.weight": (WIDTH, UNITS)}
        shapes |= {f"{head}.{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": UNITS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "vocab_size": 128,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
