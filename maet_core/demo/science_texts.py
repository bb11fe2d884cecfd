"""Text about science: the problems, and general text in which the words that decide them meet, without the rule.

General text says which of two things is faster, floats or is liquid only where no number stands, and where numbers stand it says at
most what is asked for. So nothing but the English problems tells what the numbers have to do with it.
"""

from __future__ import annotations

import random

from maet_core.demo.document import Document, as_prompt, bare
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.parts import PARTS
from maet_core.demo.science import RELATIONS, Observation, draw_observation, pairs
from maet_core.demo.voice import Voice


def science_problem(rng: random.Random, language: str, part: str = "train") -> Document:
    """A problem with its worked line."""
    drawn = draw_observation(rng, part)
    return Document(as_prompt(drawn.problem(Voice(language))), " " + drawn.worked)


def larger_and_smaller(rng: random.Random) -> Document:
    """The larger or the smaller of two numbers, bare, as `arithmetic` has sums; all numbers, as a table that everybody learns."""
    parts = rng.choices(list(PARTS), list(PARTS.values()), k=4)
    return bare([(rng.choice(("max", "min")), *rng.choice(pairs("race", part))) for part in parts], rng.random() < 0.5)


def general_science(rng: random.Random, language: str) -> Document:
    """General text of one language about science."""
    return _tell(rng, Voice(language), Voice(language))


def switched_science(rng: random.Random, language: str, other: str) -> Document:
    """The same, slipping into another language."""
    voice = Voice(language, other, rng.choice((0.2, 0.4, 0.6)), rng)
    return _tell(rng, voice, Voice(rng.choice((language, other))) if rng.random() < 0.5 else voice)


def asked_science(rng: random.Random, language: str, other: str) -> Document:
    """Text of one language with an exercise or a question in another."""
    drawn, voice, asking = draw_observation(rng), Voice(language), Voice(other)
    if rng.random() < 0.4:
        return _reading(rng, drawn, voice, asking)
    heading, answer = _exercise(rng, drawn, asking)
    return Document(as_prompt(f"{heading} {voice.together(_asked(drawn, voice))}"), " " + answer)


def translated_science(rng: random.Random, language: str, other: str) -> Document:
    """The same sentences in two languages, one under the other."""
    drawn, plain = draw_observation(rng), rng.random() < 0.4
    shown = rng.choice((slice(0, 2), slice(1, 3), slice(0, 3)))
    names = [name for name, _ in rng.sample(RELATIONS[drawn.template.kind], 2)]
    pair, told = [language, other], []
    rng.shuffle(pair)
    for code in pair:
        voice = Voice(code)
        said = [voice.say(name, drawn.cast) for name in names] if plain else _asked(drawn, voice)[shown]
        told.append(f"{voice.language.name}: " + voice.together(said))
    return Document("", "\n".join(told))


def science_phrases(rng: random.Random, language: str, other: str) -> Document:
    """A few phrases of one language, each beside the same phrase in another."""
    drawn, voice = draw_observation(rng), Voice(language)
    relations, questions = zip(*RELATIONS[drawn.template.kind], strict=True)
    names = [("sentences", name) for name in (*drawn.events, *relations)]
    names += [("questions", name) for name in (drawn.template.question, *questions)]
    found = {pair: None for table, name in names for pair in voice.phrase_pairs(table, name, drawn.cast, other)}
    chosen = rng.sample(list(found), min(5, len(found)))
    lines = "\n".join(f"{own} = {foreign}" for own, foreign in chosen)
    return Document("", f"{voice.language.name} = {LANGUAGES[other].name}\n{lines}")


def _tell(rng: random.Random, voice: Voice, asking: Voice) -> Document:
    """Numbers with a question that stays open, what is asked for there, or which of two things is what, without numbers."""
    drawn, kind = draw_observation(rng), rng.random()
    if kind < 0.3:
        return _reading(rng, drawn, voice, asking)
    if kind < 0.7:
        heading, answer = _exercise(rng, drawn, asking)
        return Document(as_prompt(voice.together([heading, *_asked(drawn, voice)])), " " + answer)
    if kind < 0.85:
        names = rng.sample(RELATIONS[drawn.template.kind], rng.choice((1, 2)))
        return Document("", voice.together([voice.say(name, drawn.cast) for name, _ in names]))
    return Document("", voice.together(_asked(drawn, voice)))


def _asked(drawn: Observation, voice: Voice) -> list[str]:
    return [*drawn.statements(voice), drawn.question(voice)]


def _exercise(rng: random.Random, drawn: Observation, asking: Voice) -> tuple[str, str]:
    """A heading and what it asks for: what the text is about, or its numbers as they stand there."""
    language = asking.language
    if rng.random() < 0.25:
        return language.numbers, f"{drawn.cast.a} {language.and_} {drawn.cast.b}"
    return language.topic, asking.word(language.topics[drawn.template.kind], drawn.cast)


def _reading(rng: random.Random, drawn: Observation, voice: Voice, asking: Voice) -> Document:
    """Which of two things is what, said without numbers, and whose it is."""
    cast, relations = drawn.cast, RELATIONS[drawn.template.kind]
    one_tells_both = relations[0][0] == "is_faster"
    chosen = rng.randrange(2)
    said = [voice.say(name, cast) for name, _ in rng.sample(relations, 1 if one_tells_both else 2)]
    answer = asking.word("{" + "PK"[chosen] + "}", cast)
    return Document(as_prompt(voice.together([*said, asking.ask(relations[chosen][1], cast)])), " " + answer)
