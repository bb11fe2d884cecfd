"""Telugu: the verb comes last and agrees with who acts; cases are endings; what somebody has is "near" them."""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P} దగ్గర|q:{qa}|v:ఉండేవి",
    "has": "P:{P} దగ్గర|q:{qa}|v:ఉన్నాయి",
    "other_has": "K:{K} దగ్గర|q:{qb}|v:ఉన్నాయి",
    "buy": "S:{S}|q:{qb}|v:{bought}",
    "find": "S:{Sd}|q:{qb}|v:దొరికాయి",
    "bring": "S:{S}|q:{qb}|v:{brought}",
    "receive": "S:{S}|K:{K} దగ్గర నుండి|q:{qb}|v:{took}",
    "give": "S:{S}|K:{Kd}|q:{qb}|v:{gave}",
    "lose": "S:{S}|q:{qb}|v:{lost}",
    "sell": "S:{S}|q:{qb}|v:{sold}",
    "discard": "S:{S}|q:{qb}|v:{threw_away}",
    "has_containers": "P:{P} దగ్గర|c:{a} {C}|v:ఉన్నాయి",
    "each_has": "c:ప్రతి {Cl}|q:{qb}|v:ఉన్నాయి",
    "one_has": "c:ఒక {Cl}|q:{qb}|v:ఉన్నాయి",
    "all_have": "c:అన్ని {Cls}|m:మొత్తం|q:{qb}|v:ఉన్నాయి",
    "share": "S:{S}|q:{Xa}|r:{b} మంది {Rd}|d:సమానంగా|v:{shared}",
    "put": "S:{S}|q:{Xa}|r:{b} {Cls}|d:సమానంగా|v:{put}",
    "more_now": "t:ఇప్పుడు|P:{P} దగ్గర|k:మునుపటి కంటే|m:ఎక్కువ {X}|v:ఉన్నాయి",
    "fewer_now": "t:ఇప్పుడు|P:{P} దగ్గర|k:మునుపటి కంటే|m:తక్కువ {X}|v:ఉన్నాయి",
    "more_than": "P:{P} దగ్గర|K:{K} కంటే|m:ఎక్కువ {X}|v:ఉన్నాయి",
    "fewer_than": "K:{K} దగ్గర|P:{P} కంటే|m:తక్కువ {X}|v:ఉన్నాయి",
    "all_same": "r:అందరు {Rd}|d:సమానంగా|v:వచ్చాయి",
    "all_full": "c:{C}|v:నిండుగా ఉన్నాయి",
    "likes": "P:{Pd}|q:{X}|v:ఇష్టం",
    "friend_of": "P:{P}|K:{K}|v:{friend}",
    "wants": "K:{Kd}|q:{qb}|v:కావాలి",
    "asks": "K:{K}|v:{asks}:",
    "race": "P:{P}|K:మరియు {K}|v:పోటీ పడతారు",
    "sun_b": "w:ఎండలో|q:{b} డిగ్రీల|v:వేడి ఉంది",
    "melt_said": "S:అది|f:ఇంకా ఘనంగా ఉంది",
    "way_b": "S:అది|q:{b} గంటలు|v:ప్రయాణిస్తుంది",
    "way_said": "S:అది|v:ఆగదు",
    "speed_a": "P:{OP}|w:గంటకు|q:{a} కిలోమీటర్లు|v:వెళ్తుంది",
    "speed_b": "K:{OK}|w:గంటకు|q:{b} కిలోమీటర్లు|v:వెళ్తుంది",
    "float_a": "P:{OP}|v:బరువు|q:{a} గ్రాములు",
    "float_b": "K:{OK}|z:అంతే పెద్దది, దాని|v:బరువు|q:{b} గ్రాములు",
    "float_said": "w:నీటిలో|x:ఒక {O}|m:తేలుతుంది,|y:మరొకటి|f:మునుగుతుంది",
    "melt_a": "P:{OP}|q:{a} డిగ్రీల వద్ద|v:కరుగుతుంది",
    "is_faster": "P:{OP}|K:{OK} కంటే|m:వేగంగా వెళ్తుంది",
    "is_slower": "K:{OK}|P:{OP} కంటే|f:నెమ్మదిగా వెళ్తుంది",
    "it_floats": "P:{OP}|w:నీటిలో|m:తేలుతుంది",
    "it_sinks": "K:{OK}|w:నీటిలో|f:మునుగుతుంది",
    "it_is_liquid": "P:{OP}|w:ఎండలో|m:ద్రవంగా ఉంది",
    "it_is_solid": "K:{OK}|w:ఎండలో|f:ఇంకా ఘనంగా ఉంది",
}

