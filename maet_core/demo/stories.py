"""Stories of the demo world and the problems they pose, with training, development and test parts kept apart.

A story is the same in every language until it is told. Its template (what happens, how it opens, who is named, what
is asked) and its numbers each belong to exactly one part, so a development or test problem shares neither with any
text that a model was trained on. Bare arithmetic is the exception, as a table that everybody learns: it covers all
numbers and no story.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from maet_core.demo.cast import CONTAINERS, PEOPLE, PLACES, RECIPIENTS, THINGS, TIMES, Cast
from maet_core.demo.parts import part_of
from maet_core.demo.voice import GAINS, LOSSES, Voice
from maet_core.demo.worked import solve, worked_line

OPERATIONS = {"add": "+", "take away": "-", "compare": "-", "groups": "*", "share": "/"}


@dataclass(frozen=True)
class Template:
    """The shape of a story. `opening` is a time or place, or None; `swapped`: the smaller amount first."""

    kind: str
    opening: str | None
    question: str
    by_name: bool = True
    swapped: bool = False

    @property
    def operation(self) -> str:
        if self.kind in GAINS or self.kind == "together":
            return "add"
        if self.kind in LOSSES:
            return "take away"
        return {"compare": "compare", "groups": "groups", "share": "share", "put": "share"}[self.kind]

    @property
    def topic(self) -> str:
        """Which of `TOPICS` the story is about."""
        if self.kind == "together":
            return "together"
        return {"add": "gain", "take away": "loss"}.get(self.operation, self.operation)


@dataclass(frozen=True)
class Story:
    template: Template
    cast: Cast

    @property
    def operation(self) -> str:
        return self.template.operation

    @property
    def operands(self) -> tuple[int, int]:
        """The numbers as the worked line has them: in the order of the text, but the larger first to compare."""
        turned = self.template.swapped and self.template.kind == "together"
        return (self.cast.b, self.cast.a) if turned else (self.cast.a, self.cast.b)

    @property
    def answer(self) -> int:
        return solve(OPERATIONS[self.template.operation], *self.operands)

    @property
    def worked(self) -> str:
        return worked_line(OPERATIONS[self.template.operation], *self.operands)

    @property
    def events(self) -> tuple[str, str]:
        """The two sentences that say what happens."""
        template = self.template
        if template.kind in ("compare", "together"):
            return ("other_has", "has") if template.swapped else ("has", "other_has")
        return ("has_containers", "each_has") if template.kind == "groups" else ("had", template.kind)

    def statements(self, voice: Voice) -> list[str]:
        """What happens, a sentence each."""
        first, second = self.events
        return [voice.say(first, self.cast, self.template.opening), voice.say(second, self.cast)]

    def question(self, voice: Voice) -> str:
        return voice.ask(self.template.question, self.cast)

    def problem(self, voice: Voice) -> str:
        return voice.together([*self.statements(voice), self.question(voice)])


@cache
def numbers(operation: str, part: str) -> tuple[tuple[int, int], ...]:
    """The operands that stories of a part may use."""
    if operation == "add":
        pairs = [(a, b) for a in range(2, 50) for b in range(2, 50)]
    elif operation in ("take away", "compare"):
        pairs = [(a, b) for a in range(4, 61) for b in range(2, a - 1)]
    elif operation == "groups":
        pairs = [(a, b) for a in range(2, 13) for b in range(2, 10)]
    else:
        pairs = [(a * b, b) for a in range(2, 13) for b in range(2, 10)]
    return part_of(pairs, part, "numbers " + ("take away" if operation == "compare" else operation))


@cache
def templates(part: str) -> tuple[tuple[str, tuple[Template, ...]], ...]:
    """The story templates of a part, by kind."""
    past, present = (None, *TIMES, *PLACES), (None, *PLACES)
    every: dict[str, list[Template]] = {}
    for kind in GAINS + LOSSES:
        asked = ("total", "total_pronoun") if kind in GAINS else ("left",)
        every[kind] = [
            Template(kind, opening, question, by_name)
            for opening in past
            for question in ("now", "now_pronoun", *asked)
            for by_name in (True, False)
        ]
    every["together"] = [Template("together", o, "together", swapped=s) for o in present for s in (False, True)]
    every["compare"] = [
        Template("compare", opening, question, swapped=swapped)
        for opening in present
        for question in ("how_many_more", "how_many_fewer")
        for swapped in (False, True)
    ]
    every["groups"] = [Template("groups", o, q) for o in present for q in ("total", "total_pronoun")]
    every["share"] = [Template("share", o, "each_recipient", n) for o in past for n in (True, False)]
    every["put"] = [Template("put", o, "each_container", n) for o in past for n in (True, False)]
    return tuple((kind, part_of(shapes, part, "templates " + kind)) for kind, shapes in every.items())


KIND_WEIGHTS = {**dict.fromkeys(GAINS + LOSSES, 1), "together": 2, "compare": 4, "groups": 4, "share": 2, "put": 2}


def draw_story(rng: random.Random, part: str = "train") -> Story:
    """A random story of a part."""
    by_kind = dict(templates(part))
    kind = rng.choices(list(by_kind), [KIND_WEIGHTS[kind] for kind in by_kind])[0]
    template = rng.choice(by_kind[kind])
    a, b = rng.choice(numbers(template.operation, part))
    person, other = rng.sample(PEOPLE, 2)
    cast = Cast(
        person, other, rng.choice(THINGS), rng.choice(CONTAINERS), rng.choice(RECIPIENTS), a, b,
        template.by_name, rng.random() < 0.5,
    )  # fmt: skip
    return Story(template, cast)


def draw_problem(rng: random.Random, part: str = "train") -> Story:
    """A random story of a part whose worked line, too, has its numbers in an order of that part."""
    while True:
        story = draw_story(rng, part)
        if story.operands in numbers(story.template.operation, part):
            return story
