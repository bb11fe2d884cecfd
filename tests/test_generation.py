"""Streamed answers: all at once, stopped at a word, whole characters only, failures of one model kept to it."""

import threading
import time
from contextlib import contextmanager

import pytest
import torch
import transformers
from small_workspace import byte_tokenizer, config

from maet_core.conversation import Decoding, Speaker
from maet_core.errors import InputError
from maet_core.generation import Sampler, generate, stream

BENGALI = "তার কয়টি আম আছে?"


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return transformers.LlamaForCausalLM(config(len(tokenizer))).eval()


class Parrot:
    """Says a given text token by token, as `generate` of transformers would: streamer and stopping criteria included."""

    device = torch.device("cpu")
    generation_config = None

    def __init__(self, tokens: list[int], pause: float = 0.0, fail_after: int | None = None):
        self.tokens, self.pause, self.fail_after = tokens, pause, fail_after
        self.config = type("Config", (), {"max_position_embeddings": 512})()

    def generate(self, input_ids, attention_mask, generation_config, logits_processor, streamer, stopping_criteria):
        streamer.put(input_ids)
        said = []
        for token in self.tokens[: generation_config.max_new_tokens]:
            if len(said) == self.fail_after:
                raise RuntimeError("out of parrots")
            said.append(token)
            streamer.put(torch.tensor([token]))
            time.sleep(self.pause)
            so_far = torch.cat([input_ids, torch.tensor([said])], dim=1)
            if token in (generation_config.eos_token_id or []) or bool(stopping_criteria(so_far, None).all()):
                break
        streamer.end()


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def test_the_answer_is_what_transformers_generates(model, tokenizer):
    prompt = tokenizer("Q: 3 + 4?", return_tensors="pt", return_token_type_ids=False)
    expected = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    answer = generate(Speaker("a", model, tokenizer), "Q: 3 + 4?", Decoding(12))
    assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert answer.tokens == len(expected)
    assert answer.finished in ("end", "length")
    assert answer.seconds > 0


def test_sampling_is_repeatable_and_differs_by_seed(model, tokenizer):
    def say(seed: int) -> str:
        return generate(Speaker("a", model, tokenizer), "Q", Decoding(16, temperature=2.0, seed=seed)).text

    assert say(1) == say(1)
    assert say(1) != say(2)


def test_sampling_at_the_same_time_is_still_repeatable(model, tokenizer):
    alone = generate(Speaker("a", model, tokenizer), "Q", Decoding(40, temperature=2.0, seed=3)).text
    speakers = [Speaker(label, model, tokenizer) for label in "abc"]
    last = {answer.label: answer for answer in stream(speakers, "Q", Decoding(40, temperature=2.0, seed=3))}
    assert {answer.text for answer in last.values()} == {alone}


@pytest.mark.parametrize(("top_p", "expected"), [(1.0, [0.5, 0.3, 0.15, 0.05]), (0.6, [0.625, 0.375, 0.0, 0.0])])
def test_sampling_follows_the_probabilities(top_p, expected):
    """20,000 draws: a share differs from its probability by more than 0.02 less than once in a million runs."""
    sampler = Sampler(Decoding(temperature=2.0, top_p=top_p, seed=5), range(100))
    logits = 2.0 * torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    draws = torch.cat([sampler(None, logits.expand(100, 4)).argmax(dim=-1) for _ in range(200)])
    shares = torch.bincount(draws, minlength=4) / len(draws)
    torch.testing.assert_close(shares, torch.tensor(expected), atol=0.02, rtol=0)


def test_letters_come_whole(tokenizer):
    parrot = Parrot(ids(tokenizer, BENGALI), pause=0.004)
    answers = list(stream([Speaker("a", parrot, tokenizer)], "Q", Decoding(200)))
    assert answers[-1].text == BENGALI
    assert len(answers) > 2
    for earlier in answers:
        assert BENGALI.startswith(earlier.text)


def test_all_speak_at_once_and_each_ends_once(tokenizer):
    slow = Speaker("slow", Parrot(ids(tokenizer, "s" * 30), pause=0.02), tokenizer)
    quick = Speaker("quick", Parrot(ids(tokenizer, "q" * 30), pause=0.005), tokenizer)
    answers = list(stream([slow, quick], "Q", Decoding(200)))
    ends = [answer.label for answer in answers if answer.finished]
    assert sorted(ends) == ["quick", "slow"]
    first_end = next(i for i, answer in enumerate(answers) if answer.finished)
    assert {answer.label for answer in answers[:first_end]} == {"slow", "quick"}


def test_halt_keeps_what_was_said(tokenizer):
    halt = threading.Event()
    parrot = Parrot(ids(tokenizer, "x" * 200), pause=0.01)
    answers = []
    for answer in stream([Speaker("a", parrot, tokenizer)], "Q", Decoding(200), halt):
        answers.append(answer)
        halt.set()
    assert answers[-1].finished == "stopped"
    assert 0 < answers[-1].tokens < 200
    assert answers[-1].text == "x" * answers[-1].tokens


def test_closing_the_stream_ends_the_threads(tokenizer):
    parrot = Parrot(ids(tokenizer, "x" * 200), pause=0.01)
    answers = stream([Speaker("a", parrot, tokenizer)], "Q", Decoding(200))
    next(answers)
    answers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("answer-")]


def test_one_failure_leaves_the_others_alone(tokenizer):
    bad = Speaker("bad", Parrot(ids(tokenizer, "x" * 9), fail_after=2), tokenizer)
    good = Speaker("good", Parrot(ids(tokenizer, "fine")), tokenizer)
    last = {answer.label: answer for answer in stream([bad, good], "Q", Decoding(20))}
    assert last["bad"].finished == "error"
    assert "out of parrots" in last["bad"].error
    assert last["good"].text == "fine"


def test_the_model_is_held_for_the_whole_answer(tokenizer):
    log = []

    @contextmanager
    def hold():
        log.append("held")
        yield
        log.append("free")

    parrot = Parrot(ids(tokenizer, "abc"))
    list(stream([Speaker("a", parrot, tokenizer, hold)], "Q", Decoding(20)))
    assert log == ["held", "free"]


def test_the_end_token_ends_and_is_not_shown(tokenizer):
    parrot = Parrot([*ids(tokenizer, "yes"), tokenizer.eos_token_id, *ids(tokenizer, "more")])
    answer = generate(Speaker("a", parrot, tokenizer), "Q", Decoding(20))
    assert (answer.text, answer.finished) == ("yes", "end")


@pytest.mark.parametrize("prompt", ["", "x" * 2100])
def test_a_prompt_that_cannot_be_answered_is_an_error_of_the_answer(model, tokenizer, prompt):
    answer = generate(Speaker("a", model, tokenizer), prompt, Decoding(5))
    assert answer.finished == "error"
    assert "question" in answer.error


def test_the_answer_stays_within_the_model_s_room(model, tokenizer):
    answer = generate(Speaker("a", model, tokenizer), "x" * 2044, Decoding(100))
    assert answer.tokens <= 4


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**6},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
    ],
)
def test_decoding_refuses_what_makes_no_sense(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Decoding(**settings)
