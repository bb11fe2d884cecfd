"""The languages of the demo world, a file each: its sentences, its words, and the forms that agreement asks for."""

from maet_core.demo.languages import bn, en, es, sw, te, th, zh
from maet_core.demo.languages.language import Language

LANGUAGES: dict[str, Language] = {module.LANGUAGE.code: module.LANGUAGE for module in (en, es, zh, sw, bn, te, th)}

__all__ = ["LANGUAGES", "Language"]
