"""Thai: no spaces between words, none of the endings of other languages, and a classifier after every number.

`·` in a template marks where one word ends and the next begins; it never reaches the text.
"""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P}|v:มี|q:{qa}",
    "has": "P:{P}|v:มี|q:{qa}",
    "other_has": "K:{K}|v:มี|q:{qb}",
    "buy": "S:{S}|v:ซื้อ|q:{qb}",
    "find": "S:{S}|v:เจอ|q:{qb}",
    "bring": "S:{S}|v:นำ|q:{qb}|e:มา",
    "receive": "S:{S}|v:ได้รับ|q:{qb}|K:จาก·{K}",
    "give": "S:{S}|v:ให้|q:{qb}|K:แก่·{K}",
    "lose": "S:{S}|v:ทำ|q:{qb}|e:หาย·ไป",
    "sell": "S:{S}|v:ขาย|q:{qb}",
    "discard": "S:{S}|v:ทิ้ง|q:{qb}",
    "has_containers": "P:{P}|v:มี|c:{C} {a} ใบ",
    "each_has": "c:{C}·แต่ละ·ใบ|v:มี|q:{qb}",
    "one_has": "c:{C}·ใบ·หนึ่ง|v:มี|q:{qb}",
    "all_have": "c:{C}·ทั้งหมด|v:มี|q:{X}|m:รวม·กัน|n:{b} {cl}",
    "share": "S:{S}|v:แบ่ง|q:{X}|r:ให้·{R} {b} คน|d:เท่า·กัน",
    "put": "S:{S}|v:ใส่|q:{X}|r:ลงใน·{C} {b} ใบ|d:เท่า·กัน",
    "more_now": "t:ตอนนี้|P:{P}|v:มี|m:{X}·มาก·กว่า|k:เดิม",
    "fewer_now": "t:ตอนนี้|P:{P}|v:มี|m:{X}·น้อย·กว่า|k:เดิม",
    "more_than": "P:{P}|v:มี|m:{X}·มาก·กว่า|K:{K}",
    "fewer_than": "K:{K}|v:มี|m:{X}·น้อย·กว่า|P:{P}",
    "all_same": "r:{R}·ทุก·คน|v:ได้|d:เท่า·กัน",
    "all_full": "c:{C}·ทุก·ใบ|v:เต็ม",
    "likes": "P:{P}|v:ชอบ|q:{X}",
    "friend_of": "P:{P}|v:เป็น·เพื่อน|K:ของ·{K}",
    "wants": "K:{K}|v:อยาก·ได้|q:{qb}",
    "asks": "K:{K}|v:ถาม·ว่า",
    "race": "P:{P}|K:และ·{K}|v:แข่ง·กัน",
    "sun_b": "w:กลาง·แดด|v:ร้อน|q:{b} องศา",
    "melt_said": "S:มัน|f:ยัง·เป็น·ของแข็ง",
    "way_b": "S:มัน|v:แล่น|q:{b} ชั่วโมง",
    "way_said": "S:มัน|v:ไม่·หยุด",
    "speed_a": "P:{OP}|v:แล่น|w:ชั่วโมง·ละ|q:{a} กิโลเมตร",
    "speed_b": "K:{OK}|v:แล่น|w:ชั่วโมง·ละ|q:{b} กิโลเมตร",
    "float_a": "P:{OP}|v:หนัก|q:{a} กรัม",
    "float_b": "K:{OK}|z:ใหญ่·เท่า·กัน·และ|v:หนัก|q:{b} กรัม",
    "float_said": "w:ใน·น้ำ|x:{O}·{m}·หนึ่ง|m:ลอย |y:อีก·{m}|f:จม",
    "melt_a": "P:{OP}|v:ละลาย·ที่|q:{a} องศา",
    "is_faster": "P:{OP}|m:เร็ว·กว่า|K:{OK}",
    "is_slower": "K:{OK}|f:ช้า·กว่า|P:{OP}",
    "it_floats": "P:{OP}|m:ลอย|w:ใน·น้ำ",
    "it_sinks": "K:{OK}|f:จม|w:ใน·น้ำ",
    "it_is_liquid": "P:{OP}|m:เป็น·ของเหลว|w:กลาง·แดด",
    "it_is_solid": "K:{OK}|f:ยัง·เป็น·ของแข็ง|w:กลาง·แดด",
}

