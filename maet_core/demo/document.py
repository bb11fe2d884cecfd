"""What a corpus consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A text; where it is a question with its answer, `answer` is what the loss can be restricted to."""

    prompt: str
    answer: str

    @property
    def text(self) -> str:
        return self.prompt + self.answer


def as_prompt(question: str) -> str:
    """The exact input a model gets for a question."""
    return f"Q: {question}\nA:"
