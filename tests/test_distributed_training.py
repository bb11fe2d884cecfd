"""Several processes give the weights that one gives, in float64: copies (DDP) and parts (FSDP2), whole models, key neurons, LoRA."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from models import add_tokenizer, child_environment, make_family
from safetensors.torch import load_file, save_file

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import InputError, Stopped
from maet_core.importance import SavedScores, locate, save_scores, select_key_neurons
from maet_core.training import LoraOptions, Processes, TrainingOptions
from maet_core.training.checkpoint import train_checkpoint

TESTS = Path(__file__).parent
DOCUMENTS = [(f"t{a} t{b}", f" t{(a + b) % 37 + 3}") for a in range(3, 40) for b in range(3, 9)]
OPTIONS = {"steps": 4, "learning_rate": 1e-2, "batch_rows": 2, "row_tokens": 16, "warmup_steps": 2, "accumulate": 4}
PARTS = [False, True]
CASES = [
    *({"name": "all", "base": "gpt2", "sharded": sharded, "cut": 2} for sharded in PARTS),
    *({"name": "keys", "base": "gpt2", "scores": "gpt2.safetensors", "sharded": s, "cut": 2} for s in PARTS),
    *({"name": "units", "base": "gpt2", "scores": "units.safetensors", "sharded": s} for s in PARTS),
    *({"name": "revert", "base": "gpt2", "scores": "gpt2.safetensors", "revert": True, "sharded": s} for s in PARTS),
    *({"name": "some", "base": "gpt2", "sharded": s, "options": {"frozen": ["*.0.*", "*ln*"]}} for s in PARTS),
    *(
        {"name": "less memory", "base": "llama", "sharded": s, "options": {"checkpoint_activations": True}}
        for s in PARTS
    ),
    *(
        {"name": "experts", "base": "moe", "scores": "moe.safetensors", "sharded": s, "options": {"steps": 1}}
        for s in PARTS
    ),
    *({"name": "lora", "base": "gpt2", "lora": True, "sharded": s, "cut": 2} for s in PARTS),
    # what one number of processes has begun, another goes on with
    *({"name": "begun alone", "base": "gpt2", "sharded": s, "begun": 2} for s in PARTS),
    {"name": "begun alone, keys", "base": "gpt2", "scores": "gpt2.safetensors", "sharded": True, "begun": 2},
    {"name": "begun alone, lora", "base": "gpt2", "lora": True, "sharded": True, "begun": 2},
]
# begun by two processes, and left to one
LEFT = [
    {"name": "left", "base": "gpt2", "sharded": True, "left": 2},
    {"name": "left, keys", "base": "gpt2", "scores": "gpt2.safetensors", "sharded": True, "left": 2},
]
for case in (*CASES, *LEFT):
    case["output"] = f"{case['name']}-{'parts' if case['sharded'] else 'copies'}"
    case["options"] = {**OPTIONS, **case.get("options", {})}


ON_A_CARD = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")]


@dataclass(frozen=True)
class World:
    """A folder with every case trained by `count` processes."""

    folder: Path
    count: int
    device: str

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, "cpu"), id="gloo"),
        pytest.param((1, "cpu"), id="gloo, one"),
        # one process a card: with one card only FSDP2's way differs from that of a process alone
        pytest.param((min(2, torch.cuda.device_count()), "cuda"), id="nccl", marks=ON_A_CARD),
    ],
)
def world(request, tmp_path_factory):
    """Bases in float64 (dropout of GPT-2 included: a batch's is the same whoever has it), and every case on several processes."""
    folder = tmp_path_factory.mktemp("world")
    world = World(folder, *request.param)
    for name, architecture in (("gpt2", "gpt2"), ("llama", "llama"), ("moe", "qwen2_moe")):
        made = folder / f"{name}-family"
        make_family(made, architecture, seed=6)
        for member in ("base", "ability"):
            if name == "moe":  # experts are multiplied in float32 at most
                continue
            tensors = load_file(made / member / "model.safetensors")
            save_file(
                {k: t.double() for k, t in tensors.items()}, made / member / "model.safetensors", {"format": "pt"}
            )
            config = made / member / "config.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float64"}))
        os.rename(made / "base", folder / name)
        add_tokenizer(folder / name)
        base = Checkpoint.open(folder / name)
        trained = Models(base, made).open("ability")
        save_scores(locate("value-change", base, trained), folder / f"{name}.safetensors")
        if name == "gpt2":
            save_scores(locate("value-change", base, trained, "unit"), folder / "units.safetensors")
    (folder / "documents.json").write_text(json.dumps(DOCUMENTS))
    for case in CASES:
        if "begun" in case:
            with pytest.raises(Stopped):
                train_alone(world, case, folder / case["output"], case["begun"])
    (folder / "cases.json").write_text(json.dumps(CASES + LEFT))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world.count)]
    run = subprocess.run(
        [*command, str(TESTS / "distributed_training.py"), str(folder), world.device],
        env=child_environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[run.stderr.find("Traceback") :][:4000]
    return world


def tensors_of(folder):
    return {name: t for file in Path(folder).glob("*.safetensors") for name, t in load_file(file).items()}


def train_alone(world, case, output, cut=None):
    """The case on this process alone, stopped after step `cut` if there is one."""
    base = Checkpoint.open(world / case["base"])
    keys = select_key_neurons(SavedScores(world / case["scores"], base), 20.0) if "scores" in case else None
    steps = []
    return train_checkpoint(
        base,
        DOCUMENTS,
        TrainingOptions(**case["options"]),
        output,
        keys,
        case.get("revert", False),
        progress=steps.append,
        lora=LoraOptions(2, 4.0) if case.get("lora") else None,
        processes=Processes(device=world.device),
        halted=cut and (lambda: len(steps) + 1 >= cut),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["output"])
def test_several_processes_train_what_one_trains(world, tmp_path, case):
    told = train_alone(world, case, tmp_path / "one")
    said = json.loads((world / case["output"] / "training.json").read_text())
    assert (said["processes"], said["sharded"]) == (world.count, case["sharded"])
    for field in ("tokens", "trained_parameters", "documents", "key_neurons"):
        assert said[field] == told[field], field
    np.testing.assert_allclose(said["losses"], told["losses"], atol=2e-5)
    one, two = tensors_of(tmp_path / "one"), tensors_of(world / case["output"])
    assert set(one) == set(two)
    start = {} if case.get("lora") else tensors_of(world / case["base"])
    # Llama and its kin normalize in float32 whatever their weights are, so what two orders of sums differ by is rounded up
    close = 1e-10 if case["base"] == "gpt2" else 1e-5
    moved = 0
    for name, tensor in one.items():
        assert tensor.dtype == two[name].dtype
        apart = (two[name].double() - tensor.double()).abs().flatten()
        # Adam's first steps are the signs of gradients; in float32 that of one near zero may be any
        assert apart.quantile(0.98 if case["base"] == "moe" else 1.0) < close, name
        if start:
            moved += int((two[name] != start[name]).sum())
            untouched = tensor == start[name]
            assert torch.equal(two[name][untouched], start[name][untouched]), name
    assert moved or case.get("lora")
    assert not list(world.folder.glob(f".{case['output']}*"))


@pytest.mark.parametrize("case", LEFT, ids=lambda case: case["output"])
def test_one_process_goes_on_where_two_have_stopped(world, tmp_path, case):
    whole = train_alone(world, case, tmp_path / "whole")
    told = train_alone(world, case, world / case["output"])
    begun = json.loads((world / f"{case['output']}.losses").read_text())
    assert len(begun) == case["left"]
    assert told["losses"][: len(begun)] == begun
    np.testing.assert_allclose(told["losses"], whole["losses"], atol=2e-5)
    one, two = tensors_of(tmp_path / "whole"), tensors_of(world / case["output"])
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-10)


def test_a_step_that_cannot_be_shared_is_refused():
    assert Processes(count=2).share(4) == 2
    with pytest.raises(InputError, match="multiple of 2"):
        Processes(count=2).share(3)


def test_a_part_needs_a_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun"), Processes.join(sharded=True):
        pass
