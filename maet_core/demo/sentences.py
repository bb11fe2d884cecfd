"""The sentences of the demo world, in every language.

A sentence is a list of phrases with keys; a phrase means the same under the same key in every language, and each
language puts the phrases into its own order. So one table serves plain text, translation pairs and code-switching,
which takes single phrases from another language and leaves the word order alone.

Written as `key:phrase|key:phrase`. Slots in braces are filled by `forms`: {P} and {K} people, {S} the subject at its
second mention (name, pronoun or nothing), {X} things, {q} a quantity of things, {C} containers, {R} recipients.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache

from maet_core.demo.lexicon import SWAHILI_CLASSES, Group, Person, Thing

# Events that a person lives through: what it does to the number of things that the person has.
GAINS = ("buy", "find", "bring", "receive")
LOSSES = ("give", "lose", "sell", "discard")

SENTENCES: dict[str, dict[str, str]] = {
    "had": {
        "en": "P:{P}|v:had|q:{qa}",
        "es": "P:{P}|v:tenía|q:{qa}",
        "sw": "P:{P}|v:alikuwa na|q:{qa}",
        "bn": "P:{Pg} কাছে|q:{qa}|v:ছিল",
    },
    "has": {
        "en": "P:{P}|v:has|q:{qa}",
        "es": "P:{P}|v:tiene|q:{qa}",
        "sw": "P:{P}|v:ana|q:{qa}",
        "bn": "P:{Pg} কাছে|q:{qa}|v:আছে",
    },
    "other_has": {
        "en": "K:{K}|v:has|q:{qb}",
        "es": "K:{K}|v:tiene|q:{qb}",
        "sw": "K:{K}|v:ana|q:{qb}",
        "bn": "K:{Kg} কাছে|q:{qb}|v:আছে",
    },
    # what happens
    "buy": {
        "en": "S:{S}|v:bought|q:{qb}",
        "es": "S:{S}|v:compró|q:{qb}",
        "sw": "S:{S}|v:alinunua|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:কিনল",
    },
    "find": {
        "en": "S:{S}|v:found|q:{qb}",
        "es": "S:{S}|v:encontró|q:{qb}",
        "sw": "S:{S}|v:aliokota|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:খুঁজে পেল",
    },
    "bring": {
        "en": "S:{S}|v:brought|q:{qb}",
        "es": "S:{S}|v:trajo|q:{qb}",
        "sw": "S:{S}|v:alileta|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:আনল",
    },
    "receive": {
        "en": "S:{S}|v:got|q:{qb}|K:from {K}",
        "es": "S:{S}|v:recibió|q:{qb}|K:de {K}",
        "sw": "S:{S}|v:alipokea|q:{qb}|K:kutoka kwa {K}",
        "bn": "S:{S}|K:{Kg} কাছ থেকে|q:{qb}|v:পেল",
    },
    "give": {
        "en": "S:{S}|v:gave|q:{qb}|K:to {K}",
        "es": "S:{S}|v:le dio|q:{qb}|K:a {K}",
        "sw": "S:{S}|v:alimpa|K:{K}|q:{qb}",
        "bn": "S:{S}|K:{Kd}|q:{qb}|v:দিল",
    },
    "lose": {
        "en": "S:{S}|v:lost|q:{qb}",
        "es": "S:{S}|v:perdió|q:{qb}",
        "sw": "S:{S}|v:alipoteza|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:হারিয়ে ফেলল",
    },
    "sell": {
        "en": "S:{S}|v:sold|q:{qb}",
        "es": "S:{S}|v:vendió|q:{qb}",
        "sw": "S:{S}|v:aliuza|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:বিক্রি করল",
    },
    "discard": {
        "en": "S:{S}|v:threw away|q:{qb}",
        "es": "S:{S}|v:tiró|q:{qb}",
        "sw": "S:{S}|v:alitupa|q:{qb}",
        "bn": "S:{S}|q:{qb}|v:ফেলে দিল",
    },
    # groups and shares
    "has_containers": {
        "en": "P:{P}|v:has|c:{a} {C}",
        "es": "P:{P}|v:tiene|c:{a} {C}",
        "sw": "P:{P}|v:ana|c:{C} {a}",
        "bn": "P:{Pg} কাছে|c:{a}টি {C}|v:আছে",
    },
    "each_has": {
        "en": "c:each {C1}|v:has|q:{qb}",
        "es": "c:cada {C1}|v:tiene|q:{qb}",
        "sw": "c:kila {C1}|v:{kina}|q:{qb}",
        "bn": "c:প্রতিটি {Cl}|q:{qb}|v:আছে",
    },
    "share": {
        "en": "S:{S}|v:shared|q:{the} {X}|d:equally|r:among {b} {R}",
        "es": "S:{S}|v:repartió|q:{the} {X}|d:por igual|r:entre {b} {R}",
        "sw": "S:{S}|v:aligawa|q:{X} {those}|d:sawasawa|r:kwa {R} {b}",
        "bn": "S:{S}|q:{X}গুলো|r:{b} জন {Rg} মধ্যে|d:সমান|v:ভাগ করল",
    },
    "put": {
        "en": "S:{S}|v:put|q:{the} {X}|d:equally|r:into {b} {C}",
        "es": "S:{S}|v:puso|q:{the} {X}|d:por igual|r:en {b} {C}",
        "sw": "S:{S}|v:aliweka|q:{X} {those}|d:sawasawa|r:katika {C} {b}",
        "bn": "S:{S}|q:{X}গুলো|r:{b}টি {Cl}|d:সমান ভাগে|v:রাখল",
    },
    # what the general text says about amounts: more, fewer, the same, never a computed number
    "more_now": {
        "en": "t:now|P:{P}|v:has|m:more {X}|k:than before",
        "es": "t:ahora|P:{P}|v:tiene|m:más {X}|k:que antes",
        "sw": "t:sasa|P:{P}|v:ana|m:{X} {many} zaidi|k:kuliko mwanzo",
        "bn": "t:এখন|P:{Pg} কাছে|k:আগের চেয়ে|m:বেশি {X}|v:আছে",
    },
    "fewer_now": {
        "en": "t:now|P:{P}|v:has|m:fewer {X}|k:than before",
        "es": "t:ahora|P:{P}|v:tiene|m:menos {X}|k:que antes",
        "sw": "t:sasa|P:{P}|v:ana|m:{X} {few} zaidi|k:kuliko mwanzo",
        "bn": "t:এখন|P:{Pg} কাছে|k:আগের চেয়ে|m:কম {X}|v:আছে",
    },
    "more_than": {
        "en": "P:{P}|v:has|m:more {X}|K:than {K}",
        "es": "P:{P}|v:tiene|m:más {X}|K:que {K}",
        "sw": "P:{P}|v:ana|m:{X} {many} zaidi|K:kuliko {K}",
        "bn": "P:{Pg} কাছে|K:{Kg} চেয়ে|m:বেশি {X}|v:আছে",
    },
    "fewer_than": {
        "en": "K:{K}|v:has|m:fewer {X}|P:than {P}",
        "es": "K:{K}|v:tiene|m:menos {X}|P:que {P}",
        "sw": "K:{K}|v:ana|m:{X} {few} zaidi|P:kuliko {P}",
        "bn": "K:{Kg} কাছে|P:{Pg} চেয়ে|m:কম {X}|v:আছে",
    },
    "all_same": {
        "en": "r:all the {R}|v:got|d:the same",
        "es": "r:todos los {R}|v:recibieron|d:lo mismo",
        "sw": "r:{R} wote|v:walipata|d:sawa",
        "bn": "r:সব {R}|d:সমান|v:পেল",
    },
    "all_full": {
        "en": "c:the {C}|v:are full",
        "es": "c:las {C}|v:están llenas",
        "sw": "c:{C}|v:{full}",
        "bn": "c:{C}গুলো|v:ভরা",
    },
    # small talk
    "likes": {
        "en": "P:{P}|v:likes|q:{X}",
        "es": "P:a {P}|v:le gustan|q:{the} {X}",
        "sw": "P:{P}|v:anapenda|q:{X}",
        "bn": "P:{P}|q:{X}|v:পছন্দ করে",
    },
    "friend_of": {
        "en": "P:{P}|v:is a friend|K:of {K}",
        "es": "P:{P}|v:es {friend}|K:de {K}",
        "sw": "P:{P}|v:ni rafiki|K:wa {K}",
        "bn": "P:{P}|K:{Kg}|v:বন্ধু",
    },
    "wants": {
        "en": "K:{K}|v:wants|q:{qb}",
        "es": "K:{K}|v:quiere|q:{qb}",
        "sw": "K:{K}|v:anataka|q:{qb}",
        "bn": "K:{K}|q:{qb}|v:চায়",
    },
    "asks": {
        "en": "K:{K}|v:asks:",
        "es": "K:{K}|v:pregunta:",
        "sw": "K:{K}|v:anauliza:",
        "bn": "K:{K}|v:জিজ্ঞাসা করে:",
    },
}

QUESTIONS: dict[str, dict[str, str]] = {
    # how many: the word problems ask these; general text leaves them open
    "now": {
        "en": "h:how many {X}|P:does {P} have|t:now",
        "es": "h:{how} {X}|P:tiene {P}|t:ahora",
        "sw": "t:sasa|P:{P} ana|h:{X} {how}",
        "bn": "t:এখন|P:{Pg} কাছে|h:{how} {X}|v:আছে",
    },
    "now_pronoun": {
        "en": "h:how many {X}|P:does {she} have|t:now",
        "es": "h:{how} {X}|P:tiene|t:ahora",
        "sw": "t:sasa|P:ana|h:{X} {how}",
        "bn": "t:এখন|P:তার কাছে|h:{how} {X}|v:আছে",
    },
    "left": {
        "en": "h:how many {X}|P:does {P} have|l:left",
        "es": "h:{how} {X}|l:le quedan|P:a {P}",
        "sw": "P:{P}|l:amebaki na|h:{X} {how}",
        "bn": "P:{Pg} কাছে|h:{how} {X}|l:বাকি আছে",
    },
    "total": {
        "en": "h:how many {X}|P:does {P} have|m:in all",
        "es": "h:{how} {X}|P:tiene {P}|m:en total",
        "sw": "P:{P} ana|h:{X} {how}|m:kwa jumla",
        "bn": "P:{Pg} কাছে|m:মোট|h:{how} {X}|v:আছে",
    },
    "total_pronoun": {
        "en": "h:how many {X}|P:does {she} have|m:in all",
        "es": "h:{how} {X}|P:tiene|m:en total",
        "sw": "P:ana|h:{X} {how}|m:kwa jumla",
        "bn": "P:তার কাছে|m:মোট|h:{how} {X}|v:আছে",
    },
    "together": {
        "en": "h:how many {X}|P:do they have|m:in all",
        "es": "h:{how} {X}|P:tienen|m:en total",
        "sw": "P:wana|h:{X} {how}|m:kwa jumla",
        "bn": "P:তাদের কাছে|m:মোট|h:{how} {X}|v:আছে",
    },
    "how_many_more": {
        "en": "h:how many more {X}|P:does {P} have|K:than {K}",
        "es": "h:{how} {X} más|P:tiene {P}|K:que {K}",
        "sw": "P:{P} ana|h:{X} {how} zaidi|K:kuliko {K}",
        "bn": "K:{Kg} চেয়ে|P:{Pg} কাছে|h:{how} {X} বেশি|v:আছে",
    },
    "how_many_fewer": {
        "en": "h:how many fewer {X}|K:does {K} have|P:than {P}",
        "es": "h:{how} {X} menos|K:tiene {K}|P:que {P}",
        "sw": "K:{K} ana|h:{X} {how} pungufu|P:kuliko {P}",
        "bn": "P:{Pg} চেয়ে|K:{Kg} কাছে|h:{how} {X} কম|v:আছে",
    },
    "each_recipient": {
        "en": "h:how many {X}|c:did each {R1}|v:get",
        "es": "h:{how} {X}|v:recibió|c:cada {R1}",
        "sw": "c:kila {R1}|v:alipata|h:{X} {how}",
        "bn": "c:প্রত্যেক {R1}|h:{how} {X}|v:পেল",
    },
    "each_container": {
        "en": "h:how many {X}|c:does each {C1}|v:have",
        "es": "h:{how} {X}|v:tiene|c:cada {C1}",
        "sw": "c:kila {C1}|v:{kina}|h:{X} {how}",
        "bn": "c:প্রতিটি {Cl}|h:{how} {X}|v:আছে",
    },
    # reading: the answer is a word
    "what_had": {
        "en": "h:what|v:did|P:{P} have",
        "es": "h:qué|v:tenía|P:{P}",
        "sw": "P:{P}|v:alikuwa na|h:nini",
        "bn": "P:{Pg} কাছে|h:কী|v:ছিল",
    },
    "where": {
        "en": "h:where|v:was|P:{P}",
        "es": "h:dónde|v:estaba|P:{P}",
        "sw": "P:{P}|v:alikuwa|h:wapi",
        "bn": "P:{P}|h:কোথায়|v:ছিল",
    },
    "more_or_fewer": {
        "en": "P:does {P} have|m:more|o:or|f:fewer {X}|t:now",
        "es": "P:{P} tiene|m:más|o:o|f:menos {X}|t:ahora",
        "sw": "t:sasa|P:{P} ana|m:{X} {many} zaidi|o:au|f:{few} zaidi",
        "bn": "t:এখন|P:{Pg} কাছে|m:বেশি {X}|v:আছে|o:না|f:কম",
    },
    "who_has_containers": {
        "en": "h:who|v:has|c:{C}",
        "es": "h:quién|v:tiene|c:{C}",
        "sw": "h:nani|v:ana|c:{C}",
        "bn": "h:কার কাছে|c:{C}|v:আছে",
    },
    "who_more": {
        "en": "h:who|v:has|m:more {X}",
        "es": "h:quién|v:tiene|m:más {X}",
        "sw": "h:nani|v:ana|m:{X} {many} zaidi",
        "bn": "h:কার কাছে|m:বেশি {X}|v:আছে",
    },
    "who_fewer": {
        "en": "h:who|v:has|m:fewer {X}",
        "es": "h:quién|v:tiene|m:menos {X}",
        "sw": "h:nani|v:ana|m:{X} {few} zaidi",
        "bn": "h:কার কাছে|m:কম {X}|v:আছে",
    },
}

# Headings of reading exercises: what the story is about, which numbers are in it.
TOPIC = {"en": "Topic:", "es": "Tema:", "sw": "Mada:", "bn": "বিষয়:"}
NUMBERS = {"en": "Numbers:", "es": "Números:", "sw": "Nambari:", "bn": "সংখ্যা:"}
AND = {"en": "and", "es": "y", "sw": "na", "bn": "ও"}
TOPICS: dict[str, dict[str, str]] = {
    "gain": {"en": "getting more", "es": "tener más", "sw": "kupata zaidi", "bn": "বেশি পাওয়া"},
    "loss": {"en": "having less", "es": "tener menos", "sw": "kupungukiwa", "bn": "কমে যাওয়া"},
    "together": {"en": "all together", "es": "todo junto", "sw": "vyote pamoja", "bn": "সব একসঙ্গে"},
    "compare": {"en": "comparing", "es": "comparar", "sw": "kulinganisha", "bn": "তুলনা করা"},
    "groups": {"en": "equal groups", "es": "grupos iguales", "sw": "makundi sawa", "bn": "সমান দল"},
    "share": {"en": "equal shares", "es": "partes iguales", "sw": "mafungu sawa", "bn": "সমান ভাগ"},
}
WHO = {"en": "who", "es": "quién", "sw": "nani", "bn": "কে"}
MORE = {"en": "more", "es": "más", "sw": "{many} zaidi", "bn": "বেশি"}
FEWER = {"en": "fewer", "es": "menos", "sw": "{few} zaidi", "bn": "কম"}


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about; `a` and `b` are its numbers (2 or more)."""

    person: Person
    other: Person
    thing: Thing
    containers: Group
    recipients: Group
    a: int
    b: int
    by_name: bool  # how the person is mentioned the second time
    plural_how_many: bool  # which of two Bengali forms of "how many"


