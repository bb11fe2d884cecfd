"""Who and what a story of the demo world is about, in no language yet: every language has its own words for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    name: str  # in English
    she: bool


PEOPLE = (
    *(Person(name, True) for name in ("Asha", "Rina", "Eva", "Neema", "Mita", "Sara", "Zuri", "Lucy")),
    *(Person(name, False) for name in ("Juma", "Ali", "Karim", "Luis", "Omar", "Tom", "Rahim", "David")),
)
THINGS = (
    "mangoes", "oranges", "bananas", "eggs", "books", "cups", "pens", "stones", "flowers", "balls", "coins", "potatoes",
    "keys", "cakes",
)  # fmt: skip
CONTAINERS = ("basket", "box", "bag")
RECIPIENTS = ("child", "student", "friend")

# When and where, as a sentence opens. Only places go with the present tense and answer "where".
TIMES = ("morning", "evening", "monday")
PLACES = ("market", "school", "home", "garden")


# Things that somebody has one of, by what happens to them.
OWNED = {
    "race": ("car", "bus", "boat", "train"),
    "float": ("ball", "brick", "jar", "ring"),
    "melt": ("metal", "chocolate", "cheese", "plastic"),
    "way": ("car", "bus", "boat", "train"),
}


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about; `a` and `b` are its numbers (2 or more). `owned`: what they have one of, in science."""

    person: Person
    other: Person
    thing: str
    containers: str
    recipients: str
    a: int
    b: int
    by_name: bool  # how the person is mentioned the second time
    plural_how_many: bool  # which of two Bengali forms of "how many"
    owned: str = ""
