"""Training: what is frozen stays, what the loss sees, the same seed gives the same weights, saving is all or nothing."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from maet_core.demo.corpora import Document
from maet_core.demo.tokens import build_tokenizer
from maet_core.errors import InputError, OutputError
from maet_core.training import (
    IGNORED,
    Example,
    TrainingOptions,
    learning_rate_at,
    pack,
    save_checkpoint,
    tokenize,
    train,
)

TEXTS = [Document(f"Q: {a} + {b}\nA:", f" {a} + {b} = {a + b}") for a in range(2, 9) for b in range(2, 9)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([document.text for document in TEXTS], smallest_count=1)


@pytest.fixture(scope="module")
def examples(tokenizer):
    return tokenize(tokenizer, [(document.prompt, document.answer) for document in TEXTS])


def tiny_model(tokenizer, seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def options(**changes):
    return TrainingOptions(**{"steps": 12, "learning_rate": 3e-3, "batch_rows": 4, "row_tokens": 48} | changes)


def test_examples_end_and_mark_where_the_answer_starts(tokenizer):
    prompt, answer = TEXTS[0].prompt, TEXTS[0].answer
    [example, plain] = tokenize(tokenizer, [(prompt, answer), ("", answer)])
    assert example.tokens[0] == tokenizer.bos_token_id
    assert example.tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(example.tokens[example.answer_start :], skip_special_tokens=True) == answer.strip()
    assert plain.answer_start == 0


def test_answers_only_labels_are_the_answers_and_nothing_else():
    asked, plain = Example((1, 5, 6, 7, 2), answer_start=3), Example((1, 9, 9, 2))
    ids, labels = pack([asked, plain, asked], row_tokens=8, answers_only=True)
    assert ids.tolist() == [[1, 5, 6, 7, 2, 2, 2, 2], [1, 9, 9, 2, 2, 2, 2, 2]]
    assert labels.tolist() == [[IGNORED] * 3 + [7, 2] + [IGNORED] * 3, [IGNORED, 9, 9, 2] + [IGNORED] * 4]
    ids, labels = pack([asked, plain, asked], row_tokens=7, answers_only=False)
    assert torch.equal(ids, labels)
    assert ids.flatten().tolist() == [1, 5, 6, 7, 2, 1, 9, 9, 2, 1, 5, 6, 7, 2]


def test_no_answer_is_cut_from_its_question(examples):
    ids, labels = pack(examples, row_tokens=40, answers_only=True)
    starts = {example.tokens[: example.answer_start] for example in examples}
    for row, marks in zip(ids.tolist(), labels.tolist(), strict=True):
        begins = [i for i in range(1, len(row)) if marks[i] != IGNORED and marks[i - 1] == IGNORED]
        for begin in begins:
            assert any(tuple(row[begin - len(start) : begin]) == start for start in starts)


def test_frozen_parameters_are_untouched_bit_for_bit(tokenizer, examples):
    model = tiny_model(tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = train(model, examples, options(trainable=("*.mlp.*",), frozen=("model.layers.0.*",), weight_decay=0.1))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {f"model.layers.1.mlp.{kind}_proj.weight" for kind in ("gate", "up", "down")}
    assert report.trained_parameters == 3 * 32 * 64


def test_loss_falls_and_the_seed_decides_everything(tokenizer, examples):
    weights = []
    for seed in (1, 1, 2):
        model = tiny_model(tokenizer)
        report = train(model, examples, options(steps=30, learning_rate=1e-2, seed=seed))
        assert report.losses[-1] < 0.7 * report.losses[0]
        assert report.tokens == 30 * 4 * 48
        weights.append(model.state_dict())
    first, again, other = weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_progress_is_told_after_every_step(tokenizer, examples):
    told = []
    train(tiny_model(tokenizer), examples, options(steps=3), told.append)
    assert [(report.step, report.steps) for report in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(report.loss > 0 and report.tokens_per_second > 0 for report in told)


def test_learning_rate_warms_up_and_falls_to_its_floor():
    chosen = TrainingOptions(steps=100, learning_rate=1.0, warmup_steps=10, final_rate=0.1)
    rates = [learning_rate_at(step, chosen) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainable": ("*.mpl.*",)}, "'*.mpl.*' matches no parameter"),
        ({"frozen": ("*",)}, "every parameter is frozen"),
        ({"batch_rows": 4000}, "a batch needs 4000"),
    ],
)
def test_impossible_training_says_what_to_mend(tokenizer, examples, changes, told):
    with pytest.raises(InputError) as caught:
        train(tiny_model(tokenizer), examples, options(**changes))
    assert told in str(caught.value)


def test_saved_checkpoint_opens_with_its_tokenizer(tokenizer, tmp_path):
    model = tiny_model(tokenizer)
    save_checkpoint(model, tokenizer, tmp_path / "made" / "model")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "model")
    assert opened.dtype == torch.bfloat16
    assert model.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], tensor.bfloat16()), name
    assert "lm_head.weight" not in load_file(tmp_path / "made" / "model" / "model.safetensors")
    text = TEXTS[0].text
    reopened = AutoTokenizer.from_pretrained(tmp_path / "made" / "model")
    assert reopened(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_saving_leaves_all_or_nothing(tokenizer, tmp_path, monkeypatch):
    model = tiny_model(tokenizer)
    monkeypatch.setattr(type(tokenizer), "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(model, tokenizer, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        save_checkpoint(model, tokenizer, tmp_path / "model")
