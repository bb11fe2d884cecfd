"""bf16, activation checkpointing, the corpus on disk, and being stopped: what each promises."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.corpora import corpora_key, mix_corpora
from maet_core.errors import InputError
from maet_core.importance import locate, select_key_neurons
from maet_core.resident import load_model, load_tokenizer
from maet_core.training import Example, TrainingOptions, tokenize, train
from maet_core.training.checkpoint import train_checkpoint
from maet_core.training.packing import batches
from maet_core.training.tokens import store_tokens

DOCUMENTS = [(f"t{a} t{b}", f" t{(a + b) % 37 + 3}") for a in range(3, 40) for b in range(3, 9)]
OPTIONS = TrainingOptions(steps=4, learning_rate=1e-3, batch_rows=4, row_tokens=16, warmup_steps=2)


@pytest.fixture
def base(tmp_path):
    make_family(tmp_path, "llama", dtype="bfloat16", seed=6)
    add_tokenizer(tmp_path / "base")
    return Checkpoint.open(tmp_path / "base")


def trained(base, options, **more):
    model = load_model(base).float()
    report = train(model, tokenize(load_tokenizer(base), DOCUMENTS), options, **more)
    return model, report


def test_bf16_keeps_float32_weights_and_follows_the_full_training(base):
    plain, exact = trained(base, OPTIONS)
    model, report = trained(base, TrainingOptions(**{**vars(OPTIONS), "bf16": True}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert report.losses != exact.losses
    np.testing.assert_allclose(report.losses, exact.losses, rtol=0.02)
    start = torch.cat([p.flatten() for p in load_model(base).float().parameters()])
    moved = [torch.cat([p.detach().flatten() for p in m.parameters()]) - start for m in (plain, model)]
    assert torch.cosine_similarity(*moved, dim=0) > 0.9


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_key_neurons_in_bf16_keep_the_rest_as_narrow_as_it_is(base, tmp_path, monkeypatch, granularity):
    keys = select_key_neurons(locate("random", base, granularity=granularity), 20.0)
    seen = set()
    from maet_core.training import checkpoint

    def spy(model, *arguments):
        seen.update(p.dtype for p in model.parameters())
        seen.update(t.dtype for t in arguments[3].tensors.values())
        return train(model, *arguments)

    monkeypatch.setattr(checkpoint, "train", spy)
    options = TrainingOptions(**{**vars(OPTIONS), "bf16": True})
    train_checkpoint(base, DOCUMENTS, options, tmp_path / "out", keys)
    assert seen == {torch.bfloat16, torch.float32}
    after = Checkpoint.open(tmp_path / "out")
    for name, info in base.tensors.items():
        outside = ~keys.mask(name) if keys.counts.get(name) else torch.ones(info.numel, dtype=torch.bool)
        bits = [c.read(name).reshape(-1).view(torch.int16)[outside] for c in (base, after)]
        assert torch.equal(*bits), name


def test_a_training_that_blows_up_says_so(base):
    with pytest.raises(InputError, match=r"--learning-rate: the loss of step \d is (nan|inf)"):
        trained(base, TrainingOptions(steps=9, learning_rate=1e30, batch_rows=4, row_tokens=16, warmup_steps=0))


def test_checkpointed_activations_change_nothing(base):
    plain, _ = trained(base, OPTIONS)
    again, _ = trained(base, TrainingOptions(**{**vars(OPTIONS), "checkpoint_activations": True}))
    assert not again.is_activation_checkpointing
    for (name, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_corpus_on_disk_gives_the_batches_of_one_in_memory(base, tmp_path):
    tokenizer = load_tokenizer(base)
    store = store_tokens(tmp_path / "store", tokenizer, iter(DOCUMENTS), 10**9)
    examples = tokenize(tokenizer, DOCUMENTS)
    assert list(store) == examples
    assert store.tokens == sum(len(example.tokens) for example in examples)
    options = TrainingOptions(**{**vars(OPTIONS), "answers_only": True})
    for one, other, _ in zip(batches(store, options), batches(examples, options), range(100), strict=False):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    with pytest.raises(IndexError):
        store[len(store)]


def test_a_corpus_is_read_no_further_than_it_is_needed_and_not_twice(base, tmp_path):
    tokenizer = load_tokenizer(base)
    read = []

    def endless():
        while True:
            read.append(1)
            yield ("", f"t{len(read) % 37 + 3} t5")

    store = store_tokens(tmp_path / "store", tokenizer, endless(), 2000, "key")
    assert 2000 <= store.tokens < 3000
    count = len(read)
    assert store_tokens(tmp_path / "store", tokenizer, endless(), 2000, "key").digest == store.digest
    assert len(read) == count
    store_tokens(tmp_path / "store", tokenizer, iter(DOCUMENTS), 2000, "another")
    (tmp_path / "store" / "corpus.json").write_text("{")
    assert len(store_tokens(tmp_path / "store", tokenizer, iter(DOCUMENTS[:3]), 2000, "another")) == 3
    with pytest.raises(InputError, match="empty"):
        store_tokens(tmp_path / "none", tokenizer, [], 2000)


def test_corpora_are_mixed_and_known_by_their_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\nthree\n")
    (tmp_path / "b.txt").write_text("un\n")
    sources = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert [text for _, text in mix_corpora(sources)] == ["one", "un", "two", "three"]
    assert [text for _, text in mix_corpora(sources, 1)] == ["one", "un"]
    keys = [corpora_key(sources), corpora_key(sources, 1), corpora_key(sources[:1])]
    (tmp_path / "b.txt").write_text("un deux\n")
    assert len({*keys, corpora_key(sources)}) == 4


def test_every_document_is_seen_once_a_pass():
    examples = [Example((number, 1)) for number in range(64)]
    options = TrainingOptions(steps=1, learning_rate=1.0, batch_rows=4, row_tokens=8)
    source = batches(examples, options)
    passes = [torch.cat([next(source)[0] for _ in range(4)]).view(-1, 2)[:, 0] for _ in range(2)]
    assert all(sorted(order.tolist()) == list(range(64)) for order in passes)
    assert not torch.equal(*passes)


def test_a_stopped_command_keeps_its_state_and_goes_on(base, tmp_path):
    rows = ({"prompt": prompt, "answer": answer} for prompt, answer in DOCUMENTS)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "maet_core", "train", "--base", "base", "--corpus", "c.jsonl", "--steps", "100"]
    command += ["--row-tokens", "16", "--batch-rows", "4", "--save-every", "1000000", "--json"]
    environment = os.environ | {"MAET_PROGRESS": "lines", "MAET_METRICS": str(tmp_path / "curve.jsonl")}
    running = subprocess.Popen(
        [*command, "-o", "out"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in running.stderr:
        if line.startswith("progress") and "training" in line:
            break
    assert "tokens/s" in line
    assert "left" in line
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 143
    assert "the same command goes on" in said
    assert not (tmp_path / "out").exists()
    again = subprocess.run([*command, "-o", "out"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == list(range(1, 101))
    np.testing.assert_allclose([point["loss"] for point in curve], told["losses"], atol=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