QUESTIONS = {
    "now": "t:ตอนนี้|P:{P}·มี|h:{X}·กี่·{cl}",
    "now_pronoun": "t:ตอนนี้|P:{she}·มี|h:{X}·กี่·{cl}",
    "left": "P:{P}|l:เหลือ|h:{X}·กี่·{cl}",
    "total": "m:รวม·ทั้งหมด|P:{P}·มี|h:{X}·กี่·{cl}",
    "total_pronoun": "m:รวม·ทั้งหมด|P:{she}·มี|h:{X}·กี่·{cl}",
    "together": "m:รวม·ทั้งหมด|P:พวกเขา·มี|h:{X}·กี่·{cl}",
    "how_many_more": "P:{P}·มี|h:{X}·มาก·กว่า|K:{K}|n:กี่·{cl}",
    "how_many_fewer": "K:{K}·มี|h:{X}·น้อย·กว่า|P:{P}|n:กี่·{cl}",
    "each_recipient": "c:{R}·แต่ละ·คน|v:ได้|h:{X}·กี่·{cl}",
    "each_container": "c:{C}·แต่ละ·ใบ|v:มี|h:{X}·กี่·{cl}",
    "what_had": "P:{P}|v:มี|h:อะไร",
    "where": "P:{P}|v:อยู่|h:ที่ไหน",
    "more_or_fewer": "t:ตอนนี้|P:{P}·มี|m:{X}·มาก·ขึ้น|o:หรือ|f:น้อย·ลง",
    "who_has_containers": "h:ใคร|v:มี|c:{C}",
    "who_more": "h:ใคร|v:มี|m:{X}·มาก·กว่า",
    "who_fewer": "h:ใคร|v:มี|m:{X}·น้อย·กว่า",
    "wins": "c:{O}·{m}·ที่·ชนะ|v:แล่น|w:ชั่วโมง·ละ|h:กี่·กิโลเมตร",
    "missing": "v:ขาด·อีก|h:กี่·องศา|c:{O}·จึง·จะ·ละลาย",
    "way": "c:{O}|v:แล่น|m:รวม·ทั้งหมด|h:กี่·กิโลเมตร",
    "faster": "c:{O}·{m}·ที่·เร็ว·กว่า|v:แล่น|w:ชั่วโมง·ละ|h:กี่·กิโลเมตร",
    "floats": "c:{O}·{m}·ที่·ลอย|v:หนัก|h:กี่·กรัม",
    "whose_faster": "h:{O}·ของ·ใคร|m:เร็ว·กว่า",
    "whose_slower": "h:{O}·ของ·ใคร|f:ช้า·กว่า",
    "whose_floats": "h:{O}·ของ·ใคร|m:ลอย",
    "whose_sinks": "h:{O}·ของ·ใคร|f:จม",
    "whose_liquid": "h:{O}·ของ·ใคร|m:เป็น·ของเหลว",
    "whose_solid": "h:{O}·ของ·ใคร|f:เป็น·ของแข็ง",
}

NAMES = {
    "Asha": "อาชา", "Rina": "ริน่า", "Eva": "อีวา", "Neema": "นีมา", "Mita": "มิตา", "Sara": "ซาร่า", "Zuri": "ซูริ",
    "Lucy": "ลูซี่", "Juma": "จูมา", "Ali": "อาลี", "Karim": "คาริม", "Luis": "ลูอิส", "Omar": "โอมาร์", "Tom": "ทอม",
    "Rahim": "ราฮิม", "David": "เดวิด",
}  # fmt: skip

