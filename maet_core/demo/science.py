"""Elementary science of the demo world: things that race, float, melt or travel, and the rule that says what to do with their numbers.

What goes further in an hour wins the race; of two things of one size the lighter floats; what is not warm enough yet lacks the
difference; a way is speed times hours. The worked line has the numbers and an operator, as in a word problem: `34 max 52 = 52 #### 52`.
As with stories, a template and a pair of numbers belong to one part: training, development or test.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from maet_core.demo.cast import CONTAINERS, OWNED, PEOPLE, PLACES, RECIPIENTS, THINGS, TIMES, Cast
from maet_core.demo.parts import part_of
from maet_core.demo.stories import numbers
from maet_core.demo.voice import Voice
from maet_core.demo.worked import solve, worked_line

# A kind of problem: what its rule does with the numbers, the sentences that say what there is, one that may follow, and questions.
OPERATORS = {"race": "max", "float": "min", "melt": "-", "way": "*"}
EVENTS = {
    "race": ("speed_a", "speed_b"),
    "float": ("float_a", "float_b"),
    "melt": ("melt_a", "sun_b"),
    "way": ("speed_a", "way_b"),
}
SAID = {"race": "race", "float": "float_said", "melt": "melt_said", "way": "way_said"}
ASKED = {"race": ("wins", "faster"), "float": ("floats",), "melt": ("missing",), "way": ("way",)}
# Which of two things is what, said without numbers, and the questions about that.
RELATIONS = {
    "race": (("is_faster", "whose_faster"), ("is_slower", "whose_slower")),
    "float": (("it_floats", "whose_floats"), ("it_sinks", "whose_sinks")),
    "melt": (("it_is_liquid", "whose_liquid"), ("it_is_solid", "whose_solid")),
    "way": (("is_faster", "whose_faster"), ("is_slower", "whose_slower")),
}


@dataclass(frozen=True)
class Template:
    """The shape of a problem. `opening` is a time or place, or None; `said`: with the sentence that may follow."""

    kind: str
    opening: str | None
    question: str
    said: bool


@dataclass(frozen=True)
class Observation:
    """What is seen of one thing or two, and a question about it."""

    template: Template
    cast: Cast

    @property
    def operation(self) -> str:
        """What kind of problem it is: its rule."""
        return self.template.kind

    @property
    def operator(self) -> str:
        return OPERATORS[self.template.kind]

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
        return (*EVENTS[kind], *([SAID[kind]] if self.template.said else []))

    def statements(self, voice: Voice) -> list[str]:
        first, *others = self.events
        return [voice.say(first, self.cast, self.template.opening), *(voice.say(name, self.cast) for name in others)]

    def question(self, voice: Voice) -> str:
        return voice.ask(self.template.question, self.cast)

    def problem(self, voice: Voice) -> str:
        return voice.together([*self.statements(voice), self.question(voice)])


@cache
def pairs(kind: str, part: str) -> tuple[tuple[int, int], ...]:
    """The numbers that the problems of a kind and part may use."""
    if kind == "melt":
        return numbers("take away", part)
    if kind == "way":
        return numbers("groups", part)
    every = [(a, b) for a in range(11, 99) for b in range(a + 2, 99)]
    return tuple(pair for a, b in part_of(every, part, "numbers science") for pair in ((a, b), (b, a)))


@cache
def templates(part: str) -> tuple[tuple[str, tuple[Template, ...]], ...]:
    """The templates of a part, by kind; each part has some of every question."""
    every = {}
    for kind, questions in ASKED.items():
        every[kind] = ()
        for question in questions:
            openings = (None, *TIMES, *PLACES)
            shapes = [Template(kind, opening, question, said) for opening in openings for said in (True, False)]
            every[kind] += part_of(shapes, part, "templates " + question)
    return tuple(every.items())


def draw_observation(rng: random.Random, part: str = "train") -> Observation:
    """A random problem of a part."""
    kind, shapes = rng.choice(templates(part))
    a, b = rng.choice(pairs(kind, part))
    person, other = rng.sample(PEOPLE, 2)
    cast = Cast(
        person, other, rng.choice(THINGS), rng.choice(CONTAINERS), rng.choice(RECIPIENTS), a, b, True, rng.random() < 0.5,
        rng.choice(OWNED[kind]),
    )  # fmt: skip
    return Observation(rng.choice(shapes), cast)
