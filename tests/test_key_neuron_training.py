"""Key-neuron training against its oracle, masks on the gradients of full training; resume; the command."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.cli import main
from maet_core.differences import Models
from maet_core.errors import InputError, OutputError
from maet_core.importance import locate, save_scores, select_key_neurons
from maet_core.resident import load_model, load_tokenizer
from maet_core.training import (
    Example,
    KeyNeuronParameters,
    TrainingOptions,
    TrainingState,
    learning_rate_at,
    tokenize,
    train,
)
from maet_core.training.checkpoint import train_checkpoint
from maet_core.training.packing import batches

DOCUMENTS = [(f"Q: {a} and {b}?", f" {a + b}") for a in range(12) for b in range(12)]
OPTIONS = TrainingOptions(steps=6, learning_rate=1e-2, batch_rows=4, row_tokens=16, warmup_steps=2, answers_only=True)


@pytest.fixture(scope="module", params=["llama", "qwen2_moe"])
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    make_family(folder, request.param, dtype="bfloat16", seed=6)
    add_tokenizer(folder / "base")
    return folder


def key_neurons(folder, k1=20.0, granularity="parameter"):
    base = Checkpoint.open(folder / "base")
    scores = locate("value-change", base, Models(base, folder).open("ability"), granularity)
    return base, select_key_neurons(scores, k1)


def without_dropout(model):
    """The oracle draws no random numbers."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def masked_training(model, base, keys, examples, options):
    """The oracle: gradients of everything, zeroed outside the mask, AdamW written out, in float64."""
    saved = {name: base.read(name) for name in base.tensors}
    names = [name for name, _ in model.named_parameters()]
    masks = {name: keys.mask(name).reshape(saved[name].shape) for name in names if keys.counts.get(name)}
    first = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    source = batches(examples, options)
    for step in range(options.steps):
        model.zero_grad()
        for _ in range(options.accumulate):
            ids, labels = next(source)
            (model(input_ids=ids, labels=labels, use_cache=False).loss / options.accumulate).backward()
        gradients = {
            name: p.grad * masks[name] if name in masks else torch.zeros_like(p) for name, p in model.named_parameters()
        }
        norm = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
        scale = min(1.0, options.clip_norm / (norm.item() + 1e-6))
        rate = learning_rate_at(step, options)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gradient = gradients[name] * scale
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.95 * second[name] + 0.05 * gradient**2
                mean, spread = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.95 ** (step + 1))
                parameter -= rate * mean / (spread.sqrt() + 1e-8)
    return model


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_key_neuron_training_is_masked_training(tmp_path_factory, granularity, accumulate):
    folder = tmp_path_factory.mktemp("world")
    make_family(folder, "gpt2", dtype="float32", seed=6)  # its tensors have the names that the model's parameters have
    add_tokenizer(folder / "base")
    base, keys = key_neurons(folder, granularity=granularity)
    options = TrainingOptions(**{**vars(OPTIONS), "accumulate": accumulate})
    examples = tokenize(load_tokenizer(base), DOCUMENTS)
    model = without_dropout(load_model(base).double())
    trainable = KeyNeuronParameters(model, base, keys)
    assert sum(t.numel() for t in trainable.tensors.values()) == sum(int(keys.mask(n).sum()) for n in trainable.tensors)
    report = train(model, examples, options, trainable=trainable)
    expected = masked_training(without_dropout(load_model(base).double()), base, keys, examples, options)
    for (name, found), (_, wanted) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=0, atol=1e-10, err_msg=name)
    assert report.trained_parameters == sum(tensor.numel() for tensor in trainable.tensors.values())


def test_only_the_key_units_of_a_linear_layer_have_a_gradient(tmp_path):
    """Rows of q_proj and up_proj, columns of down_proj, biases, a tied head: against autograd on the whole weights."""
    make_family(tmp_path, "qwen2", dtype="float32", seed=6)
    base, keys = key_neurons(tmp_path, granularity="unit")
    ids = torch.randint(3, 40, (2, 12), generator=torch.Generator().manual_seed(1))
    plain, model = load_model(base), load_model(base)
    plain(input_ids=ids, labels=ids).loss.backward()
    trainable = KeyNeuronParameters(model, base, keys)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and "forward" in vars(m)]
    assert len(layers) > 6
    for _ in range(2):  # two batches add up
        model(input_ids=ids, labels=ids).loss.backward()
    assert all(layer.weight.grad is None for layer in layers)
    whole = dict(plain.named_parameters())
    assert set(trainable.tensors) <= set(whole)
    for name, tensor in trainable.tensors.items():
        expected = 2 * whole[name].grad.flatten()[keys.mask(name)]
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    trainable.release()
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("revert", [False, True])
def test_what_is_not_key_keeps_its_bits(world, tmp_path, revert):
    base, keys = key_neurons(world)
    told = train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "out", keys, revert)
    trained = Checkpoint.open(tmp_path / "out")
    assert set(trained.tensors) == set(base.tensors)
    moved = 0
    for name, info in base.tensors.items():
        assert trained.tensors[name].dtype == info.dtype
        before, after = base.read(name).view(torch.int16), trained.read(name).view(torch.int16)
        inside = (
            keys.mask(name).reshape(info.shape) if keys.counts.get(name) else torch.zeros(info.shape, dtype=torch.bool)
        )
        assert torch.equal(before[~inside], after[~inside]), name
        moved += int((before != after).sum())
    assert moved > 0.2 * keys.count
    assert told == json.loads((tmp_path / "out" / "training.json").read_text())
    assert len(told["losses"]) == OPTIONS.steps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_loss_falls(world, tmp_path):
    base, keys = key_neurons(world, k1=50.0)
    options = TrainingOptions(**{**vars(OPTIONS), "steps": 40})
    told = train_checkpoint(base, DOCUMENTS, options, tmp_path / "out", keys)
    assert np.mean(told["losses"][-5:]) < np.mean(told["losses"][:5]) - 0.15