# A thing and its classifier.
THINGS = {
    "mangoes": ("มะม่วง", "ผล"), "oranges": ("ส้ม", "ผล"), "bananas": ("กล้วย", "ผล"), "eggs": ("ไข่", "ฟอง"),
    "books": ("หนังสือ", "เล่ม"), "cups": ("ถ้วย", "ใบ"), "pens": ("ปากกา", "ด้าม"), "stones": ("หิน", "ก้อน"),
    "flowers": ("ดอกไม้", "ดอก"), "balls": ("ลูกบอล", "ลูก"), "coins": ("เหรียญ", "เหรียญ"), "potatoes": ("มันฝรั่ง", "หัว"),
    "keys": ("กุญแจ", "ดอก"), "cakes": ("เค้ก", "ชิ้น"),
}  # fmt: skip
CONTAINERS = {"basket": "ตะกร้า", "box": "กล่อง", "bag": "ถุง"}
RECIPIENTS = {"child": "เด็ก", "student": "นักเรียน", "friend": "เพื่อน"}


# A thing that somebody has one of, and its classifier.
OWNED = {
    "car": ("รถยนต์", "คัน"), "bus": ("รถเมล์", "คัน"), "boat": ("เรือ", "ลำ"), "train": ("รถไฟ", "ขบวน"),
    "ball": ("ลูกบอล", "ลูก"), "brick": ("อิฐ", "ก้อน"), "jar": ("กระปุก", "ใบ"), "ring": ("แหวน", "วง"),
    "metal": ("โลหะ", "ชิ้น"), "chocolate": ("ช็อกโกแลต", "ชิ้น"), "cheese": ("ชีส", "ชิ้น"), "plastic": ("พลาสติก", "ชิ้น"),
}  # fmt: skip


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name, and its classifier stays."""
    if not cast.owned:
        return {}
    named, classifier = OWNED[cast.owned]
    named = things or named
    return {
        "O": named, "m": classifier,
        "OP": f"{named}·ของ·{NAMES[cast.person.name]}", "OK": f"{named}·ของ·{NAMES[cast.other.name]}",
    }  # fmt: skip


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing, and its classifier stays."""
    named, classifier = THINGS[cast.thing]
    named = things or named
    person, other = NAMES[cast.person.name], NAMES[cast.other.name]
    pronoun = "เธอ" if cast.person.she else "เขา"
    return {
        "a": str(cast.a), "b": str(cast.b), "P": person, "K": other, "S": person if cast.by_name else pronoun,
        "she": pronoun, "X": named, "cl": classifier,
        "qa": f"{named} {cast.a} {classifier}", "qb": f"{named} {cast.b} {classifier}",
        "C": CONTAINERS[cast.containers], "R": RECIPIENTS[cast.recipients],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="th",
    name="Thai",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "ตอนเช้า ", "evening": "ตอนเย็น ", "monday": "วันจันทร์ ",
        "market": "ที่·ตลาด ", "school": "ที่·โรงเรียน ", "home": "ที่·บ้าน ", "garden": "ใน·สวน ",
    },
    topic="หัวข้อ:",
    topics={
        "gain": "เพิ่ม·ขึ้น", "loss": "ลด·ลง", "together": "รวม·กัน", "compare": "เปรียบเทียบ",
        "groups": "กลุ่ม·เท่า·กัน", "share": "แบ่ง·เท่า·กัน", "single": "อัน·เดียว", "whole": "ทั้งหมด",
        "race": "ใคร·ชนะ", "float": "สิ่ง·ที่·ลอย", "melt": "ร้อน·ขึ้น", "way": "ระยะทาง·ทั้งหมด",
    },
    numbers="ตัวเลข:",
    and_="และ",
    who={"S": "ใคร"},
    more="มาก·ขึ้น",
    fewer="น้อย·ลง",
    slots=slots,
    stop="",
    question="",
    spaced=False,
    stems=(*NAMES.values(), *(word for pair in THINGS.values() for word in pair), *CONTAINERS.values(), *RECIPIENTS.values(), "เธอ", "เขา",
           *(word for pair in OWNED.values() for word in pair)),
)  # fmt: skip
