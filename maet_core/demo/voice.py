"""Says and asks the sentences of the demo world, in one language or slipping into another one (code-switching).

A sentence is a list of phrases with keys; a phrase means the same under the same key in every language, and each language
puts the phrases into its own order. So one table serves plain text, translation pairs and code-switching, which takes
single phrases from another language and leaves the word order alone.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from functools import cache

from maet_core.demo.cast import Cast
from maet_core.demo.languages import LANGUAGES, Language

# Events that a person lives through: what it does to the number of things that the person has.
GAINS = ("buy", "find", "bring", "receive")
LOSSES = ("give", "lose", "sell", "discard")
BOUNDARY = "·"  # between words that are written without a space


@dataclass(frozen=True)
class Voice:
    """In which language to speak, and how often to slip into another one."""

    code: str
    other: str | None = None
    rate: float = 0.0
    rng: random.Random | None = None

    @property
    def language(self) -> Language:
        return LANGUAGES[self.code]

    def say(self, name: str, cast: Cast, opening: str | None = None) -> str:
        """One statement, capitalised, with its full stop. `opening` is a time or place put before it."""
        return self._statement(self._phrases(self.language.sentences[name], "sentences", name, cast), opening)

    def ask(self, name: str, cast: Cast) -> str:
        return self._question(self._phrases(self.language.questions[name], "questions", name, cast))

    def ask_who(self, event: str, cast: Cast) -> str:
        """Who did what the event says."""
        plain, slots = replace(self, other=None), self.slots(cast)
        asked = self.language.who | {"qb": slots.get("the_X", slots["X"])}
        return self._question(plain._phrases(self.language.sentences[event], "sentences", event, cast, asked))

    def together(self, texts: list[str]) -> str:
        """Sentences one after the other."""
        return ("" if self.code == "zh" and not self.other else " ").join(texts)

    def slots(self, cast: Cast) -> dict[str, str]:
        return self.language.slots(cast, None)

    def word(self, text: str, cast: Cast) -> str:
        """A word or two outside a sentence: a topic, "more", the name of a thing."""
        return text.format_map(self.slots(cast)).replace(BOUNDARY, "")

    def phrase_pairs(self, table: str, name: str, cast: Cast, other: str) -> list[tuple[str, str]]:
        """The phrases of a sentence beside those of `other` that mean the same."""
        own, foreign = (_split(getattr(LANGUAGES[code], table)[name]) for code in (self.code, other))
        theirs = dict(foreign)
        there = Voice(other)
        pairs = [(self.word(p, cast).strip(), there.word(theirs[k], cast).strip()) for k, p in own if k in theirs]
        return [pair for pair in pairs if all(pair) and pair[0] != pair[1]]

    def _phrases(
        self, template: str, table: str, name: str, cast: Cast, changed: dict[str, str] | None = None
    ) -> list[tuple[str, Language]]:
        """The filled phrases of a sentence in this language's order, each with the language it is in."""
        changed = changed or {}
        foreign = dict(_split(getattr(LANGUAGES[self.other], table)[name])) if self.other else {}
        out = []
        for key, phrase in _split(template):
            language, filled = self.language, self.slots(cast) | changed
            if self.other and key in foreign and self.rng.random() < self.rate:
                language = LANGUAGES[self.other]
                phrase, filled = foreign[key], language.slots(cast, None)
            elif self.other and self.rng.random() < self.rate:
                theirs = LANGUAGES[self.other].slots(cast, None)["O" if cast.owned else "X"]
                apart = "" if self.language.spaced == LANGUAGES[self.other].spaced else " "
                filled = self.language.slots(cast, f"{apart}{theirs}{apart}") | changed
            out.append((phrase.format_map(filled), language))
        return [(phrase, language) for phrase, language in out if phrase]

    def _statement(self, phrases: list[tuple[str, Language]], opening: str | None) -> str:
        text = _join(phrases)
        if opening:
            start = self.language.openings[opening]
            text = start + (" " if self.language.spaced else "") + text
        stop = "" if text.endswith((":", "：")) else self.language.stop
        return _tidy(text) + stop

    def _question(self, phrases: list[tuple[str, Language]]) -> str:
        return self.language.question_start + _tidy(_join(phrases)) + self.language.question


@cache
def _split(template: str) -> tuple[tuple[str, str], ...]:
    return tuple(tuple(part.split(":", 1)) for part in template.split("|"))


def _join(phrases: list[tuple[str, Language]]) -> str:
    """Phrases in a row: no space within a language that writes none, and one where the language changes."""
    text, before = "", None
    for phrase, language in phrases:
        if before is not None:
            text += BOUNDARY if language is before and not language.spaced else " "
        text += phrase
        before = language
    return text


def _tidy(text: str) -> str:
    text = " ".join(re.sub(r"(?<=[^\s\d])(?=\d)", " ", text.replace(BOUNDARY, "")).split())
    return text[:1].upper() + text[1:]
