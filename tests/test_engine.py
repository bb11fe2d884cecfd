"""Batched answers are the answers one by one; choices by log-likelihood against transformers' own loss."""

import weakref
from pathlib import Path

import pytest
import torch
import transformers
from small_workspace import byte_tokenizer, config

from maet_core.conversation import Decoding
from maet_core.errors import Cancelled
from maet_core.evaluation import threads as fitting
from maet_core.evaluation.engine import answer
from maet_core.evaluation.likelihood import choose
from maet_core.evaluation.prompts import Protocol, build_prompt, stop_texts
from maet_core.evaluation.tasks import load_task

DEMO = Path(__file__).parents[1] / "assets" / "demo" / "models"
PROMPTS = ["A", "Q: how many?\nA:", "আশার 3টি আম", "a much longer question than the others, with many words in it"]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    """Random weights, sharpened a little: logits of a fresh model are so close that every choice would be a close call."""
    made = transformers.LlamaForCausalLM(config(len(tokenizer), tie_word_embeddings=False)).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(20)
    return made


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_batches_change_nothing(model, tokenizer, temperature):
    decoding = Decoding(24, temperature, seed=4)
    together = answer(model, tokenizer, PROMPTS, decoding, batch_rows=4)
    assert together == answer(model, tokenizer, PROMPTS, decoding, batch_rows=1)
    alone = [answer(model, tokenizer, [prompt], decoding, seeds=[i])[0] for i, prompt in enumerate(PROMPTS)]
    assert together == alone


def test_ties_are_answered_as_if_alone(model, tokenizer):
    """A head of small whole numbers gives exact ties and close calls at every step."""
    torch.manual_seed(1)
    flat = transformers.LlamaForCausalLM(config(len(tokenizer), tie_word_embeddings=False)).eval()
    with torch.no_grad():
        flat.lm_head.weight.copy_((flat.lm_head.weight * 60).round().sign() * 1e-3)
    together = answer(flat, tokenizer, PROMPTS, Decoding(16), batch_rows=4)
    assert together == answer(flat, tokenizer, PROMPTS, Decoding(16), batch_rows=1)


def test_a_batch_too_large_for_the_card_is_halved(model, tokenizer, monkeypatch):
    """What the failed batch held is gone before the cache is emptied: else the next one has no more room than it had."""
    expected = answer(model, tokenizer, PROMPTS, Decoding(8), batch_rows=4)
    generate, held, freed = type(model).generate, [], []

    def short_of_memory(self, input_ids, **more):
        if len(input_ids) > 1:
            activations = torch.zeros(8)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, input_ids=input_ids, **more)

    monkeypatch.setattr(type(model), "generate", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[-1]() is None))
    assert answer(model, tokenizer, PROMPTS, Decoding(8), batch_rows=4) == expected
    assert freed == [True, True]

    def full(self, **_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "generate", full)
    with pytest.raises(torch.OutOfMemoryError):
        answer(model, tokenizer, PROMPTS, Decoding(8), batch_rows=4)


def test_greedy_is_what_transformers_says(model, tokenizer):
    found = answer(model, tokenizer, PROMPTS, Decoding(12), batch_rows=4)
    for prompt, reply in zip(PROMPTS, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        out = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert reply.text == tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_demo_model_in_batches():
    model = transformers.AutoModelForCausalLM.from_pretrained(DEMO / "math-en", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO / "math-en")
    task = load_task("demo-math", ["en", "bn"], limit=6)
    prompts = [build_prompt(item, Protocol("own")) for item in task.items]
    together = answer(model, tokenizer, prompts, Decoding(24), batch_rows=12)
    assert together == answer(model, tokenizer, prompts, Decoding(24), batch_rows=1)
    assert any("####" in reply.text for reply in together)


def test_a_stop_text_ends_the_answer(model, tokenizer):
    whole = answer(model, tokenizer, PROMPTS[:2], Decoding(30))
    stop = whole[0].text[3:5]
    cut, other = answer(model, tokenizer, PROMPTS[:2], Decoding(30), [(stop,), ()])
    assert cut.finished == "stop"
    assert cut.text == whole[0].text[: whole[0].text.find(stop)].strip()
    assert cut.tokens < whole[0].tokens
    assert other == whole[1]


def test_stop_texts_name_the_next_question():
    assert stop_texts("sw", "direct")[0] == "Swali:"
    assert stop_texts("sw", "own")[0] == "\nQ:"


def test_too_long_and_too_little_room(model, tokenizer):
    short = transformers.LlamaForCausalLM(config(len(tokenizer), max_position_embeddings=24)).eval()
    prompts = ["abc", "x" * 20, "x" * 30, "y" * 23]
    found = answer(short, tokenizer, prompts, Decoding(16), batch_rows=4)
    assert found[2].finished == "too long"
    assert found == answer(short, tokenizer, prompts, Decoding(16), batch_rows=1)
    assert found[3].tokens == 1


@pytest.mark.parametrize(("small", "threads"), [(10**9, 1), (0, 2)])
def test_a_small_model_is_given_one_thread_for_a_while(model, monkeypatch, small, threads):
    monkeypatch.setattr(fitting, "SMALL", small)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fitting.fitting_threads(model):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_batches_are_told_as_they_come_and_halting_stops(model, tokenizer):
    told = []
    answer(model, tokenizer, PROMPTS, Decoding(4), batch_rows=2, on_batch=told.append)
    assert sorted(i for batch in told for i, _ in batch) == [0, 1, 2, 3]
    assert len(told) == 2
    with pytest.raises(Cancelled):
        answer(model, tokenizer, PROMPTS, Decoding(400), batch_rows=4, halted=lambda: len(told) == 2)


def test_choices_by_log_likelihood(model, tokenizer):
    questions = [("Q: big?", ("yes", "no", "maybe so")), ("longer question: small?", ("no", "yes"))]
    found = choose(model, tokenizer, questions, batch_rows=3)
    for (prompt, choices), likelihood in zip(questions, found, strict=True):
        for choice, got in zip(choices, likelihood.sums, strict=True):
            ids = tokenizer(f"{prompt} {choice}", return_tensors="pt", return_token_type_ids=False)["input_ids"]
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            expected = -model(ids, labels=labels).loss.item() * (len(choice) + 1)
            assert got == pytest.approx(expected, rel=1e-5)
        assert likelihood.sums[likelihood.likeliest] == max(likelihood.sums)
        assert likelihood.nbytes == tuple(len(choice) for choice in choices)
