"""English: the language that the abilities are taught in."""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P}|v:had|q:{qa}",
    "has": "P:{P}|v:has|q:{qa}",
    "other_has": "K:{K}|v:has|q:{qb}",
    "buy": "S:{S}|v:bought|q:{qb}",
    "find": "S:{S}|v:found|q:{qb}",
    "bring": "S:{S}|v:brought|q:{qb}",
    "receive": "S:{S}|v:got|q:{qb}|K:from {K}",
    "give": "S:{S}|v:gave|q:{qb}|K:to {K}",
    "lose": "S:{S}|v:lost|q:{qb}",
    "sell": "S:{S}|v:sold|q:{qb}",
    "discard": "S:{S}|v:threw away|q:{qb}",
    "has_containers": "P:{P}|v:has|c:{a} {C}",
    "each_has": "c:each {C1}|v:has|q:{qb}",
    "one_has": "c:one {C1}|v:has|q:{qb}",
    "all_have": "c:the {C}|v:have|q:{qb}|m:in all",
    "share": "S:{S}|v:shared|q:{the} {X}|d:equally|r:among {b} {R}",
    "put": "S:{S}|v:put|q:{the} {X}|d:equally|r:into {b} {C}",
    "more_now": "t:now|P:{P}|v:has|m:more {X}|k:than before",
    "fewer_now": "t:now|P:{P}|v:has|m:fewer {X}|k:than before",
    "more_than": "P:{P}|v:has|m:more {X}|K:than {K}",
    "fewer_than": "K:{K}|v:has|m:fewer {X}|P:than {P}",
    "all_same": "r:all the {R}|v:got|d:the same",
    "all_full": "c:the {C}|v:are full",
    "likes": "P:{P}|v:likes|q:{X}",
    "friend_of": "P:{P}|v:is a friend|K:of {K}",
    "wants": "K:{K}|v:wants|q:{qb}",
    "asks": "K:{K}|v:asks:",
    "race": "P:{P}|K:and {K}|v:race",
    "sun_b": "w:in the sun|v:it is|q:{b} degrees",
    "melt_said": "S:it|f:is still solid",
    "way_b": "S:it|v:goes|q:for {b} hours",
    "way_said": "S:it|v:does not stop",
    "speed_a": "P:{OP}|v:goes|q:{a} km|w:in an hour",
    "speed_b": "K:{OK}|v:goes|q:{b} km|w:in an hour",
    "float_a": "P:{OP}|v:weighs|q:{a} grams",
    "float_b": "K:{OK}|z:is as big, and|v:weighs|q:{b} grams",
    "float_said": "w:in water|x:one {O}|m:floats,|y:the other|f:sinks",
    "melt_a": "P:{OP}|v:melts|q:at {a} degrees",
    "is_faster": "P:{OP}|m:is faster|K:than {OK}",
    "is_slower": "K:{OK}|f:is slower|P:than {OP}",
    "it_floats": "P:{OP}|m:floats|w:in water",
    "it_sinks": "K:{OK}|f:sinks|w:in water",
    "it_is_liquid": "P:{OP}|m:is liquid|w:in the sun",
    "it_is_solid": "K:{OK}|f:is still solid|w:in the sun",
}

QUESTIONS = {
    "now": "h:how many {X}|P:does {P} have|t:now",
    "now_pronoun": "h:how many {X}|P:does {she} have|t:now",
    "left": "h:how many {X}|P:does {P} have|l:left",
    "total": "h:how many {X}|P:does {P} have|m:in all",
    "total_pronoun": "h:how many {X}|P:does {she} have|m:in all",
    "together": "h:how many {X}|P:do they have|m:in all",
    "how_many_more": "h:how many more {X}|P:does {P} have|K:than {K}",
    "how_many_fewer": "h:how many fewer {X}|K:does {K} have|P:than {P}",
    "each_recipient": "h:how many {X}|c:did each {R1}|v:get",
    "each_container": "h:how many {X}|c:does each {C1}|v:have",
    "what_had": "h:what|v:did|P:{P} have",
    "where": "h:where|v:was|P:{P}",
    "more_or_fewer": "P:does {P} have|m:more|o:or|f:fewer {X}|t:now",
    "who_has_containers": "h:who|v:has|c:{C}",
    "who_more": "h:who|v:has|m:more {X}",
    "who_fewer": "h:who|v:has|m:fewer {X}",
    "wins": "h:how many km|c:does the {O} that wins|v:go|w:in an hour",
    "missing": "h:how many degrees|v:are missing|c:until the {O} melts",
    "way": "h:how many km|c:does the {O}|v:go|m:in all",
    "faster": "h:how many km|c:does the faster {O}|v:go|w:in an hour",
    "floats": "h:how many grams|c:does the {O} that floats|v:weigh",
    "whose_faster": "h:whose {O}|m:is faster",
    "whose_slower": "h:whose {O}|f:is slower",
    "whose_floats": "h:whose {O}|m:floats",
    "whose_sinks": "h:whose {O}|f:sinks",
    "whose_liquid": "h:whose {O}|m:is liquid",
    "whose_solid": "h:whose {O}|f:is solid",
}

CONTAINERS = {"basket": "baskets", "box": "boxes", "bag": "bags"}
RECIPIENTS = {"child": "children", "student": "students", "friend": "friends"}


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name."""
    if not cast.owned:
        return {}
    named = things or cast.owned
    return {"O": named, "OP": f"{cast.person.name}'s {named}", "OK": f"{cast.other.name}'s {named}"}


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing."""
    named = things or cast.thing
    pronoun = "she" if cast.person.she else "he"
    return {
        "a": str(cast.a), "b": str(cast.b), "P": cast.person.name, "K": cast.other.name, "she": pronoun,
        "S": cast.person.name if cast.by_name else pronoun,
        "X": named, "the_X": f"the {named}", "the": "the", "qa": f"{cast.a} {named}", "qb": f"{cast.b} {named}",
        "C1": cast.containers, "C": CONTAINERS[cast.containers], "R1": cast.recipients, "R": RECIPIENTS[cast.recipients],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="en",
    name="English",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "in the morning,", "evening": "in the evening,", "monday": "on Monday,",
        "market": "at the market,", "school": "at school,", "home": "at home,", "garden": "in the garden,",
    },
    topic="Topic:",
    topics={
        "gain": "getting more", "loss": "having less", "together": "all together", "compare": "comparing",
        "groups": "equal groups", "share": "equal shares", "single": "only one", "whole": "the sum",
        "race": "who wins", "float": "what floats", "melt": "getting warmer", "way": "the whole way",
    },
    numbers="Numbers:",
    and_="and",
    who={"S": "who"},
    more="more",
    fewer="fewer",
    slots=slots,
)  # fmt: skip
