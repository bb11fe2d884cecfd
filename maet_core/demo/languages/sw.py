"""Swahili: whatever belongs to a noun agrees with its class; the number stands after what it counts."""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P}|v:alikuwa na|q:{qa}",
    "has": "P:{P}|v:ana|q:{qa}",
    "other_has": "K:{K}|v:ana|q:{qb}",
    "buy": "S:{S}|v:alinunua|q:{qb}",
    "find": "S:{S}|v:aliokota|q:{qb}",
    "bring": "S:{S}|v:alileta|q:{qb}",
    "receive": "S:{S}|v:alipokea|q:{qb}|K:kutoka kwa {K}",
    "give": "S:{S}|v:alimpa|K:{K}|q:{qb}",
    "lose": "S:{S}|v:alipoteza|q:{qb}",
    "sell": "S:{S}|v:aliuza|q:{qb}",
    "discard": "S:{S}|v:alitupa|q:{qb}",
    "has_containers": "P:{P}|v:ana|c:{C} {a}",
    "each_has": "c:kila {C1}|v:{kina}|q:{qb}",
    "one_has": "c:{C1} {one}|v:{kina}|q:{qb}",
    "all_have": "c:{C} {vyote}|v:{vina}|q:{qb}|m:kwa jumla",
    "share": "S:{S}|v:aligawa|q:{X} {those}|d:sawasawa|r:kwa {R} {b}",
    "put": "S:{S}|v:aliweka|q:{X} {those}|d:sawasawa|r:katika {C} {b}",
    "more_now": "t:sasa|P:{P}|v:ana|m:{X} {many} zaidi|k:kuliko mwanzo",
    "fewer_now": "t:sasa|P:{P}|v:ana|m:{X} {few} zaidi|k:kuliko mwanzo",
    "more_than": "P:{P}|v:ana|m:{X} {many} zaidi|K:kuliko {K}",
    "fewer_than": "K:{K}|v:ana|m:{X} {few} zaidi|P:kuliko {P}",
    "all_same": "r:{R} wote|v:walipata|d:sawa",
    "all_full": "c:{C}|v:{full}",
    "likes": "P:{P}|v:anapenda|q:{X}",
    "friend_of": "P:{P}|v:ni rafiki|K:wa {K}",
    "wants": "K:{K}|v:anataka|q:{qb}",
    "asks": "K:{K}|v:anauliza:",
    "race": "P:{P}|K:na {K}|v:wanashindana",
    "sun_b": "w:juani|v:kuna joto la|q:digrii {b}",
    "melt_said": "f:bado {o}ko katika hali ya yabisi",
    "way_b": "v:{o}nasafiri kwa|q:saa {b}",
    "way_said": "v:{ha_o}simami",
    "speed_a": "P:{OP}|v:{o}naenda|q:kilomita {a}|w:kwa saa",
    "speed_b": "K:{OK}|v:{o}naenda|q:kilomita {b}|w:kwa saa",
    "float_a": "P:{OP}|v:{o}na uzito wa|q:gramu {a}",
    "float_b": "K:{OK}|z:{o}na ukubwa sawa na|v:uzito wa|q:gramu {b}",
    "float_said": "w:majini|x:{O} {one_o}|m:{o}naelea,|y:{other_o}|f:{o}nazama",
    "melt_a": "P:{OP}|v:{o}nayeyuka|q:kwa digrii {a}",
    "is_faster": "P:{OP}|m:{o}na kasi kubwa|K:kuliko {OK}",
    "is_slower": "K:{OK}|f:{o}na kasi ndogo|P:kuliko {OP}",
    "it_floats": "P:{OP}|m:{o}naelea|w:majini",
    "it_sinks": "K:{OK}|f:{o}nazama|w:majini",
    "it_is_liquid": "P:{OP}|m:{o}ko katika hali ya kimiminika|w:juani",
    "it_is_solid": "K:{OK}|f:bado {o}ko katika hali ya yabisi|w:juani",
}

QUESTIONS = {
    "now": "t:sasa|P:{P} ana|h:{X} {how}",
    "now_pronoun": "t:sasa|P:ana|h:{X} {how}",
    "left": "P:{P}|l:amebaki na|h:{X} {how}",
    "total": "P:{P} ana|h:{X} {how}|m:kwa jumla",
    "total_pronoun": "P:ana|h:{X} {how}|m:kwa jumla",
    "together": "P:wana|h:{X} {how}|m:kwa jumla",
    "how_many_more": "P:{P} ana|h:{X} {how} zaidi|K:kuliko {K}",
    "how_many_fewer": "K:{K} ana|h:{X} {how} pungufu|P:kuliko {P}",
    "each_recipient": "c:kila {R1}|v:alipata|h:{X} {how}",
    "each_container": "c:kila {C1}|v:{kina}|h:{X} {how}",
    "what_had": "P:{P}|v:alikuwa na|h:nini",
    "where": "P:{P}|v:alikuwa|h:wapi",
    "more_or_fewer": "t:sasa|P:{P} ana|m:{X} {many} zaidi|o:au|f:{few} zaidi",
    "who_has_containers": "h:nani|v:ana|c:{C}",
    "who_more": "h:nani|v:ana|m:{X} {many} zaidi",
    "who_fewer": "h:nani|v:ana|m:{X} {few} zaidi",
    "wins": "c:{O} {o}na{o_rel}shinda|v:{o}naenda|h:kilomita ngapi|w:kwa saa",
    "missing": "v:zimebaki|h:digrii ngapi|c:ili {O} {o}yeyuke",
    "way": "c:{O}|v:{o}naenda|h:kilomita ngapi|m:kwa jumla",
    "faster": "c:{O} {enye} kasi kubwa zaidi|v:{o}naenda|h:kilomita ngapi|w:kwa saa",
    "floats": "c:{O} {o}na{o_rel}elea|v:{o}na uzito wa|h:gramu ngapi",
    "whose_faster": "h:{O} {of} nani|m:{o}na kasi kubwa zaidi",
    "whose_slower": "h:{O} {of} nani|f:{o}na kasi ndogo zaidi",
    "whose_floats": "h:{O} {of} nani|m:{o}naelea",
    "whose_sinks": "h:{O} {of} nani|f:{o}nazama",
    "whose_liquid": "h:{O} {of} nani|m:{o}ko katika hali ya kimiminika",
    "whose_solid": "h:{O} {of} nani|f:{o}ko katika hali ya yabisi",
}

