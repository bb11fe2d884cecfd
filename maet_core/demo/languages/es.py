"""Spanish: things have a gender, and the subject is left out where it is plain."""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P}|v:tenía|q:{qa}",
    "has": "P:{P}|v:tiene|q:{qa}",
    "other_has": "K:{K}|v:tiene|q:{qb}",
    "buy": "S:{S}|v:compró|q:{qb}",
    "find": "S:{S}|v:encontró|q:{qb}",
    "bring": "S:{S}|v:trajo|q:{qb}",
    "receive": "S:{S}|v:recibió|q:{qb}|K:de {K}",
    "give": "S:{S}|v:le dio|q:{qb}|K:a {K}",
    "lose": "S:{S}|v:perdió|q:{qb}",
    "sell": "S:{S}|v:vendió|q:{qb}",
    "discard": "S:{S}|v:tiró|q:{qb}",
    "has_containers": "P:{P}|v:tiene|c:{a} {C}",
    "each_has": "c:cada {C1}|v:tiene|q:{qb}",
    "one_has": "c:{one} {C1}|v:tiene|q:{qb}",
    "all_have": "c:las {C}|v:tienen|q:{qb}|m:en total",
    "share": "S:{S}|v:repartió|q:{the} {X}|d:por igual|r:entre {b} {R}",
    "put": "S:{S}|v:puso|q:{the} {X}|d:por igual|r:en {b} {C}",
    "more_now": "t:ahora|P:{P}|v:tiene|m:más {X}|k:que antes",
    "fewer_now": "t:ahora|P:{P}|v:tiene|m:menos {X}|k:que antes",
    "more_than": "P:{P}|v:tiene|m:más {X}|K:que {K}",
    "fewer_than": "K:{K}|v:tiene|m:menos {X}|P:que {P}",
    "all_same": "r:todos los {R}|v:recibieron|d:lo mismo",
    "all_full": "c:las {C}|v:están llenas",
    "likes": "P:a {P}|v:le gustan|q:{the} {X}",
    "friend_of": "P:{P}|v:es {friend}|K:de {K}",
    "wants": "K:{K}|v:quiere|q:{qb}",
    "asks": "K:{K}|v:pregunta:",
    "race": "P:{P}|K:y {K}|v:hacen una carrera",
    "sun_b": "w:al sol|v:hace|q:{b} grados",
    "melt_said": "f:todavía está sólido",
    "way_b": "v:viaja|q:{b} horas",
    "way_said": "v:no se detiene",
    "speed_a": "P:{OP}|v:recorre|q:{a} km|w:en una hora",
    "speed_b": "K:{OK}|v:recorre|q:{b} km|w:en una hora",
    "float_a": "P:{OP}|v:pesa|q:{a} gramos",
    "float_b": "K:{OK}|z:es igual de grande y|v:pesa|q:{b} gramos",
    "float_said": "w:en el agua|x:un {O}|m:flota,|y:el otro|f:se hunde",
    "melt_a": "P:{OP}|v:se derrite|q:a {a} grados",
    "is_faster": "P:{OP}|m:es más rápido|K:que {OK}",
    "is_slower": "K:{OK}|f:es más lento|P:que {OP}",
    "it_floats": "P:{OP}|m:flota|w:en el agua",
    "it_sinks": "K:{OK}|f:se hunde|w:en el agua",
    "it_is_liquid": "P:{OP}|m:está líquido|w:al sol",
    "it_is_solid": "K:{OK}|f:sigue sólido|w:al sol",
}

