"""The product against the tools that people use today: mergekit, PEFT and transformers."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
import transformers
from models import (
    add_tokenizer,
    logits,
    make_family,
    random_tensors,
    read_model,
    save_adapter,
    sibling,
    skeleton,
    write_model,
)

from maet_core.merging import merge
from maet_core.recipe import Recipe


def run(tmp_path, **recipe):
    """The merged directory of a recipe."""
    merge(Recipe.from_dict(recipe), tmp_path, tmp_path / "merged", device="cpu")
    return tmp_path / "merged"


# --- mergekit ------------------------------------------------------------------------------------------------------


def task_arithmetic(base, weights, output, out_dtype):
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    configuration = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(path), "parameters": {"weight": weight}} for path, weight in weights],
        "parameters": {"normalize": False, "lambda": 1.0},
        "dtype": "float32",
        "out_dtype": out_dtype,
    }
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(configuration), str(output), options)
    return read_model(output)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("llama", {"tie_word_embeddings": True}), ("qwen2", {}), ("gpt2", {}), ("phi3", {}), ("gemma2", {})],
)
def test_plain_task_vectors_are_those_of_mergekit(tmp_path, architecture, changes, dtype):
    """No key neurons, every tensor, η = γ = 1: Σ of task vectors. Both add in float32 and round once, perhaps in another order:
    neighbours in bfloat16, and then rarely; a few float32 roundings in float32."""
    family = make_family(tmp_path, architecture, dtype=dtype, **changes)
    merged = read_model(
        run(
            tmp_path,
            base="base",
            abilities={"math": {"ability": "ability", "source_language": "source", "alpha": 0.75, "beta": 0.5}},
            languages={"sw": {"checkpoint": "sw", "mu": 1.0}, "te": {"checkpoint": "te", "mu": -0.25}},
        )
    )
    weights = [("ability", 0.75), ("source", -0.5), ("sw", 1.0), ("te", -0.25)]
    theirs = task_arithmetic(family.path("base"), [(family.path(n), w) for n, w in weights], tmp_path / "theirs", dtype)
    assert set(merged) == set(theirs)
    values = {member: oracle.to_float64(tensors) for member, tensors in family.tensors.items()}
    different = 0
    for name, tensor in merged.items():
        ours, other = tensor.double().numpy(), theirs[name].double().numpy()
        base = values["base"][name]
        size = np.abs(base) + sum(np.abs(w * (values[member][name] - base)) for member, w in weights)
        bound = 16 * 2.0**-24 * size + (oracle.ulp(ours, tensor.dtype) if dtype == "bfloat16" else 0)
        assert theirs[name].dtype == tensor.dtype
        assert (np.abs(ours - other) <= bound).all(), name
        different += int((ours != other).sum())
    if dtype == "bfloat16":
        assert different <= 0.001 * sum(tensor.numel() for tensor in merged.values())


# --- PEFT ----------------------------------------------------------------------------------------------------------

ADAPTERS = {
    "plain": ("llama", {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"]}),
    "all-linear": ("llama", {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}),
    "rank-stabilized": ("llama", {"r": 4, "lora_alpha": 3, "target_modules": ["v_proj"], "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "k_proj", "up_proj"],
            "rank_pattern": {"k_proj": 2, "layers.1.self_attn.q_proj": 1},
            "alpha_pattern": {"^model.layers.0.mlp.up_proj": 1, "q_proj": 5},
        },
    ),
    "patterns, rank-stabilized": (
        "llama",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "k_proj"],
            "rank_pattern": {"k_proj": 3},
            "alpha_pattern": {"k_proj": 7},
            "use_rslora": True,
        },
    ),
    "one layer only": (
        "llama",
        {"r": 2, "lora_alpha": 2, "target_modules": ["o_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    ),
    "embeddings": ("llama", {"r": 3, "lora_alpha": 6, "target_modules": ["embed_tokens", "q_proj"]}),
    "head": ("llama", {"r": 3, "lora_alpha": 6, "target_modules": ["lm_head"]}),
    "saved modules": (
        "llama",
        {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "saved norms": ("llama", {"r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "transposed": (
        "gpt2",
        {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
    "fused": ("phi3", {"r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj", "gate_up_proj"]}),
    "biases": ("qwen2", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj"], "bias": "lora_only"}),
    "all biases": ("qwen2", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "all"}),
    "neox": ("gpt_neox", {"r": 4, "lora_alpha": 8, "target_modules": ["query_key_value", "dense"]}),
}


def merged_by_peft(base, adapter):
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().eval()


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_adds_what_peft_merges(tmp_path, kind):
    architecture, config = ADAPTERS[kind]
    frame = skeleton(architecture)
    base = write_model(tmp_path / "base", frame.config, random_tensors(frame.shapes, "float32", 1))
    save_adapter(tmp_path / "adapter", base, **config)
    out = run(
        tmp_path,
        base="base",
        abilities={"math": {"ability": "adapter", "gamma": 1.0}},
    )
    merged_by_peft(base, tmp_path / "adapter").save_pretrained(tmp_path / "theirs")
    ours, theirs, before = read_model(out), read_model(tmp_path / "theirs"), read_model(base)
    assert set(ours) == set(theirs)
    moved = 0
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
        moved += not torch.equal(tensor, before[name])
    assert moved


def test_an_adapter_on_a_tied_embedding_moves_both_ends(tmp_path):
    frame = skeleton("llama", tie_word_embeddings=True)
    base = write_model(tmp_path / "base", frame.config, random_tensors(frame.shapes, "float32", 1))
    save_adapter(
        tmp_path / "adapter", base, r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    )
    out = run(tmp_path, base="base", abilities={"math": {"ability": "adapter"}})
    assert not torch.equal(read_model(out)["model.embed_tokens.weight"], read_model(base)["model.embed_tokens.weight"])
    ours = transformers.AutoModelForCausalLM.from_pretrained(out)
    saved = read_model(tmp_path / "adapter")
    embedding = next(tensor for name, tensor in saved.items() if "embed_tokens" in name)
    torch.testing.assert_close(ours.get_output_embeddings().weight.detach(), embedding, rtol=1e-6, atol=1e-6)


def test_an_adapter_as_language_and_with_coefficients(tmp_path):
    """A language adapter times μ is PEFT's own weighted adapter."""
    frame = skeleton("llama")
    base = write_model(tmp_path / "base", frame.config, random_tensors(frame.shapes, "float32", 1))
    save_adapter(tmp_path / "one", base, seed=1, r=2, lora_alpha=2, target_modules=["q_proj", "down_proj"])
    save_adapter(tmp_path / "two", base, seed=2, r=4, lora_alpha=2, target_modules=["q_proj", "up_proj"])
    out = run(
        tmp_path,
        base="base",
        abilities={"math": {"ability": "one", "gamma": 0.5}},
        languages={"sw": {"checkpoint": "two", "mu": -1.5}},
    )
    before = read_model(base)
    deltas = []
    for adapter in ("one", "two"):
        merged = dict(merged_by_peft(base, tmp_path / adapter).state_dict())
        deltas.append({name: merged[name] - before[name] for name in before})
    for name, tensor in read_model(out).items():
        expected = before[name] + 0.5 * deltas[0][name] - 1.5 * deltas[1][name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


# --- transformers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("phi3", {}),
        ("mixtral", {}),
        ("qwen3_moe", {}),
        ("gpt_neox", {}),
        ("gpt2", {}),
        ("opt", {}),
    ],
)
def test_the_merged_directory_opens_and_has_the_logits_of_the_same_weights(tmp_path, architecture, changes):
    family = make_family(tmp_path, architecture, dtype="float32", shards=2, **changes)
    add_tokenizer(tmp_path / "base")
    out = run(
        tmp_path,
        base="base",
        abilities={"math": {"ability": "ability", "source_language": "source", "beta": 0.5, "gamma": 0.5}},
        languages={"sw": {"checkpoint": "sw", "mu": 0.5}},
        output={"shard_size": "10KB"},
    )
    assert len(list(out.glob("*.safetensors"))) > 1
    by_hand = {}
    for name, base in family.tensors["base"].items():
        ability, source, sw = (family.tensors[member][name] for member in ("ability", "source", "sw"))
        by_hand[name] = base + 0.5 * ((ability - base) - 0.5 * (source - base)) + 0.5 * (sw - base)
    expected = transformers.AutoModelForCausalLM.from_pretrained(
        write_model(tmp_path / "by-hand", family.config, by_hand), dtype=torch.float32
    )
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model.eval()), logits(expected.eval()), rtol=1e-4, atol=1e-4)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    assert not torch.allclose(logits(model), logits(base), atol=1e-2)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / file).read_bytes() == (tmp_path / "base" / file).read_bytes()
    assert len(transformers.AutoTokenizer.from_pretrained(out)) == 40


