"""The corpora of the demo world: general text, word problems, and what ties the languages together.

Every corpus is a stream of `Document`s drawn from a seed. General text tells who has, gets and gives what; it says
"more" and "fewer", it may leave a question open or say what it is about, and it never works out a number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from maet_core.demo import science_texts
from maet_core.demo.cast import PLACES
from maet_core.demo.document import Document, as_prompt, bare
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.stories import Story, draw_problem, draw_story, numbers
from maet_core.demo.voice import GAINS, LOSSES, Voice


def problem(rng: random.Random, language: str, part: str = "train") -> Document:
    """A word problem with its worked line."""
    story = draw_problem(rng, part)
    return Document(as_prompt(story.problem(Voice(language))), " " + story.worked)


def any_problem(rng: random.Random, language: str) -> Document:
    """A problem that only lends its words to the tokenizer; no model trains on it, so its numbers may be held out."""
    story = draw_story(rng)
    return Document(as_prompt(story.problem(Voice(language))), " " + story.worked)


def arithmetic(rng: random.Random) -> Document:
    """Bare arithmetic: a few equations, or one asked and answered in the form of a worked line."""
    parts = ("train", "dev", "test")
    drawn = []
    for _ in range(4):
        operation, operator = rng.choice((("add", "+"), ("take away", "-"), ("groups", "*"), ("share", "/")))
        pairs = [pair for part in parts for pair in numbers(operation, part)]
        drawn.append((operator, *rng.choice(pairs)))
    return bare(drawn, rng.random() < 0.5)


def general(rng: random.Random, language: str) -> Document:
    """General text of one language."""
    return _tell(rng, Voice(language), Voice(language))


def code_switched(rng: random.Random, language: str, other: str) -> Document:
    """General text of one language that slips into another, phrase by phrase or for the names of things."""
    voice = Voice(language, other, rng.choice((0.2, 0.4, 0.6)), rng)
    return _tell(rng, voice, Voice(rng.choice((language, other))) if rng.random() < 0.5 else voice)


def asked(rng: random.Random, language: str, other: str) -> Document:
    """A story of one language with an exercise in another: its topic, its numbers, or a question about it."""
    story, voice, asking = draw_story(rng), Voice(language), Voice(other)
    if story.template.kind == "groups" and rng.random() < 0.5:
        return _uneven(rng, story, voice, asking)
    statements = story.statements(voice)
    if rng.random() < 0.3:
        question, answer = _reading(rng, story, asking)
        return Document(as_prompt(" ".join([voice.together(statements), question])), " " + answer)
    heading, answer = _exercise(rng, story, asking)
    told = voice.together([*statements, story.question(voice)] if rng.random() < 0.5 else statements)
    return Document(as_prompt(f"{heading} {told}"), " " + answer)


def translated(rng: random.Random, language: str, other: str) -> Document:
    """The same sentences in two languages, one under the other."""
    story = draw_story(rng)
    pair = [language, other]
    rng.shuffle(pair)
    told = []
    kept = rng.choice((slice(0, 1), slice(1, 2), slice(2, 3), slice(0, 2), slice(1, 3), slice(0, 3)))
    ending = _ending(rng, story) if rng.random() < 0.5 else None
    for code in pair:
        voice = Voice(code)
        last = voice.say(ending, story.cast) if ending else story.question(voice)
        told.append(f"{voice.language.name}: " + voice.together([*story.statements(voice), last][kept]))
    return Document("", "\n".join(told))


def phrase_book(rng: random.Random, language: str, other: str) -> Document:
    """A few phrases of a story in one language, each beside the same phrase in another."""
    story = draw_story(rng)
    voice = Voice(language)
    events = [("sentences", name) for name in (*story.events, _ending(rng, story))]
    pairs = {
        pair: None
        for table, name in [*events, ("questions", story.template.question)]
        for pair in voice.phrase_pairs(table, name, story.cast, other)
    }
    chosen = rng.sample(list(pairs), min(5, len(pairs)))
    return Document(
        "", f"{voice.language.name} = {LANGUAGES[other].name}\n" + "\n".join(f"{a} = {b}" for a, b in chosen)
    )


def _tell(rng: random.Random, voice: Voice, asking: Voice) -> Document:
    """A story told plainly, perhaps with an ending or an open question, or one that is read and asked about."""
    story = draw_story(rng)
    if story.template.kind == "groups" and rng.random() < 0.5:
        return _uneven(rng, story, voice, asking)
    statements = story.statements(voice)
    kind = rng.random()
    if kind < 0.3:
        question, answer = _reading(rng, story, asking)
        return Document(as_prompt(voice.together([*statements, question])), " " + answer)
    if kind < 0.6:
        heading, answer = _exercise(rng, story, asking)
        return Document(as_prompt(voice.together([heading, *statements, story.question(voice)])), " " + answer)
    if rng.random() < 0.3:
        statements.insert(0, voice.say(rng.choice(("likes", "friend_of", "wants")), story.cast))
    shape = rng.random()
    if shape < 0.6:
        statements.append(voice.say(_ending(rng, story), story.cast))
    elif shape < 0.9:
        statements.append(voice.together([voice.say("asks", story.cast), story.question(voice)]))
    return Document("", voice.together(statements))


def _uneven(rng: random.Random, story: Story, voice: Voice, asking: Voice) -> Document:
    """Containers of which one holds the things, or all of them together: what "each" is told apart from."""
    said, topic = rng.choice((("one_has", "single"), ("all_have", "whole")))
    opening = story.template.opening
    statements = [voice.say("has_containers", story.cast, opening), voice.say(said, story.cast)]
    if rng.random() < 0.3:
        return Document("", voice.together(statements))
    language = asking.language
    answer = asking.word(language.topics[topic], story.cast)
    return Document(as_prompt(voice.together([language.topic, *statements])), " " + answer)


def _ending(rng: random.Random, story: Story) -> str:
    """What the story comes to, in words."""
    kind = story.template.kind
    if kind in GAINS:
        return "more_now"
    if kind in LOSSES:
        return "fewer_now"
    if kind == "compare":
        return rng.choice(("more_than", "fewer_than"))
    return {"together": "likes", "groups": "all_full", "put": "all_full", "share": "all_same"}[kind]


def _exercise(rng: random.Random, story: Story, asking: Voice) -> tuple[str, str]:
    """A heading and what it asks for: the topic of the story, or its numbers as they stand in the text."""
    language = asking.language
    if rng.random() < 0.4:
        cast, template = story.cast, story.template
        first, second = (cast.b, cast.a) if template.swapped else (cast.a, cast.b)
        return language.numbers, f"{first} {language.and_} {second}"
    return language.topic, asking.word(language.topics[story.template.topic], story.cast)


def _reading(rng: random.Random, story: Story, asking: Voice) -> tuple[str, str]:
    """A question whose answer is in the text or is "more" or "fewer", and that answer."""
    cast, kind, language = story.cast, story.template.kind, asking.language
    person, other, thing = (asking.word("{" + slot + "}", cast) for slot in ("P", "K", "X"))
    asked: list[tuple[str, str]] = []
    if kind in GAINS + LOSSES:
        change = asking.word(language.more if kind in GAINS else language.fewer, cast)
        asked += [(asking.ask("more_or_fewer", cast), change)] * 2
    if kind in GAINS + LOSSES + ("share", "put"):
        asked.append((asking.ask_who(kind, cast), person))
        asked.append((asking.ask("what_had", cast), thing))
        if story.template.opening in PLACES:
            place = asking.word(language.openings[story.template.opening], cast).strip(" ,，")
            asked.append((asking.ask("where", cast), place))
    if kind == "groups":
        asked.append((asking.ask("who_has_containers", cast), person))
    if kind in ("compare", "together"):
        more, fewer = (person, other) if cast.a >= cast.b else (other, person)
        asked.append((asking.ask("who_more", cast), more))
        asked.append((asking.ask("who_fewer", cast), fewer))
    return rng.choice(asked)


# A mix is what share of the documents is of which kind.
Mix = dict[tuple[str, ...], float]
_WRITERS: dict[str, Callable[..., Document]] = {
    "general": general,
    "problem": problem,
    "any problem": any_problem,
    "arithmetic": arithmetic,
    "switched": code_switched,
    "translated": translated,
    "phrases": phrase_book,
    "asked": asked,
    "science problem": science_texts.science_problem,
    "larger and smaller": science_texts.larger_and_smaller,
    "general science": science_texts.general_science,
    "switched science": science_texts.switched_science,
    "translated science": science_texts.translated_science,
    "phrases science": science_texts.science_phrases,
    "asked science": science_texts.asked_science,
}


def documents(mix: Mix, seed: int | str) -> Iterator[Document]:
    """An endless stream of documents of a mix; the same seed gives the same stream."""
    rng = random.Random(f"{seed}")
    kinds, weights = list(mix), list(mix.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield _WRITERS[kind[0]](rng, *kind[1:])
