"""What a language of the demo world consists of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from maet_core.demo.cast import Cast


@dataclass(frozen=True)
class Language:
    """Sentences and words of one language. Every language has the same keys.

    A sentence is written `key:phrase|key:phrase`, in this language's word order; a phrase means about the same under the
    same key in every language. Slots in braces are filled by `slots(cast, things)`, where `things` may name the thing in
    another language. A `·` stands between words that are written without a space.
    """

    code: str
    name: str  # in English
    sentences: dict[str, str]
    questions: dict[str, str]
    openings: dict[str, str]  # times and places, with the comma or space that goes after them
    topic: str  # the heading that asks what a story is about
    topics: dict[str, str]
    numbers: str  # the heading that asks for the numbers of a story
    and_: str
    who: dict[str, str]  # the slots that change when one asks who did it
    more: str
    fewer: str
    slots: Callable[[Cast, str | None], dict[str, str]] = field(repr=False)
    stop: str = "."
    question: str = "?"
    question_start: str = ""
    spaced: bool = True  # a space between words, and between sentences
    stems: tuple[str, ...] = ()  # words that stay one token when one of the endings follows
    endings: tuple[str, ...] = ()

    def words(self) -> set[str]:
        """The words of the templates and, of a language without spaces, of its slots: what a tokenizer should know."""
        phrases = [*self.sentences.values(), *self.questions.values(), *self.openings.values(), *self.topics.values()]
        phrases += [self.topic, self.numbers, self.and_, self.more, self.fewer, *self.who.values(), *self.stems]
        bare = (re.sub(r"{\w+}|(?:^|\|)\w+:", " ", phrase) for phrase in phrases)
        return {word for phrase in bare for word in re.findall(r"[^\W\d_][\w\u0e30-\u0e4e]*", phrase)}