def test_an_unconditional_copy_gives_the_very_same_logits(tmp_path):
    family = make_family(tmp_path, "llama", dtype="bfloat16", tie_word_embeddings=True)
    out = run(tmp_path, base="base", abilities={"math": {"ability": "ability", "gamma": 1.0}})
    ours = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    ability = transformers.AutoModelForCausalLM.from_pretrained(family.path("ability")).eval()
    assert ours.dtype == torch.bfloat16
    assert torch.equal(logits(ours), logits(ability))


def test_gpt2_under_the_names_of_the_hub(tmp_path):
    """The hub's GPT-2 has no `transformer.` prefix and stores causal masks; its fine-tuned siblings have the prefix and none."""
    frame = skeleton("gpt2")
    base = random_tensors(frame.shapes, "float32", 1)
    trained = sibling(base, 2)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in base.items()}
    for layer in range(2):
        bare[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, 64, 64))
    write_model(tmp_path / "base", frame.config, bare)
    write_model(tmp_path / "ability", frame.config, trained)
    out = run(tmp_path, base="base", abilities={"math": {"ability": "ability", "gamma": 1.0}})
    merged = read_model(out)
    assert set(merged) == set(bare)
    for name, tensor in trained.items():
        torch.testing.assert_close(merged[name.removeprefix("transformer.")], tensor, rtol=1e-6, atol=1e-6)
    assert torch.equal(merged["h.0.attn.bias"], bare["h.0.attn.bias"])
    ours = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ability").eval()
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)


def test_a_head_that_only_the_trained_model_stores(tmp_path):
    """Some trainers write a tied lm_head beside the embedding; equal values are the same model, others are not."""
    frame = skeleton("llama", tie_word_embeddings=True)
    base = random_tensors(frame.shapes, "float32", 1)
    trained = sibling(base, 2)
    write_model(tmp_path / "base", frame.config, base)
    write_model(
        tmp_path / "ability", frame.config, trained | {"lm_head.weight": trained["model.embed_tokens.weight"].clone()}
    )
    merged = read_model(run(tmp_path, base="base", abilities={"math": {"ability": "ability"}}))
    assert set(merged) == set(base)
    for name, tensor in trained.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-6)