@pytest.mark.parametrize("part", ["keys", "units", "all"])
def test_a_training_that_stopped_goes_on_exactly(world, tmp_path, part):
    base, keys = key_neurons(world, granularity="unit" if part == "units" else "parameter")
    keys = keys if part != "all" else None
    options = TrainingOptions(**{**vars(OPTIONS), "steps": 9})
    whole = train_checkpoint(base, DOCUMENTS, options, tmp_path / "whole", keys)

    def stop(report):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(base, DOCUMENTS, options, tmp_path / "parts", keys, save_every_steps=2, progress=stop)
    assert not (tmp_path / "parts").exists()
    steps = []
    parts = train_checkpoint(
        base, DOCUMENTS, options, tmp_path / "parts", keys, save_every_steps=2, progress=lambda r: steps.append(r.step)
    )
    assert steps[0] == 5  # step 4 was the last that was kept
    assert parts["losses"] == whole["losses"]
    assert parts["tokens"] == whole["tokens"]
    one, other = Checkpoint.open(tmp_path / "whole"), Checkpoint.open(tmp_path / "parts")
    assert one.identity == other.identity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_a_state_of_other_work_is_refused(world, tmp_path):
    base, keys = key_neurons(world)
    state = TrainingState(tmp_path / "state", "this", every_steps=1)
    model = load_model(base).float()
    train(
        model, [Example((1, 5, 6, 7, 2))] * 40, OPTIONS, trainable=KeyNeuronParameters(model, base, keys), state=state
    )
    other = TrainingState(tmp_path / "state", "that")
    with pytest.raises(InputError, match="state of another training"):
        train(model, [Example((1, 5, 6, 7, 2))] * 40, OPTIONS, state=other)
    [kept] = (tmp_path / "state").glob("*.safetensors")
    kept.write_bytes(b"no state")
    model = load_model(base).float()
    with pytest.raises(InputError, match="cannot be read"):
        train(
            model,
            [Example((1, 5, 6, 7, 2))] * 40,
            OPTIONS,
            trainable=KeyNeuronParameters(model, base, keys),
            state=TrainingState(tmp_path / "state", "this"),
        )
    (tmp_path / "state" / "state.json").write_text("no state")
    with pytest.raises(InputError, match="cannot be read"):
        train(model, [Example((1, 5, 6, 7, 2))] * 40, OPTIONS, state=state)


def test_the_command_survives_a_kill(tmp_path):
    make_family(tmp_path, "llama", dtype="bfloat16", seed=6)
    add_tokenizer(tmp_path / "base")
    _, keys = key_neurons(tmp_path)
    save_scores(keys.scores, tmp_path / "scores.safetensors")
    rows = ({"prompt": prompt, "answer": answer} for prompt, answer in DOCUMENTS)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["train", "--base", "base", "--corpus", "c.jsonl", "--key-neurons", "scores.safetensors", "--k1", "20"]
    arguments += ["--steps", "60", "--row-tokens", "16", "--batch-rows", "4", "--save-every", "3", "--json"]
    command = [sys.executable, "-m", "maet_core", *arguments]
    calm = subprocess.run([*command, "-o", "calm"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert calm.returncode == 0, calm.stderr
    killed = subprocess.Popen(
        [*command, "-o", "killed"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while not (tmp_path / ".killed.training/state.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed").exists()
    again = subprocess.run([*command, "-o", "killed"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["losses"] == json.loads(calm.stdout)["losses"]
    assert Checkpoint.open(tmp_path / "killed").identity == Checkpoint.open(tmp_path / "calm").identity
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_wrong_input_is_one_line(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.txt").write_text("one\n\ntwo\n")
    (tmp_path / "there").mkdir()
    common = ["train", "--base", str(world / "base"), "--corpus", "c.txt"]
    for more, says in (
        (["-o", "there"], "exists already"),
        (["-o", "new", "--revert"], "--key-neurons"),
        (["-o", "new", "--trainable", "nothing*"], "nothing"),
        (["-o", "new", "--row-tokens", "64"], "fills 0 rows"),
    ):
        with pytest.raises(SystemExit) as ending:
            main([*common, *more])
        assert ending.value.code == 2
        line = capsys.readouterr().err
        assert says in line
        assert line.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt", "there"]
    base, _ = key_neurons(world)
    with pytest.raises(OutputError, match="exists"):
        train_checkpoint(base, DOCUMENTS, OPTIONS, tmp_path / "there")
