"""LoRA as a baseline: the adapter that is saved, against PEFT's own merge and against low-rank training written out."""

import json

import numpy as np
import peft
import pytest
import torch
import transformers
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import InputError
from maet_core.importance import locate, select_key_neurons
from maet_core.resident import load_model, load_tokenizer
from maet_core.training import LoraOptions, TrainingOptions, learning_rate_at, tokenize
from maet_core.training.checkpoint import train_checkpoint
from maet_core.training.lora import Adapter
from maet_core.training.packing import batches

DOCUMENTS = [(f"t{a} t{b}", f" t{(a + b) % 37 + 3}") for a in range(3, 40) for b in range(3, 9)]
OPTIONS = TrainingOptions(steps=5, learning_rate=1e-2, batch_rows=4, row_tokens=16, warmup_steps=2)
LORA = LoraOptions(rank=2, alpha=8.0)


def opened(folder, architecture="llama", dtype="float32"):
    make_family(folder, architecture, dtype=dtype, seed=6)
    add_tokenizer(folder / "base")
    return Checkpoint.open(folder / "base")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_adapter_is_one_that_peft_and_the_merge_read_alike(tmp_path, architecture):
    base = opened(tmp_path, architecture)
    told = train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "adapter", lora=LORA)
    assert told["lora"] == {"rank": 2, "alpha": 8.0, "modules": []}
    assert told == json.loads((tmp_path / "adapter" / "training.json").read_text())
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "training.json"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "adapter").iterdir()} == {0o644}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").merge_and_unload().state_dict()
    difference = Models(base, tmp_path).open("adapter")
    moved = 0
    for name, info in base.tensors.items():
        key = name if name in merged else f"transformer.{name}"
        expected = merged[key].double() - base.read(name).double()
        change = difference.difference(name, 0, info.numel) if difference.touches(name) else np.zeros(info.numel)
        np.testing.assert_allclose(expected.numpy().ravel(), change, atol=1e-6, err_msg=name)
        moved += bool(expected.any())
    assert moved >= 2 * 4
    assert told["trained_parameters"] < base.parameters
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_it_is_low_rank_training(tmp_path):
    """The oracle: W + alpha / rank · B · A put into the model by hand, AdamW from torch's plain loop, in float64."""
    opened(tmp_path, "gpt2")
    tensors = {name: t.double() for name, t in transformers_state(tmp_path / "base").items()}
    rewrite(tmp_path / "base", tensors)
    base = Checkpoint.open(tmp_path / "base")
    train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "adapter", lora=LoraOptions(2, 8.0, ("c_fc",)))
    found = transformers_state(tmp_path / "adapter", "adapter_model.safetensors")
    model = load_model(base)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0.0
    adapter, start = Adapter(LoraOptions(2, 8.0, ("c_fc",)), "base"), load_model(base)
    adapter.put_into(start)
    adapter.start(OPTIONS.seed)
    first = {f"base_model.model.{name}": p.detach() for name, p in start.named_parameters() if p.requires_grad}
    matrices = [torch.nn.Parameter(value.clone()) for value in first.values()]
    weights = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(matrices, betas=(0.9, 0.95), weight_decay=0.0, foreach=False)
    source = batches(tokenize(load_tokenizer(base), DOCUMENTS), OPTIONS)
    for step in range(OPTIONS.steps):
        by_name = dict(zip(first, matrices, strict=True))
        changed = {}
        for name, a in by_name.items():
            if "lora_A" in name:
                key = name.removeprefix("base_model.model.").replace(".lora_A.default", "")
                b = by_name[name.replace("lora_A", "lora_B")]
                changed[key] = weights[key].detach() + 4.0 * (b @ a).T
        ids, labels = next(source)
        loss = torch.func.functional_call(model, changed, kwargs={"input_ids": ids, "labels": labels}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(matrices, OPTIONS.clip_norm)
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, OPTIONS)
        optimizer.step()
    for name, matrix in zip(first, matrices, strict=True):
        saved = found[name.replace(".default", "")]
        np.testing.assert_allclose(saved.double(), matrix.detach(), atol=1e-6, err_msg=name)


def test_it_starts_where_peft_starts(tmp_path):
    """Uniform with the bound that PEFT draws A within, B zero; an embedding the other way round; one seed, one start."""
    base = opened(tmp_path)
    modules = ("q_proj", "down_proj", "embed_tokens")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=32, target_modules=list(modules))
    theirs = peft.get_peft_model(load_model(base), config)
    ours = []
    for seed in (1, 1, 2):
        model = load_model(base)
        adapter = Adapter(LoraOptions(32, 8.0, modules), "base")
        adapter.put_into(model)
        adapter.start(seed)
        ours.append({name: p for name, p in model.named_parameters() if p.requires_grad})
    expected = {name.removeprefix("base_model.model."): p for name, p in theirs.named_parameters() if p.requires_grad}
    assert set(expected) == set(ours[0])
    for name, theirs in expected.items():
        tensor, again, other = (one[name] for one in ours)
        assert (tensor.shape, tensor.dtype) == (theirs.shape, theirs.dtype)
        assert torch.equal(tensor, again)
        assert bool(tensor.any()) == bool(theirs.any()) != torch.equal(tensor, other)
        if theirs.any():
            assert tensor.std().item() == pytest.approx(theirs.std().item(), rel=0.15), name
            assert tensor.mean().abs() < 0.1 * tensor.std()
        if "lora_A" in name:
            assert tensor.abs().max() <= tensor.shape[1] ** -0.5


def transformers_state(folder, file="model.safetensors"):
    from safetensors.torch import load_file

    return load_file(folder / file)


def rewrite(folder, tensors):
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float64"}
    config |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    (folder / "config.json").write_text(json.dumps(config))


def test_an_adapter_goes_on_after_a_stop(tmp_path):
    base = opened(tmp_path)
    whole = train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "whole", lora=LORA)

    def stop(report):
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "cut", save_every_steps=2, progress=stop, lora=LORA)
    cut = train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "cut", save_every_steps=2, lora=LORA)
    assert cut["losses"] == whole["losses"]
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_what_does_not_go_together_is_said(tmp_path):
    base = opened(tmp_path)
    keys = select_key_neurons(locate("random", base), 5.0)
    with pytest.raises(InputError, match="--lora-modules"):
        train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "out", lora=LoraOptions(2, 4.0, ("no_proj",)))
    with pytest.raises(InputError, match="not key neurons"):
        train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "out", keys, lora=LORA)
    assert not (tmp_path / "out").exists()
