"""Bengali: the verb comes last, cases are endings, and a number takes a classifier (-ti, or jon for people)."""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{Pg} কাছে|q:{qa}|v:ছিল",
    "has": "P:{Pg} কাছে|q:{qa}|v:আছে",
    "other_has": "K:{Kg} কাছে|q:{qb}|v:আছে",
    "buy": "S:{S}|q:{qb}|v:কিনল",
    "find": "S:{S}|q:{qb}|v:খুঁজে পেল",
    "bring": "S:{S}|q:{qb}|v:আনল",
    "receive": "S:{S}|K:{Kg} কাছ থেকে|q:{qb}|v:পেল",
    "give": "S:{S}|K:{Kd}|q:{qb}|v:দিল",
    "lose": "S:{S}|q:{qb}|v:হারিয়ে ফেলল",
    "sell": "S:{S}|q:{qb}|v:বিক্রি করল",
    "discard": "S:{S}|q:{qb}|v:ফেলে দিল",
    "has_containers": "P:{Pg} কাছে|c:{a}টি {C}|v:আছে",
    "each_has": "c:প্রতিটি {Cl}|q:{qb}|v:আছে",
    "one_has": "c:একটি {Cl}|q:{qb}|v:আছে",
    "all_have": "c:সব {Cl}|m:মোট|q:{qb}|v:আছে",
    "share": "S:{S}|q:{X}গুলো|r:{b} জন {Rg} মধ্যে|d:সমান|v:ভাগ করল",
    "put": "S:{S}|q:{X}গুলো|r:{b}টি {Cl}|d:সমান ভাগে|v:রাখল",
    "more_now": "t:এখন|P:{Pg} কাছে|k:আগের চেয়ে|m:বেশি {X}|v:আছে",
    "fewer_now": "t:এখন|P:{Pg} কাছে|k:আগের চেয়ে|m:কম {X}|v:আছে",
    "more_than": "P:{Pg} কাছে|K:{Kg} চেয়ে|m:বেশি {X}|v:আছে",
    "fewer_than": "K:{Kg} কাছে|P:{Pg} চেয়ে|m:কম {X}|v:আছে",
    "all_same": "r:সব {R}|d:সমান|v:পেল",
    "all_full": "c:{C}গুলো|v:ভরা",
    "likes": "P:{P}|q:{X}|v:পছন্দ করে",
    "friend_of": "P:{P}|K:{Kg}|v:বন্ধু",
    "wants": "K:{K}|q:{qb}|v:চায়",
    "asks": "K:{K}|v:জিজ্ঞাসা করে:",
    "race": "P:{P}|K:ও {K}|v:প্রতিযোগিতা করে",
    "sun_b": "w:রোদে|q:{b} ডিগ্রি|v:গরম",
    "melt_said": "S:এটি|f:এখনও কঠিন",
    "way_b": "S:এটি|q:{b} ঘণ্টা|v:চলে",
    "way_said": "S:এটি|v:থামে না",
    "speed_a": "P:{OP}|w:ঘণ্টায়|q:{a} কিলোমিটার|v:যায়",
    "speed_b": "K:{OK}|w:ঘণ্টায়|q:{b} কিলোমিটার|v:যায়",
    "float_a": "P:{OPg}|v:ওজন|q:{a} গ্রাম",
    "float_b": "K:{OK}|z:একই আকারের, আর তার|v:ওজন|q:{b} গ্রাম",
    "float_said": "w:পানিতে|x:একটি {O}|m:ভাসে,|y:অন্যটি|f:ডুবে যায়",
    "melt_a": "P:{OP}|q:{a} ডিগ্রিতে|v:গলে",
    "is_faster": "P:{OP}|K:{OKg} চেয়ে|m:বেশি দ্রুত",
    "is_slower": "K:{OK}|P:{OPg} চেয়ে|f:বেশি ধীর",
    "it_floats": "P:{OP}|w:পানিতে|m:ভাসে",
    "it_sinks": "K:{OK}|w:পানিতে|f:ডুবে যায়",
    "it_is_liquid": "P:{OP}|w:রোদে|m:তরল",
    "it_is_solid": "K:{OK}|w:রোদে|f:এখনও কঠিন",
}

