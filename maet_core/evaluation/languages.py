"""The few words of each language that prompts and answer extraction need.

Labels of questions and answers are those of MGSM (Shi et al. 2022, arXiv 2210.03057) in the form that the EleutherAI harness uses,
so that figures can be compared; the spelling of the Russian step-by-step label is theirs too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Labels before a question and its answer, and what announces a final answer in running text."""

    question: str
    answer: str
    steps: str
    announce: tuple[str, ...]


ENGLISH = Words(
    "Question:",
    "Answer:",
    "Step-by-Step Answer:",
    ("the answer is", "the final answer is", "final answer:", "answer:", "the correct answer is", "the answer:"),
)
WORDS: dict[str, Words] = {
    "en": ENGLISH,
    "bn": Words("প্রশ্ন:", "Answer:", "ধাপে ধাপে উত্তর:", ("উত্তর হল", "উত্তর হলো", "উত্তর হচ্ছে", "উত্তরটি হল", "উত্তর")),
    "de": Words(
        "Frage:",
        "Antwort:",
        "Schritt-für-Schritt-Antwort:",
        ("die antwort lautet", "die antwort ist", "die endgültige antwort lautet", "antwort"),
    ),
    "es": Words(
        "Pregunta:",
        "Respuesta:",
        "Respuesta paso a paso:",
        ("la respuesta es", "la respuesta final es", "la respuesta correcta es", "respuesta"),
    ),
    "fr": Words(
        "Question :",
        "Réponse :",
        "Réponse étape par étape :",
        ("la réponse est", "la réponse finale est", "la bonne réponse est", "réponse"),
    ),
    "ru": Words("Задача:", "Answer:", "Пошаговоерешение:", ("ответ —", "ответ -", "ответ равен", "ответ это", "ответ")),
    "sw": Words(
        "Swali:", "Answer:", "Jibu la Hatua kwa Hatua:", ("jibu ni", "jibu la mwisho ni", "jibu sahihi ni", "jibu")
    ),
    "te": Words("ప్రశ్న:", "Answer:", "దశలవారీగా సమాధానం:", ("సమాధానం", "జవాబు")),
    "th": Words("โจทย์:", "Answer:", "คำตอบทีละขั้นตอน:", ("คำตอบคือ", "คำตอบที่ถูกต้องคือ", "คำตอบ", "ตอบ")),
    "ja": Words("問題：", "Answer:", "ステップごとの答え:", ("答えは", "正解は", "答え", "回答")),
    "zh": Words("问题：", "Answer:", "逐步解答:", ("答案是", "答案为", "最终答案", "答案")),
    "hi": Words("प्रश्न:", "उत्तर:", "चरण-दर-चरण उत्तर:", ("उत्तर है", "सही उत्तर", "उत्तर", "जवाब")),
    "ar": Words(
        "سؤال:", "الإجابة:", "الإجابة خطوة بخطوة:", ("الجواب هو", "الإجابة هي", "الإجابة النهائية", "الجواب", "الإجابة")
    ),
}
# 1.250 is one thousand two hundred and fifty where people write so, and 3,5 is three and a half
DOT_GROUPS = frozenset({"de", "es", "it", "pt", "nl", "id", "tr", "vi"})
SPACE_GROUPS = frozenset({"fr", "ru", "es", "de", "pt", "pl", "uk", "cs", "sv"})


def words(language: str) -> Words:
    """English words for a language that has none here."""
    return WORDS.get(language, ENGLISH)
