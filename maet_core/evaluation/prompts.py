"""How a question is put to a model: the protocol, which stands beside every number that comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from maet_core.errors import InputError
from maet_core.evaluation.extraction import MARK
from maet_core.evaluation.languages import words
from maet_core.evaluation.questions import Question
from maet_core.evaluation.tasks import Task

Style = Literal["own", "direct", "cot-en", "cot-native"]
STYLES: tuple[str, ...] = get_args(Style)
# tokens an answer may have, where nobody says; 256 is what the EleutherAI harness allows
ROOM = {"own": 64, "direct": 256, "cot-en": 512, "cot-native": 512}
_TURN_ENDS = ("</s>", "<|im_end|>")


@dataclass(frozen=True)
class Protocol:
    """Everything beside model and question that an answer depends on.

    `style`: `own` is the task's own prompt; `direct` asks for the answer at once, `cot-en` and `cot-native` for steps in English or in
    the question's language. `shots` exemplars come before the question. `chat` wraps it in the tokenizer's chat template.
    `dtype` is what the model computes in; temperature 0 is greedy decoding.
    """

    style: Style = "direct"
    shots: int = 0
    chat: bool = False
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(f"prompt: found {self.style!r}, expected {', '.join(STYLES)}")
        if self.shots < 0:
            raise InputError(f"shots: found {self.shots}, expected 0 or more")

    def text(self) -> str:
        """`direct, 0-shot, greedy, at most 256 tokens, float32`."""
        names = {
            "own": "the task's own prompt",
            "direct": "direct",
            "cot-en": "steps in English",
            "cot-native": "steps in the language",
        }
        decoding = (
            "greedy"
            if self.temperature == 0
            else f"temperature {self.temperature:g}, top-p {self.top_p:g}, seed {self.seed}"
        )
        parts = [names[self.style], f"{self.shots}-shot", *(["chat template"] if self.chat else ()), decoding]
        return ", ".join([*parts, f"at most {self.max_new_tokens} tokens", self.dtype])

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"text": self.text()}


def default_style(task: Task) -> Style:
    return "own" if task.has_prompts else "direct"


def question_text(item: Question, style: Style) -> str:
    """The question up to the point where the answer begins. Raises InputError for a task without prompts of its own."""
    own = words(item.language)
    match style:
        case "own":
            if not item.prompt:
                raise InputError(f"prompt: the question {item.id} has none of its own; choose {', '.join(STYLES[1:])}")
            return item.prompt
        case "direct":
            return f"{own.question} {item.question}\n{own.answer}"
        case "cot-en":
            return f"{own.question} {item.question}\n{words('en').steps}"
    return f"{own.question} {item.question}\n{own.steps}"


def exemplar_text(item: Question, style: Style) -> str:
    """A question with its answer. Raises InputError where steps are asked for and the exemplar has none."""
    if style in ("own", "cot-en", "cot-native") and item.worked:
        answer = item.worked
    elif style.startswith("cot"):
        raise InputError(
            f"exemplars: {item.id} ({item.language}) has no worked answer; add a column `worked`, or use direct prompts"
        )
    else:
        answer = f"{MARK} {item.answer}" if style == "own" and item.number is not None else item.answer
    return f"{question_text(item, style)} {answer}\n\n"


def build_prompt(item: Question, protocol: Protocol, exemplars: Sequence[Question] = (), tokenizer: Any = None) -> str:
    """The text that the model goes on from. `exemplars`: at least `protocol.shots` items of the same language."""
    shown = exemplars[: protocol.shots]
    if len(shown) < protocol.shots:
        raise InputError(
            f"shots: {protocol.shots} asked for, {len(shown)} exemplars there in {item.language}; "
            "name a file of them with --exemplars, or ask for fewer"
        )
    text = "".join(exemplar_text(other, protocol.style) for other in shown) + question_text(item, protocol.style)
    if not protocol.chat:
        return text
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("chat: the tokenizer has no chat template; leave it out")
    asked = text if protocol.style != "own" else item.question
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
    )


def stop_texts(language: str, style: Style) -> tuple[str, ...]:
    """Where an answer is over although the model goes on: the next question, or the end of a turn."""
    label = "\nQ:" if style == "own" else words(language).question
    return (label, *_TURN_ENDS)