QUESTIONS = {
    "now": "t:এখন|P:{Pg} কাছে|h:{how} {X}|v:আছে",
    "now_pronoun": "t:এখন|P:তার কাছে|h:{how} {X}|v:আছে",
    "left": "P:{Pg} কাছে|h:{how} {X}|l:বাকি আছে",
    "total": "P:{Pg} কাছে|m:মোট|h:{how} {X}|v:আছে",
    "total_pronoun": "P:তার কাছে|m:মোট|h:{how} {X}|v:আছে",
    "together": "P:তাদের কাছে|m:মোট|h:{how} {X}|v:আছে",
    "how_many_more": "K:{Kg} চেয়ে|P:{Pg} কাছে|h:{how} {X} বেশি|v:আছে",
    "how_many_fewer": "P:{Pg} চেয়ে|K:{Kg} কাছে|h:{how} {X} কম|v:আছে",
    "each_recipient": "c:প্রত্যেক {R1}|h:{how} {X}|v:পেল",
    "each_container": "c:প্রতিটি {Cl}|h:{how} {X}|v:আছে",
    "what_had": "P:{Pg} কাছে|h:কী|v:ছিল",
    "where": "P:{P}|h:কোথায়|v:ছিল",
    "more_or_fewer": "t:এখন|P:{Pg} কাছে|m:বেশি {X}|v:আছে|o:না|f:কম",
    "who_has_containers": "h:কার কাছে|c:{C}|v:আছে",
    "who_more": "h:কার কাছে|m:বেশি {X}|v:আছে",
    "who_fewer": "h:কার কাছে|m:কম {X}|v:আছে",
    "wins": "c:যে {O}টি জেতে সেটি|w:ঘণ্টায়|h:কত কিলোমিটার|v:যায়",
    "missing": "c:{O} গলতে|h:আর কত ডিগ্রি|v:লাগবে",
    "way": "c:{O}টি|m:মোট|h:কত কিলোমিটার|v:যায়",
    "faster": "c:বেশি দ্রুত {O}টি|w:ঘণ্টায়|h:কত কিলোমিটার|v:যায়",
    "floats": "c:যে {O}টি ভাসে তার|v:ওজন|h:কত গ্রাম",
    "whose_faster": "h:কার {O}|m:বেশি দ্রুত",
    "whose_slower": "h:কার {O}|f:বেশি ধীর",
    "whose_floats": "h:কার {O}|m:ভাসে",
    "whose_sinks": "h:কার {O}|f:ডুবে যায়",
    "whose_liquid": "h:কার {O}|m:তরল",
    "whose_solid": "h:কার {O}|f:কঠিন",
}

# A name, and whether it ends in a consonant, which decides the genitive.
NAMES = {
    "Asha": ("আশা", False), "Rina": ("রিনা", False), "Eva": ("ইভা", False), "Neema": ("নীমা", False),
    "Mita": ("মিতা", False), "Sara": ("সারা", False), "Zuri": ("জুরি", False), "Lucy": ("লুসি", False),
    "Juma": ("জুমা", False), "Ali": ("আলি", False), "Karim": ("করিম", True), "Luis": ("লুইস", True),
    "Omar": ("ওমর", True), "Tom": ("টম", True), "Rahim": ("রহিম", True), "David": ("ডেভিড", True),
}  # fmt: skip
THINGS = {
    "mangoes": "আম", "oranges": "কমলা", "bananas": "কলা", "eggs": "ডিম", "books": "বই", "cups": "কাপ", "pens": "কলম",
    "stones": "পাথর", "flowers": "ফুল", "balls": "বল", "coins": "মুদ্রা", "potatoes": "আলু", "keys": "চাবি", "cakes": "কেক",
}  # fmt: skip
CONTAINERS = {"basket": ("ঝুড়ি", "ঝুড়িতে"), "box": ("বাক্স", "বাক্সে"), "bag": ("ব্যাগ", "ব্যাগে")}  # it; in it
RECIPIENTS = {"child": ("শিশু", "শিশুর"), "student": ("ছাত্র", "ছাত্রের"), "friend": ("বন্ধু", "বন্ধুর")}  # genitive second


