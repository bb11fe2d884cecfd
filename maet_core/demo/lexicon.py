"""The words of the demo world: people, things, containers and groups, with the forms each language needs.

Every entry carries the forms that agreement asks for, so that a template never bends a word itself: English and
Spanish plurals, Spanish gender, Swahili noun classes, Bengali case endings. Digits are 0–9 in every language, as in
the Bengali of MGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = {"en": "English", "es": "Spanish", "sw": "Swahili", "bn": "Bengali"}


@dataclass(frozen=True)
class Person:
    """Somebody of the demo world: the name in Latin letters and in Bengali, and the English pronoun."""

    latin: str
    bengali: str
    pronoun: str
    ends_in_consonant: bool = False

    @property
    def bengali_genitive(self) -> str:
        return self.bengali + ("ের" if self.ends_in_consonant else "র")

    @property
    def bengali_dative(self) -> str:
        return self.bengali + "কে"


PEOPLE = (
    Person("Asha", "আশা", "she"),
    Person("Rina", "রিনা", "she"),
    Person("Eva", "ইভা", "she"),
    Person("Neema", "নীমা", "she"),
    Person("Mita", "মিতা", "she"),
    Person("Sara", "সারা", "she"),
    Person("Zuri", "জুরি", "she"),
    Person("Lucy", "লুসি", "she"),
    Person("Juma", "জুমা", "he"),
    Person("Ali", "আলি", "he"),
    Person("Karim", "করিম", "he", True),
    Person("Luis", "লুইস", "he", True),
    Person("Omar", "ওমর", "he", True),
    Person("Tom", "টম", "he", True),
    Person("Rahim", "রহিম", "he", True),
    Person("David", "ডেভিড", "he", True),
)


@dataclass(frozen=True)
class Thing:
    """Something that can be counted. `spanish_feminine` and `swahili_class` (of the plural) decide agreement."""

    en: str
    es: str
    spanish_feminine: bool
    sw: str
    swahili_class: str
    bn: str


THINGS = (
    Thing("mangoes", "mangos", False, "maembe", "ma", "আম"),
    Thing("oranges", "naranjas", True, "machungwa", "ma", "কমলা"),
    Thing("bananas", "plátanos", False, "ndizi", "n", "কলা"),
    Thing("eggs", "huevos", False, "mayai", "ma", "ডিম"),
    Thing("books", "libros", False, "vitabu", "vi", "বই"),
    Thing("cups", "tazas", True, "vikombe", "vi", "কাপ"),
    Thing("pens", "plumas", True, "kalamu", "n", "কলম"),
    Thing("stones", "piedras", True, "mawe", "ma", "পাথর"),
    Thing("flowers", "flores", True, "maua", "ma", "ফুল"),
    Thing("balls", "pelotas", True, "mipira", "mi", "বল"),
    Thing("coins", "monedas", True, "sarafu", "n", "মুদ্রা"),
    Thing("potatoes", "papas", True, "viazi", "vi", "আলু"),
    Thing("keys", "llaves", True, "funguo", "n", "চাবি"),
    Thing("cakes", "pasteles", False, "keki", "n", "কেক"),
)

# Agreement by the class of the plural: how many; these (just named); many; few.
SWAHILI_CLASSES = {
    "ma": {"how_many": "mangapi", "those": "hayo", "many": "mengi", "few": "machache"},
    "vi": {"how_many": "vingapi", "those": "hivyo", "many": "vingi", "few": "vichache"},
    "n": {"how_many": "ngapi", "those": "hizo", "many": "nyingi", "few": "chache"},
    "mi": {"how_many": "mingapi", "those": "hiyo", "many": "mingi", "few": "michache"},
}


@dataclass(frozen=True)
class Group:
    """Containers or recipients: one and many, with the forms that the templates need around them."""

    en_one: str
    en: str
    es_one: str
    es: str
    spanish_feminine: bool
    sw_one: str
    sw: str
    bn: str
    bn_genitive: str
    bn_locative: str = ""
    swahili_has: str = ""  # "it has", agreeing with the singular
    swahili_full: str = ""  # "they are full", agreeing with the plural


CONTAINERS = (
    Group("basket", "baskets", "cesta", "cestas", True, "kikapu", "vikapu",
          "ঝুড়ি", "ঝুড়ির", "ঝুড়িতে", "kina", "vimejaa"),
    Group("box", "boxes", "caja", "cajas", True, "sanduku", "masanduku",
          "বাক্স", "বাক্সের", "বাক্সে", "lina", "yamejaa"),
    Group("bag", "bags", "bolsa", "bolsas", True, "mfuko", "mifuko",
          "ব্যাগ", "ব্যাগের", "ব্যাগে", "una", "imejaa"),
)  # fmt: skip

RECIPIENTS = (
    Group("child", "children", "niño", "niños", False, "mtoto", "watoto", "শিশু", "শিশুর"),
    Group("student", "students", "estudiante", "estudiantes", False, "mwanafunzi", "wanafunzi", "ছাত্র", "ছাত্রের"),
    Group("friend", "friends", "amigo", "amigos", False, "rafiki", "marafiki", "বন্ধু", "বন্ধুর"),
)

# When and where, as a sentence opens. Only places go with the present tense and answer "where".
TIMES = (
    {"en": "in the morning,", "es": "por la mañana,", "sw": "asubuhi", "bn": "সকালে"},
    {"en": "in the evening,", "es": "por la noche,", "sw": "jioni", "bn": "সন্ধ্যায়"},
    {"en": "on Monday,", "es": "el lunes", "sw": "Jumatatu", "bn": "সোমবারে"},
)
PLACES = (
    {"en": "at the market,", "es": "en el mercado,", "sw": "sokoni", "bn": "বাজারে"},
    {"en": "at school,", "es": "en la escuela,", "sw": "shuleni", "bn": "স্কুলে"},
    {"en": "at home,", "es": "en casa,", "sw": "nyumbani", "bn": "বাড়িতে"},
    {"en": "in the garden,", "es": "en el jardín,", "sw": "bustanini", "bn": "বাগানে"},
)
