"""Chinese: no spaces between words, and a measure word between a number and what it counts.

`·` in a template marks where one word ends and the next begins; it never reaches the text.
"""

from __future__ import annotations

from maet_core.demo.cast import Cast
from maet_core.demo.languages.language import Language

SENTENCES = {
    "had": "P:{P}|v:有|q:{qa}",
    "has": "P:{P}|v:有|q:{qa}",
    "other_has": "K:{K}|v:有|q:{qb}",
    "buy": "S:{S}|v:买·了|q:{qb}",
    "find": "S:{S}|v:捡到·了|q:{qb}",
    "bring": "S:{S}|v:带来·了|q:{qb}",
    "receive": "S:{S}|K:从·{K}·那里|v:得到·了|q:{qb}",
    "give": "S:{S}|v:给·了|K:{K}|q:{qb}",
    "lose": "S:{S}|v:弄丢·了|q:{qb}",
    "sell": "S:{S}|v:卖掉·了|q:{qb}",
    "discard": "S:{S}|v:扔掉·了|q:{qb}",
    "has_containers": "P:{P}|v:有|c:{a} 个·{C}",
    "each_has": "c:每·个·{C}·里|v:有|q:{qb}",
    "one_has": "c:一·个·{C}·里|v:有|q:{qb}",
    "all_have": "c:所有·{C}·里|m:一共|v:有|q:{qb}",
    "share": "S:{S}|q:把·{X}|d:平均|v:分给·了|r:{b} 个·{R}",
    "put": "S:{S}|q:把·{X}|d:平均|v:放进·了|r:{b} 个·{C}·里",
    "more_now": "t:现在|P:{P}·的·{X}|k:比·以前|m:多",
    "fewer_now": "t:现在|P:{P}·的·{X}|k:比·以前|m:少",
    "more_than": "P:{P}·的·{X}|K:比·{K}|m:多",
    "fewer_than": "K:{K}·的·{X}|P:比·{P}|m:少",
    "all_same": "r:所有·{R}|v:分到·的|d:一样·多",
    "all_full": "c:{C}|v:都·装满·了",
    "likes": "P:{P}|v:喜欢|q:{X}",
    "friend_of": "P:{P}|v:是|K:{K}·的|f:朋友",
    "wants": "K:{K}|v:想要|q:{qb}",
    "asks": "K:{K}|v:问：",
    "race": "P:{P}|K:和·{K}|v:比赛",
    "sun_b": "w:在·阳光·下|v:有|q:{b} 度",
    "melt_said": "S:它|f:还是·固体",
    "way_b": "S:它|v:行驶|q:{b} 小时",
    "way_said": "S:它|v:不·停",
    "speed_a": "P:{OP}|w:每·小时|v:行驶|q:{a} 公里",
    "speed_b": "K:{OK}|w:每·小时|v:行驶|q:{b} 公里",
    "float_a": "P:{OP}|v:重|q:{a} 克",
    "float_b": "K:{OK}|z:一样·大，|v:重|q:{b} 克",
    "float_said": "w:在·水·里|x:一·{m}·{O}|m:浮·起来，|y:另·一·{m}|f:沉·下去",
    "melt_a": "P:{OP}|q:在 {a} 度|v:熔化",
    "is_faster": "P:{OP}|K:比·{OK}|m:快",
    "is_slower": "K:{OK}|P:比·{OP}|f:慢",
    "it_floats": "P:{OP}|w:在·水·里|m:浮·起来",
    "it_sinks": "K:{OK}|w:在·水·里|f:沉·下去",
    "it_is_liquid": "P:{OP}|w:在·阳光·下|m:是·液体",
    "it_is_solid": "K:{OK}|w:在·阳光·下|f:还是·固体",
}

QUESTIONS = {
    "now": "t:现在|P:{P}·有|h:多少·{cl}·{X}",
    "now_pronoun": "t:现在|P:{she}·有|h:多少·{cl}·{X}",
    "left": "P:{P}|l:还剩|h:多少·{cl}·{X}",
    "total": "P:{P}|m:一共|v:有|h:多少·{cl}·{X}",
    "total_pronoun": "P:{she}|m:一共|v:有|h:多少·{cl}·{X}",
    "together": "P:他们|m:一共|v:有|h:多少·{cl}·{X}",
    "how_many_more": "P:{P}|K:比·{K}|h:多·多少·{cl}·{X}",
    "how_many_fewer": "K:{K}|P:比·{P}|h:少·多少·{cl}·{X}",
    "each_recipient": "c:每·个·{R}|v:分到·了|h:多少·{cl}·{X}",
    "each_container": "c:每·个·{C}·里|v:有|h:多少·{cl}·{X}",
    "what_had": "P:{P}|v:有|h:什么",
    "where": "P:{P}|v:在|h:哪里",
    "more_or_fewer": "t:现在|P:{P}·的·{X}|m:多·了|o:还是|f:少·了",
    "who_has_containers": "h:谁|v:有|c:{C}",
    "who_more": "h:谁·的·{X}|m:更·多",
    "who_fewer": "h:谁·的·{X}|m:更·少",
    "wins": "c:赢·的·{O}|w:每·小时|v:行驶|h:多少·公里",
    "missing": "v:还差|h:多少·度|c:{O}·才·会·熔化",
    "way": "c:{O}|m:一共|v:行驶|h:多少·公里",
    "faster": "c:更·快·的·{O}|w:每·小时|v:行驶|h:多少·公里",
    "floats": "c:浮·起来·的·{O}|v:重|h:多少·克",
    "whose_faster": "h:谁·的·{O}|m:更·快",
    "whose_slower": "h:谁·的·{O}|f:更·慢",
    "whose_floats": "h:谁·的·{O}|m:浮·起来",
    "whose_sinks": "h:谁·的·{O}|f:沉·下去",
    "whose_liquid": "h:谁·的·{O}|m:是·液体",
    "whose_solid": "h:谁·的·{O}|f:是·固体",
}