QUESTIONS = {
    "now": "h:{how} {X}|P:tiene {P}|t:ahora",
    "now_pronoun": "h:{how} {X}|P:tiene|t:ahora",
    "left": "h:{how} {X}|l:le quedan|P:a {P}",
    "total": "h:{how} {X}|P:tiene {P}|m:en total",
    "total_pronoun": "h:{how} {X}|P:tiene|m:en total",
    "together": "h:{how} {X}|P:tienen|m:en total",
    "how_many_more": "h:{how} {X} más|P:tiene {P}|K:que {K}",
    "how_many_fewer": "h:{how} {X} menos|K:tiene {K}|P:que {P}",
    "each_recipient": "h:{how} {X}|v:recibió|c:cada {R1}",
    "each_container": "h:{how} {X}|v:tiene|c:cada {C1}",
    "what_had": "h:qué|v:tenía|P:{P}",
    "where": "h:dónde|v:estaba|P:{P}",
    "more_or_fewer": "P:{P} tiene|m:más|o:o|f:menos {X}|t:ahora",
    "who_has_containers": "h:quién|v:tiene|c:{C}",
    "who_more": "h:quién|v:tiene|m:más {X}",
    "who_fewer": "h:quién|v:tiene|m:menos {X}",
    "wins": "h:cuántos km|v:recorre|c:el {O} que gana|w:en una hora",
    "missing": "h:cuántos grados|v:faltan|c:para que el {O} se derrita",
    "way": "h:cuántos km|v:recorre|c:el {O}|m:en total",
    "faster": "h:cuántos km|v:recorre|c:el {O} más rápido|w:en una hora",
    "floats": "h:cuántos gramos|v:pesa|c:el {O} que flota",
    "whose_faster": "h:de quién|m:es el {O} más rápido",
    "whose_slower": "h:de quién|f:es el {O} más lento",
    "whose_floats": "h:de quién|m:es el {O} que flota",
    "whose_sinks": "h:de quién|f:es el {O} que se hunde",
    "whose_liquid": "h:de quién|m:es el {O} líquido",
    "whose_solid": "h:de quién|f:es el {O} sólido",
}

# A thing, and whether it is feminine.
THINGS = {
    "mangoes": ("mangos", False), "oranges": ("naranjas", True), "bananas": ("plátanos", False), "eggs": ("huevos", False),
    "books": ("libros", False), "cups": ("tazas", True), "pens": ("plumas", True), "stones": ("piedras", True),
    "flowers": ("flores", True), "balls": ("pelotas", True), "coins": ("monedas", True), "potatoes": ("papas", True),
    "keys": ("llaves", True), "cakes": ("pasteles", False),
}  # fmt: skip
CONTAINERS = {"basket": ("cesta", "cestas"), "box": ("caja", "cajas"), "bag": ("bolsa", "bolsas")}  # all feminine
RECIPIENTS = {"child": ("niño", "niños"), "student": ("estudiante", "estudiantes"), "friend": ("amigo", "amigos")}


OWNED = {
    "car": "coche", "bus": "autobús", "boat": "barco", "train": "tren",
    "ball": "balón", "brick": "ladrillo", "jar": "frasco", "ring": "anillo",
    "metal": "metal", "chocolate": "chocolate", "cheese": "queso", "plastic": "plástico",
}  # fmt: skip


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; all of it is masculine. `things` overrides its name."""
    if not cast.owned:
        return {}
    named = things or OWNED[cast.owned]
    return {"O": named, "OP": f"el {named} de {cast.person.name}", "OK": f"el {named} de {cast.other.name}"}


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing, and its gender stays."""
    named, feminine = THINGS[cast.thing]
    named = things or named
    the = "las" if feminine else "los"
    containers, recipients = CONTAINERS[cast.containers], RECIPIENTS[cast.recipients]
    return {
        "a": str(cast.a), "b": str(cast.b), "P": cast.person.name, "K": cast.other.name,
        "S": cast.person.name if cast.by_name else "",
        "X": named, "the": the, "the_X": f"{the} {named}", "qa": f"{cast.a} {named}", "qb": f"{cast.b} {named}",
        "how": "cuántas" if feminine else "cuántos", "one": "una", "friend": "amiga" if cast.person.she else "amigo",
        "C1": containers[0], "C": containers[1], "R1": recipients[0], "R": recipients[1],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="es",
    name="Spanish",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "por la mañana,", "evening": "por la noche,", "monday": "el lunes",
        "market": "en el mercado,", "school": "en la escuela,", "home": "en casa,", "garden": "en el jardín,",
    },
    topic="Tema:",
    topics={
        "gain": "tener más", "loss": "tener menos", "together": "todo junto", "compare": "comparar",
        "groups": "grupos iguales", "share": "partes iguales", "single": "solo uno", "whole": "la suma",
        "race": "quién gana", "float": "lo que flota", "melt": "calentar más", "way": "todo el camino",
    },
    numbers="Números:",
    and_="y",
    who={"S": "quién"},
    more="más",
    fewer="menos",
    slots=slots,
    question_start="¿",
)  # fmt: skip