QUESTIONS = {
    "now": "t:ఇప్పుడు|P:{P} దగ్గర|h:ఎన్ని {X}|v:ఉన్నాయి",
    "now_pronoun": "t:ఇప్పుడు|P:{of_them} దగ్గర|h:ఎన్ని {X}|v:ఉన్నాయి",
    "left": "P:{P} దగ్గర|h:ఎన్ని {X}|l:మిగిలాయి",
    "total": "P:{P} దగ్గర|m:మొత్తం|h:ఎన్ని {X}|v:ఉన్నాయి",
    "total_pronoun": "P:{of_them} దగ్గర|m:మొత్తం|h:ఎన్ని {X}|v:ఉన్నాయి",
    "together": "P:వారిద్దరి దగ్గర|m:మొత్తం|h:ఎన్ని {X}|v:ఉన్నాయి",
    "how_many_more": "K:{K} కంటే|P:{P} దగ్గర|h:ఎన్ని {X} ఎక్కువ|v:ఉన్నాయి",
    "how_many_fewer": "P:{P} కంటే|K:{K} దగ్గర|h:ఎన్ని {X} తక్కువ|v:ఉన్నాయి",
    "each_recipient": "c:ప్రతి {Rd1}|h:ఎన్ని {X}|v:వచ్చాయి",
    "each_container": "c:ప్రతి {Cl}|h:ఎన్ని {X}|v:ఉన్నాయి",
    "what_had": "P:{P} దగ్గర|h:ఏమి|v:ఉండేవి",
    "where": "P:{P}|h:ఎక్కడ|v:{was}",
    "more_or_fewer": "t:ఇప్పుడు|P:{P} దగ్గర|m:ఎక్కువ {X}|v:ఉన్నాయా|o:లేక|f:తక్కువా",
    "who_has_containers": "h:ఎవరి దగ్గర|c:{C}|v:ఉన్నాయి",
    "who_more": "h:ఎవరి దగ్గర|m:ఎక్కువ {X}|v:ఉన్నాయి",
    "who_fewer": "h:ఎవరి దగ్గర|m:తక్కువ {X}|v:ఉన్నాయి",
    "wins": "c:గెలిచే {O}|w:గంటకు|h:ఎన్ని కిలోమీటర్లు|v:వెళ్తుంది",
    "missing": "c:{O} కరగడానికి|h:ఇంకా ఎన్ని డిగ్రీలు|v:కావాలి",
    "way": "c:{O}|m:మొత్తం|h:ఎన్ని కిలోమీటర్లు|v:వెళ్తుంది",
    "faster": "c:వేగంగా వెళ్లే {O}|w:గంటకు|h:ఎన్ని కిలోమీటర్లు|v:వెళ్తుంది",
    "floats": "c:తేలే {O}|v:బరువు|h:ఎన్ని గ్రాములు",
    "whose_faster": "h:ఎవరి {O}|m:వేగంగా వెళ్తుంది",
    "whose_slower": "h:ఎవరి {O}|f:నెమ్మదిగా వెళ్తుంది",
    "whose_floats": "h:ఎవరి {O}|m:తేలుతుంది",
    "whose_sinks": "h:ఎవరి {O}|f:మునుగుతుంది",
    "whose_liquid": "h:ఎవరి {O}|m:ద్రవంగా ఉంది",
    "whose_solid": "h:ఎవరి {O}|f:ఘనంగా ఉంది",
}

NAMES = {
    "Asha": "ఆశ", "Rina": "రీనా", "Eva": "ఈవా", "Neema": "నీమా", "Mita": "మీతా", "Sara": "సారా", "Zuri": "జూరి",
    "Lucy": "లూసీ", "Juma": "జుమా", "Ali": "అలీ", "Karim": "కరీం", "Luis": "లూయిస్", "Omar": "ఒమర్", "Tom": "టామ్",
    "Rahim": "రహీం", "David": "డేవిడ్",
}  # fmt: skip

THINGS = {
    "mangoes": "మామిడిపండ్లు", "oranges": "నారింజపండ్లు", "bananas": "అరటిపండ్లు", "eggs": "గుడ్లు", "books": "పుస్తకాలు",
    "cups": "కప్పులు", "pens": "పెన్నులు", "stones": "రాళ్లు", "flowers": "పువ్వులు", "balls": "బంతులు", "coins": "నాణేలు",
    "potatoes": "బంగాళాదుంపలు", "keys": "తాళంచెవులు", "cakes": "కేకులు",
}  # fmt: skip