def genitive(name: str) -> str:
    stem, ends_in_consonant = NAMES[name]
    return stem + ("ের" if ends_in_consonant else "র")


# A thing that somebody has one of, and its genitive.
OWNED = {
    "car": ("গাড়ি", "গাড়ির"), "bus": ("বাস", "বাসের"), "boat": ("নৌকা", "নৌকার"), "train": ("ট্রেন", "ট্রেনের"),
    "ball": ("বল", "বলের"), "brick": ("ইট", "ইটের"), "jar": ("বয়াম", "বয়ামের"), "ring": ("আংটি", "আংটির"),
    "metal": ("ধাতু", "ধাতুর"), "chocolate": ("চকোলেট", "চকোলেটের"), "cheese": ("পনির", "পনিরের"),
    "plastic": ("প্লাস্টিক", "প্লাস্টিকের"),
}  # fmt: skip


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name."""
    if not cast.owned:
        return {}
    named, of_it = (things, f"{things}-এর") if things else OWNED[cast.owned]
    person, other = genitive(cast.person.name), genitive(cast.other.name)
    return {
        "O": named, "OP": f"{person} {named}", "OK": f"{other} {named}", "OPg": f"{person} {of_it}", "OKg": f"{other} {of_it}",
    }  # fmt: skip


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing."""
    named = things or THINGS[cast.thing]
    person, other = NAMES[cast.person.name][0], NAMES[cast.other.name][0]
    containers, recipients = CONTAINERS[cast.containers], RECIPIENTS[cast.recipients]
    return {
        "a": str(cast.a), "b": str(cast.b), "P": person, "Pg": genitive(cast.person.name),
        "K": other, "Kg": genitive(cast.other.name), "Kd": other + "কে", "S": person if cast.by_name else "সে",
        "X": named, "the_X": named, "qa": f"{cast.a}টি {named}", "qb": f"{cast.b}টি {named}",
        "how": "কতগুলো" if cast.plural_how_many else "কয়টি",
        "C": containers[0], "C1": containers[0], "Cl": containers[1],
        "R": recipients[0], "R1": recipients[0], "Rg": recipients[1],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="bn",
    name="Bengali",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "সকালে", "evening": "সন্ধ্যায়", "monday": "সোমবারে",
        "market": "বাজারে", "school": "স্কুলে", "home": "বাড়িতে", "garden": "বাগানে",
    },
    topic="বিষয়:",
    topics={
        "gain": "বেশি পাওয়া", "loss": "কমে যাওয়া", "together": "সব একসঙ্গে", "compare": "তুলনা করা",
        "groups": "সমান দল", "share": "সমান ভাগ", "single": "শুধু একটি", "whole": "যোগফল",
        "race": "কে জেতে", "float": "যা ভাসে", "melt": "আরও গরম", "way": "পুরো পথ",
    },
    numbers="সংখ্যা:",
    and_="ও",
    who={"S": "কে"},
    more="বেশি",
    fewer="কম",
    slots=slots,
    stop="।",
    stems=(*(stem for stem, _ in NAMES.values()), *THINGS.values(), *(word for word, _ in CONTAINERS.values()),
           *(word for word, _ in RECIPIENTS.values()), *(word for word, _ in OWNED.values())),
    endings=("ের", "র", "কে", "গুলো", "টি"),
)  # fmt: skip