def forms(cast: Cast, language: str, thing_language: str | None = None) -> dict[str, str]:
    """Every slot of `SENTENCES` and `QUESTIONS` in `language`; `thing_language` names the thing in another one."""
    person, other, thing = cast.person, cast.other, cast.thing
    containers, recipients = cast.containers, cast.recipients
    things = getattr(thing, thing_language or language)
    slots = {"a": str(cast.a), "b": str(cast.b), "X": things, "P": person.latin, "K": other.latin}
    slots |= {"qa": f"{cast.a} {things}", "qb": f"{cast.b} {things}", "the_X": things}
    if language == "en":
        slots |= {"S": person.latin if cast.by_name else person.pronoun, "she": person.pronoun, "the": "the"}
        slots |= {"C": containers.en, "C1": containers.en_one, "R": recipients.en, "R1": recipients.en_one}
        slots["the_X"] = f"the {things}"
    elif language == "es":
        feminine = thing.spanish_feminine
        slots |= {"S": person.latin if cast.by_name else "", "the": "las" if feminine else "los"}
        slots |= {"how": "cuántas" if feminine else "cuántos"}
        slots |= {"friend": "amiga" if person.pronoun == "she" else "amigo"}
        slots |= {"C": containers.es, "C1": containers.es_one, "R": recipients.es, "R1": recipients.es_one}
        slots["the_X"] = f"{slots['the']} {things}"
    elif language == "sw":
        agreement = SWAHILI_CLASSES[thing.swahili_class]
        slots |= {"S": person.latin if cast.by_name else "", "how": agreement["how_many"]}
        slots |= {key: agreement[key] for key in ("those", "many", "few")}
        slots |= {"C": containers.sw, "C1": containers.sw_one, "R": recipients.sw, "R1": recipients.sw_one}
        slots |= {"kina": containers.swahili_has, "full": containers.swahili_full}
        slots |= {"qa": f"{things} {cast.a}", "qb": f"{things} {cast.b}"}
    else:
        slots |= {"P": person.bengali, "Pg": person.bengali_genitive, "K": other.bengali}
        slots |= {"Kg": other.bengali_genitive, "Kd": other.bengali_dative}
        slots |= {"S": person.bengali if cast.by_name else "সে"}
        slots |= {"how": "কতগুলো" if cast.plural_how_many else "কয়টি"}
        slots |= {"C": containers.bn, "C1": containers.bn, "Cl": containers.bn_locative}
        slots |= {"R": recipients.bn, "R1": recipients.bn, "Rg": recipients.bn_genitive}
        slots |= {"qa": f"{cast.a}টি {things}", "qb": f"{cast.b}টি {things}"}
    return slots