NAMES = {
    "Asha": "阿莎", "Rina": "莉娜", "Eva": "伊娃", "Neema": "尼玛", "Mita": "米塔", "Sara": "萨拉", "Zuri": "祖丽",
    "Lucy": "露西", "Juma": "朱马", "Ali": "阿里", "Karim": "卡里姆", "Luis": "路易斯", "Omar": "奥马尔", "Tom": "汤姆",
    "Rahim": "拉希姆", "David": "大卫",
}  # fmt: skip

# A thing and its measure word.
THINGS = {
    "mangoes": ("芒果", "个"), "oranges": ("橙子", "个"), "bananas": ("香蕉", "根"), "eggs": ("鸡蛋", "个"),
    "books": ("书", "本"), "cups": ("杯子", "个"), "pens": ("钢笔", "支"), "stones": ("石头", "块"),
    "flowers": ("花", "朵"), "balls": ("球", "个"), "coins": ("硬币", "枚"), "potatoes": ("土豆", "个"),
    "keys": ("钥匙", "把"), "cakes": ("蛋糕", "个"),
}  # fmt: skip
CONTAINERS = {"basket": "篮子", "box": "盒子", "bag": "袋子"}
RECIPIENTS = {"child": "孩子", "student": "学生", "friend": "朋友"}


# A thing that somebody has one of, and its measure word.
OWNED = {
    "car": ("汽车", "辆"), "bus": ("公交车", "辆"), "boat": ("船", "条"), "train": ("火车", "列"),
    "ball": ("球", "个"), "brick": ("砖", "块"), "jar": ("罐子", "个"), "ring": ("戒指", "枚"),
    "metal": ("金属", "块"), "chocolate": ("巧克力", "块"), "cheese": ("奶酪", "块"), "plastic": ("塑料", "块"),
}  # fmt: skip


def _owned(cast: Cast, things: str | None) -> dict[str, str]:
    """What both people have one of, in science; `things` overrides its name, and its measure word stays."""
    if not cast.owned:
        return {}
    named, measure = OWNED[cast.owned]
    named = things or named
    return {
        "O": named, "m": measure,
        "OP": f"{NAMES[cast.person.name]}·的·{named}", "OK": f"{NAMES[cast.other.name]}·的·{named}",
    }  # fmt: skip


def slots(cast: Cast, things: str | None = None) -> dict[str, str]:
    """`things` overrides the name of the thing, and its measure word stays."""
    named, measure = THINGS[cast.thing]
    named = things or named
    person, other = NAMES[cast.person.name], NAMES[cast.other.name]
    pronoun = "她" if cast.person.she else "他"
    return {
        "a": str(cast.a), "b": str(cast.b), "P": person, "K": other, "S": person if cast.by_name else pronoun,
        "she": pronoun, "X": named, "cl": measure,
        "qa": f"{cast.a} {measure}·{named}", "qb": f"{cast.b} {measure}·{named}",
        "C": CONTAINERS[cast.containers], "R": RECIPIENTS[cast.recipients],
    } | _owned(cast, things)  # fmt: skip


LANGUAGE = Language(
    code="zh",
    name="Chinese",
    sentences=SENTENCES,
    questions=QUESTIONS,
    openings={
        "morning": "早上，", "evening": "晚上，", "monday": "星期一，",
        "market": "在·市场，", "school": "在·学校，", "home": "在·家，", "garden": "在·花园·里，",
    },
    topic="主题：",
    topics={
        "gain": "增加", "loss": "减少", "together": "合·起来", "compare": "比较",
        "groups": "同样·多·的·几·组", "share": "平均·分", "single": "只有·一·个", "whole": "总数",
        "race": "谁·赢", "float": "浮·起来·的", "melt": "变·热", "way": "全程",
    },
    numbers="数字：",
    and_="和",
    who={"S": "谁"},
    more="多·了",
    fewer="少·了",
    slots=slots,
    stop="。",
    question="？",
    spaced=False,
    stems=(*NAMES.values(), *(word for pair in THINGS.values() for word in pair), *CONTAINERS.values(), *RECIPIENTS.values(), "她", "他",
           *(word for pair in OWNED.values() for word in pair)),
)  # fmt: skip
