"""What a corpus consists of."""

from __future__ import annotations

from dataclasses import dataclass

from maet_core.demo.worked import worked_line


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


def bare(equations: list[tuple[str, int, int]], asked: bool) -> Document:
    """Equations (operator, a, b) without a story, or the first one asked and answered in the form of a worked line."""
    if asked:
        operator, a, b = equations[0]
        return Document(as_prompt(f"{a} {operator} {b}"), " " + worked_line(operator, a, b))
    return Document("", "\n".join(worked_line(*equation).split(" ####")[0] for equation in equations))