@dataclass(frozen=True)
class Voice:
    """In which language to speak, and how often to slip into another one (code-switching)."""

    language: str
    other: str | None = None
    rate: float = 0.0
    rng: random.Random | None = None

    def phrases(self, table: dict[str, dict[str, str]], name: str, cast: Cast, slots: dict[str, str]) -> list[str]:
        """The filled phrases of a sentence in this language's order; `slots` overrides those of the cast."""
        own = _split(table[name][self.language])
        foreign = dict(_split(table[name][self.other])) if self.other else {}
        plain = forms(cast, self.language) | slots
        out = []
        for key, phrase in own:
            filled = plain
            if self.other and key in foreign and self.rng.random() < self.rate:
                phrase, filled = foreign[key], forms(cast, self.other)
            elif self.other and self.rng.random() < self.rate:
                filled = forms(cast, self.language, thing_language=self.other) | slots
            out.append(phrase.format_map(filled))
        return [phrase for phrase in out if phrase]

    def say(self, name: str, cast: Cast, opening: dict[str, str] | None = None, **slots: str) -> str:
        """One statement, capitalised, with its full stop. `opening` is a time or place put before it."""
        phrases = self.phrases(SENTENCES, name, cast, slots)
        if opening:
            phrases.insert(0, opening[self.language])
        end = "" if phrases[-1].endswith(":") else "।" if self.language == "bn" else "."
        return _capital(" ".join(phrases)) + end

    def ask(self, name: str, cast: Cast) -> str:
        return self._question(self.phrases(QUESTIONS, name, cast, {}))

    def ask_who(self, event: str, cast: Cast) -> str:
        """Who did what the event says."""
        things = forms(cast, self.language)["the_X"]
        plain = replace(self, other=None)
        return self._question(plain.phrases(SENTENCES, event, cast, {"S": WHO[self.language], "qb": things}))

    def _question(self, phrases: list[str]) -> str:
        text = _capital(" ".join(phrases)) + "?"
        return "¿" + text if self.language == "es" else text


@cache
def _split(template: str) -> tuple[tuple[str, str], ...]:
    return tuple(tuple(part.split(":", 1)) for part in template.split("|"))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