# A thing, and the class of its plural.
THINGS = {
    "mangoes": ("maembe", "ma"), "oranges": ("machungwa", "ma"), "bananas": ("ndizi", "n"), "eggs": ("mayai", "ma"),
    "books": ("vitabu", "vi"), "cups": ("vikombe", "vi"), "pens": ("kalamu", "n"), "stones": ("mawe", "ma"),
    "flowers": ("maua", "ma"), "balls": ("mipira", "mi"), "coins": ("sarafu", "n"), "potatoes": ("viazi", "vi"),
    "keys": ("funguo", "n"), "cakes": ("keki", "n"),
}  # fmt: skip

# Agreement by the class of the plural: how many; those (just named); many; few.
AGREEMENT = {
    "ma": ("mangapi", "hayo", "mengi", "machache"),
    "vi": ("vingapi", "hivyo", "vingi", "vichache"),
    "n": ("ngapi", "hizo", "nyingi", "chache"),
    "mi": ("mingapi", "hiyo", "mingi", "michache"),
}
# One; many; "it has"; "they are full"; one of them; all of them; "they have".
CONTAINERS = {
    "basket": ("kikapu", "vikapu", "kina", "vimejaa", "kimoja", "vyote", "vina"),
    "box": ("sanduku", "masanduku", "lina", "yamejaa", "moja", "yote", "yana"),
    "bag": ("mfuko", "mifuko", "una", "imejaa", "mmoja", "yote", "ina"),
}
RECIPIENTS = {"child": ("mtoto", "watoto"), "student": ("mwanafunzi", "wanafunzi"), "friend": ("rafiki", "marafiki")}


# A thing that somebody has one of, and its class.
OWNED = {
    "car": ("gari", "li"), "bus": ("basi", "li"), "boat": ("mashua", "i"), "train": ("treni", "i"),
    "ball": ("mpira", "u"), "brick": ("tofali", "li"), "jar": ("mtungi", "u"), "ring": ("pete", "i"),
    "metal": ("chuma", "ki"), "chocolate": ("chokoleti", "i"), "cheese": ("jibini", "i"), "plastic": ("plastiki", "i"),
}  # fmt: skip
# By the prefix of the class: of; one; the other; having; which (in a verb); which is.
OF_CLASS = {
    "li": ("la", "moja", "lingine", "lenye", "lo", "lililo"),
    "i": ("ya", "moja", "nyingine", "yenye", "yo", "iliyo"),
    "u": ("wa", "mmoja", "mwingine", "wenye", "o", "ulio"),
    "ki": ("cha", "kimoja", "kingine", "chenye", "cho", "kilicho"),
}


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name, and its class stays."""
    if not cast.owned:
        return {}
    named, prefix = OWNED[cast.owned]
    named = things or named
    forms = dict(zip(("of", "one_o", "other_o", "enye", "o_rel", "o_which"), OF_CLASS[prefix], strict=True))
    of = forms["of"]
    return forms | {
        "o": prefix, "ha_o": {"i": "hai", "li": "hali", "u": "hau", "ki": "haki"}[prefix], "O": named, "OP": f"{named} {of} {cast.person.name}", "OK": f"{named} {of} {cast.other.name}",
    }  # fmt: skip


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing, and its class stays."""
    named, noun_class = THINGS[cast.thing]
    named = things or named
    agreement = dict(zip(("how", "those", "many", "few"), AGREEMENT[noun_class], strict=True))
    containers = dict(
        zip(("C1", "C", "kina", "full", "one", "vyote", "vina"), CONTAINERS[cast.containers], strict=True)
    )
    recipients = RECIPIENTS[cast.recipients]
    return agreement | containers | {
        "a": str(cast.a), "b": str(cast.b), "P": cast.person.name, "K": cast.other.name,
        "S": cast.person.name if cast.by_name else "",
        "X": named, "the_X": named, "qa": f"{named} {cast.a}", "qb": f"{named} {cast.b}",
        "R1": recipients[0], "R": recipients[1],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="sw",
    name="Swahili",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "asubuhi", "evening": "jioni", "monday": "Jumatatu",
        "market": "sokoni", "school": "shuleni", "home": "nyumbani", "garden": "bustanini",
    },
    topic="Mada:",
    topics={
        "gain": "kupata zaidi", "loss": "kupungukiwa", "together": "vyote pamoja", "compare": "kulinganisha",
        "groups": "makundi sawa", "share": "mafungu sawa", "single": "kimoja tu", "whole": "jumla",
        "race": "anayeshinda", "float": "kinachoelea", "melt": "kupasha joto", "way": "njia yote",
    },
    numbers="Nambari:",
    and_="na",
    who={"S": "nani"},
    more="{many} zaidi",
    fewer="{few} zaidi",
    slots=slots,
)  # fmt: skip
