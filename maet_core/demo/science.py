"""Elementary science of the demo world: two people have one thing each, and a rule about their numbers decides between them.

What goes further in the same time is faster; of two things of one size the heavier sinks; what melts at fewer degrees is liquid
first. The question names the one that is meant by such a word, and the worked line takes the larger number or the smaller one,
`34 max 52 = 52 #### 52`: numbers and an operator, as in a word problem.
As with stories, a template and a pair of numbers belong to one part: training, development or test.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from maet_core.demo.cast import CONTAINERS, OWNED, PEOPLE, PLACES, RECIPIENTS, THINGS, TIMES, Cast
from maet_core.demo.parts import part_of
from maet_core.demo.voice import Voice
from maet_core.demo.worked import solve, worked_line

# What each kind asks for, the word for the larger number first.
ASKED = {"speed": ("faster", "slower"), "float": ("sinks", "floats"), "melt": ("solid", "liquid")}
# What is said of one of two things, and of the other, where no number stands.
RELATIONS = {
    "speed": ("is_faster", "is_slower"),
    "float": ("it_floats", "it_sinks"),
    "melt": ("it_is_liquid", "it_is_solid"),
}


@dataclass(frozen=True)
class Template:
    """The shape of a problem. `opening` is a time or place, or None; `said`: that the two are told apart is said first."""

    kind: str
    opening: str | None
    question: str
    said: bool


@dataclass(frozen=True)
class Comparison:
    """Two things with their numbers, and a question about one of them."""

    template: Template
    cast: Cast

    @property
    def operator(self) -> str:
        return "max" if self.template.question == ASKED[self.template.kind][0] else "min"

    @property
    def answer(self) -> int:
        return solve(self.operator, self.cast.a, self.cast.b)

    @property
    def worked(self) -> str:
        return worked_line(self.operator, self.cast.a, self.cast.b)

    @property
    def events(self) -> tuple[str, ...]:
        """The sentences that say what there is."""
        kind = self.template.kind
        return (f"{kind}_a", f"{kind}_b", *([f"{kind}_said"] if self.template.said else []))

    def statements(self, voice: Voice) -> list[str]:
        first, *others = self.events
        return [voice.say(first, self.cast, self.template.opening), *(voice.say(name, self.cast) for name in others)]

    def question(self, voice: Voice) -> str:
        return voice.ask(self.template.question, self.cast)

    def problem(self, voice: Voice) -> str:
        return voice.together([*self.statements(voice), self.question(voice)])


@cache
def pairs(part: str) -> tuple[tuple[int, int], ...]:
    """The numbers that the problems of a part may use, in either order."""
    every = [(a, b) for a in range(11, 99) for b in range(a + 2, 99)]
    return tuple(pair for a, b in part_of(every, part, "numbers science") for pair in ((a, b), (b, a)))


@cache
def templates(part: str) -> tuple[tuple[str, tuple[Template, ...]], ...]:
    """The templates of a part, by what they ask for; each part has some of every question."""
    every = {}
    for kind, questions in ASKED.items():
        for question in questions:
            shapes = [
                Template(kind, opening, question, said) for opening in (None, *TIMES, *PLACES) for said in (True, False)
            ]
            every[question] = part_of(shapes, part, "templates " + question)
    return tuple(every.items())


def draw_comparison(rng: random.Random, part: str = "train") -> Comparison:
    """A random problem of a part."""
    template = rng.choice(rng.choice(templates(part))[1])
    a, b = rng.choice(pairs(part))
    person, other = rng.sample(PEOPLE, 2)
    cast = Cast(
        person, other, rng.choice(THINGS), rng.choice(CONTAINERS), rng.choice(RECIPIENTS), a, b, True, rng.random() < 0.5,
        rng.choice(OWNED[template.kind]),
    )  # fmt: skip
    return Comparison(template, cast)
