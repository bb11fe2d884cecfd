"""Tiny random models on disk: real architectures, names and shapes as transformers saves them.

`skeleton` builds the model class once and keeps names, shapes and config; everything else writes numpy-made numbers
into that skeleton, which is fast enough for property-based tests. Nothing here imports the product.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
ROOT = Path(__file__).parents[1]

COMMON = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_NEOX = {key: value for key, value in COMMON.items() if key != "num_key_value_heads"}
_MOE = COMMON | {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS = {
    "llama": lambda **c: transformers.LlamaConfig(**(COMMON | c)),
    "mistral": lambda **c: transformers.MistralConfig(**(COMMON | c)),
    "qwen2": lambda **c: transformers.Qwen2Config(**(COMMON | c)),
    "qwen3": lambda **c: transformers.Qwen3Config(**(COMMON | {"head_dim": 8} | c)),
    "gemma2": lambda **c: transformers.Gemma2Config(**(COMMON | {"head_dim": 8} | c)),
    "gemma3_text": lambda **c: transformers.Gemma3TextConfig(**(COMMON | {"head_dim": 8} | c)),
    "gemma3": lambda **c: transformers.Gemma3Config(
        text_config=COMMON | {"head_dim": 8} | c, vision_config=_VISION, mm_tokens_per_image=4
    ),
    "phi3": lambda **c: transformers.Phi3Config(**(COMMON | c)),
    "mixtral": lambda **c: transformers.MixtralConfig(**(COMMON | {"num_local_experts": 3} | c)),
    "qwen2_moe": lambda **c: transformers.Qwen2MoeConfig(**(_MOE | {"shared_expert_intermediate_size": 20} | c)),
    "qwen3_moe": lambda **c: transformers.Qwen3MoeConfig(**(_MOE | {"head_dim": 4} | c)),
    "gpt_neox": lambda **c: transformers.GPTNeoXConfig(**(_NEOX | c)),
    "gpt2": lambda **c: transformers.GPT2Config(
        **({"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64} | c),
        bos_token_id=1,
        eos_token_id=2,
    ),
    # a real architecture that the product has no table for
    "opt": lambda **c: transformers.OPTConfig(
        **({"vocab_size": 40, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 4} | c)
    ),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NORM = re.compile(r"norm|\.ln_|layernorm")


@dataclass(frozen=True)
class Skeleton:
    """A model without its numbers: `config` as config.json, `shapes` by name as on disk."""

    architecture: str
    config: dict
    shapes: dict[str, tuple[int, ...]]


def build(architecture: str, seed: int = 0, **changes) -> transformers.PreTrainedModel:
    """The real model, randomly initialised, biases and norms included (their defaults are zeros and ones)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = CONFIGS[architecture](**changes)
        if architecture == "gemma3":
            model = transformers.Gemma3ForConditionalGeneration(config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@cache
def _skeleton(architecture: str, changes: tuple) -> Skeleton:
    with tempfile.TemporaryDirectory() as folder:
        build(architecture, **dict(changes)).save_pretrained(folder)
        config = json.loads(Path(folder, "config.json").read_text())
        with safe_open(Path(folder, "model.safetensors"), "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    return Skeleton(architecture, config, shapes)


def skeleton(architecture: str, **changes) -> Skeleton:
    return _skeleton(architecture, tuple(sorted(changes.items())))


def random_tensors(shapes: dict[str, tuple[int, ...]], dtype: str = "float32", seed: int = 0) -> Tensors:
    """Normal numbers; dtype `mixed` keeps norms in float32 and the rest in bfloat16, as some trainers save."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        kind = ("float32" if NORM.search(name) else "bfloat16") if dtype == "mixed" else dtype
        values = generator.normal(0, 0.3, shape).astype(np.float32)
        tensors[name] = torch.from_numpy(values).to(DTYPES[kind])
    return tensors


def sibling(tensors: Tensors, seed: int, density: float = 1.0, scale: float = 0.1, untouched: float = 0.0) -> Tensors:
    """The same model after some training: `density` of the parameters moved, `untouched` of the tensors not at all."""
    generator = np.random.default_rng(seed)
    changed = {}
    for name, tensor in tensors.items():
        change = generator.normal(0, scale, tuple(tensor.shape))
        change *= generator.random(tuple(tensor.shape)) < density
        if generator.random() < untouched:
            change *= 0
        changed[name] = (tensor.double() + torch.from_numpy(np.asarray(change))).to(tensor.dtype)
    return changed


def write_model(folder: Path, config: dict | None, tensors: Tensors, shards: int = 1) -> Path:
    """A directory as `save_pretrained` makes it: one file, or `shards` files and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        Path(folder, "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
        return folder
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        chosen = names[shard::shards]
        save_file({name: tensors[name] for name in chosen}, Path(folder, file), {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    Path(folder, "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read_model(folder: Path) -> Tensors:
    """Every tensor of a directory, through the safetensors library and nothing of the product."""
    tensors: Tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


@dataclass(frozen=True)
class Family:
    """A base and models trained from it, on disk and in memory."""

    folder: Path
    config: dict
    tensors: dict[str, Tensors]

    def path(self, name: str) -> Path:
        return self.folder / name


def make_family(
    folder: Path,
    architecture: str = "llama",
    members: tuple[str, ...] = ("ability", "source", "sw", "te"),
    dtype: str = "float32",
    seed: int = 0,
    shards: int = 1,
    density: float = 1.0,
    untouched: float = 0.0,
    **changes,
) -> Family:
    frame = skeleton(architecture, **changes)
    tensors = {"base": random_tensors(frame.shapes, dtype, seed)}
    for number, member in enumerate(members, start=1):
        tensors[member] = sibling(tensors["base"], seed * 100 + number, density, untouched=untouched)
    config = frame.config | {"dtype": dtype if dtype in DTYPES else "bfloat16"}
    for name, content in tensors.items():
        write_model(folder / name, config, content, shards)
    return Family(folder, config, tensors)


def add_tokenizer(folder: Path, vocabulary: int = 40) -> None:
    """A word-level tokenizer: `t3` … are the tokens 3 …, as many as the tiny models have rows."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"t{i}": i for i in range(3, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    ).save_pretrained(folder)


def save_adapter(folder: Path, base: Path, seed: int = 0, embedding_rows: bool = False, **config) -> Path:
    """A LoRA adapter on `base` as PEFT writes it, its matrices (both of them) random and its saved modules moved."""
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    wrapped.save_pretrained(folder, save_embedding_layers=embedding_rows)
    return folder


def input_ids(vocabulary: int = 40, length: int = 12, seed: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(3, vocabulary, (2, length)))


def logits(model: transformers.PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids()).logits


def child_environment(**more: str) -> dict[str, str]:
    """For a Python that a test starts: it finds this project, and whatever this process was told to find."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


# --- what the tests know about names, by hand ---------------------------------------------------------------------

_LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")
_READS_UNITS = ("o_proj", "down_proj", "w2", "attention.dense", "dense_4h_to_h")
_MODULES = {
    "self_attn.qkv_proj": {"qkv_proj", "q_proj", "k_proj", "v_proj"},
    "query_key_value": {"qkv_proj", "q_proj", "k_proj", "v_proj"},
    "attn.c_attn": {"qkv_proj", "q_proj", "k_proj", "v_proj"},
    "mlp.gate_up_proj": {"gate_up_proj", "gate_proj", "up_proj"},
    "attn.c_proj": {"o_proj"},
    "attention.dense": {"o_proj"},
    "mlp.c_proj": {"down_proj"},
    "dense_4h_to_h": {"down_proj"},
    "mlp.c_fc": {"up_proj"},
    "dense_h_to_4h": {"up_proj"},
    ".w1": {"gate_proj"},
    ".w2": {"down_proj"},
    ".w3": {"up_proj"},
    "block_sparse_moe.gate": {"router"},
}


def layer_of(name: str) -> int | None:
    match = _LAYER.search("." + name)
    return int(match[1]) if match else None


def modules_of(name: str) -> set[str]:
    """The names under which the pattern `module:` finds a tensor of a text model."""
    if NORM.search(name):
        return {"norm"}
    path = name.rpartition(".")[0]
    return next((modules for end, modules in _MODULES.items() if path.endswith(end)), {path.rpartition(".")[2]})


def unit_axis_of(name: str) -> int | None:
    path, _, leaf = name.rpartition(".")
    if NORM.search(name):
        return None
    transposed = path.endswith(("c_attn", "c_fc", "c_proj"))
    reads = path.endswith(_READS_UNITS) or path.endswith("c_proj")
    if leaf == "bias":
        return None if reads else 0
    return int(reads != transposed)


def located(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Tensors that are ranked by default: inside the layers, and no norms."""
    return [name for name in sorted(shapes) if layer_of(name) is not None and not NORM.search(name)]


def read_pack(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The content of an ability or language pack, expanded to float64; tensors that are absent are zero."""
    expanded = {name: np.zeros(shape) for name, shape in shapes.items()}
    stored = load_file(path)
    for key, content in stored.items():
        name, form = key.split("::")
        if form == "dense":
            expanded[name][...] = content.double().numpy()
        elif form.endswith(".value"):
            form = form.removesuffix(".value")
            index = stored[f"{name}::{form}.index"].numpy()
            target = {"rows": expanded[name], "columns": expanded[name].T, "scattered": expanded[name].reshape(-1)}[
                form
            ]
            values = content.double().numpy()
            target[index] = values.T if form == "columns" else values
    return expanded