# containers: many; in one; in many. Recipients: many; to one; to many.
CONTAINERS = {
    "basket": ("బుట్టలు", "బుట్టలో", "బుట్టల్లో"),
    "box": ("పెట్టెలు", "పెట్టెలో", "పెట్టెల్లో"),
    "bag": ("సంచులు", "సంచిలో", "సంచుల్లో"),
}
RECIPIENTS = {
    "child": ("చిన్నారులు", "చిన్నారికి", "చిన్నారులకు"),
    "student": ("విద్యార్థులు", "విద్యార్థికి", "విద్యార్థులకు"),
    "friend": ("స్నేహితులు", "స్నేహితుడికి", "స్నేహితులకు"),
}

# The past of a verb: he, she, and they (which "who" takes too).
VERBS = {
    "bought": ("కొన్నాడు", "కొంది", "కొన్నారు"),
    "brought": ("తెచ్చాడు", "తెచ్చింది", "తెచ్చారు"),
    "took": ("తీసుకున్నాడు", "తీసుకుంది", "తీసుకున్నారు"),
    "gave": ("ఇచ్చాడు", "ఇచ్చింది", "ఇచ్చారు"),
    "lost": ("పోగొట్టుకున్నాడు", "పోగొట్టుకుంది", "పోగొట్టుకున్నారు"),
    "sold": ("అమ్మాడు", "అమ్మింది", "అమ్మారు"),
    "threw_away": ("పారేశాడు", "పారేసింది", "పారేశారు"),
    "shared": ("పంచాడు", "పంచింది", "పంచారు"),
    "put": ("పెట్టాడు", "పెట్టింది", "పెట్టారు"),
    "was": ("ఉన్నాడు", "ఉంది", "ఉన్నారు"),
}
JOINER = "\u200c"  # keeps a final consonant apart from the ending after it


def dative(name: str) -> str:
    """To somebody: -ki after i, -ku after everything else."""
    if name.endswith("్"):
        return name + JOINER + "కు"
    return name + ("కి" if name.endswith(("ి", "ీ")) else "కు")


OWNED = {
    "car": "కారు", "bus": "బస్సు", "boat": "పడవ", "train": "రైలు",
    "ball": "బంతి", "brick": "ఇటుక", "jar": "జాడీ", "ring": "ఉంగరం",
    "metal": "లోహం", "chocolate": "చాక్లెట్", "cheese": "చీజ్", "plastic": "ప్లాస్టిక్",
}  # fmt: skip


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name."""
    if not cast.owned:
        return {}
    named = things or OWNED[cast.owned]
    return {"O": named, "OP": f"{NAMES[cast.person.name]} {named}", "OK": f"{NAMES[cast.other.name]} {named}"}


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing."""
    named = things or THINGS[cast.thing]
    person, other = NAMES[cast.person.name], NAMES[cast.other.name]
    his = 1 if cast.person.she else 0
    containers, recipients = CONTAINERS[cast.containers], RECIPIENTS[cast.recipients]
    return {
        "a": str(cast.a), "b": str(cast.b), "P": person, "Pd": dative(person), "K": other, "Kd": dative(other),
        "S": person if cast.by_name else ("అతను", "ఆమె")[his],
        "Sd": dative(person) if cast.by_name else ("అతనికి", "ఆమెకు")[his],
        "of_them": ("అతని", "ఆమె")[his],
        "X": named, "Xa": things or named.removesuffix("లు") + "లను", "qa": f"{cast.a} {named}", "qb": f"{cast.b} {named}",
        "C": containers[0], "Cl": containers[1], "Cls": containers[2],
        "R": recipients[0], "Rd1": recipients[1], "Rd": recipients[2],
        "friend": "స్నేహితురాలు" if cast.person.she else "స్నేహితుడు",
        "asks": "అడుగుతుంది" if cast.other.she else "అడుగుతాడు",
        **{verb: shapes[his] for verb, shapes in VERBS.items()},
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="te",
    name="Telugu",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "ఉదయం", "evening": "సాయంత్రం", "monday": "సోమవారం",
        "market": "బజారులో", "school": "బడిలో", "home": "ఇంట్లో", "garden": "తోటలో",
    },
    topic="అంశం:",
    topics={
        "gain": "పెరగడం", "loss": "తగ్గడం", "together": "అన్నీ కలిపి", "compare": "పోల్చడం",
        "groups": "సమాన గుంపులు", "share": "సమాన భాగాలు", "single": "ఒకటి మాత్రమే", "whole": "మొత్తం",
        "race": "ఎవరు గెలుస్తారు", "float": "తేలేది", "melt": "ఇంకా వేడి", "way": "మొత్తం దారి",
    },
    numbers="సంఖ్యలు:",
    and_="మరియు",
    who={"S": "ఎవరు", "Sd": "ఎవరికి", **{verb: shapes[2] for verb, shapes in VERBS.items()}},
    more="ఎక్కువ",
    fewer="తక్కువ",
    slots=slots,
    stems=(*NAMES.values(),),
    endings=("కు", "కి"),
)  # fmt: skip
