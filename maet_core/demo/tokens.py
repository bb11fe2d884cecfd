"""The demo tokenizer: a token is a word, a digit or a mark; what it has never seen it spells in letters or bytes.

Vowel signs stay with their letters. Case endings on Bengali and Telugu names are tokens of their own, so that a name is one
token in every case. Thai and Chinese, which put no spaces between words, have their words from the templates.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from maet_core.demo.languages import LANGUAGES

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
UNSPACED = r"[\p{Thai}\p{Han}]"
PIECES = rf"{UNSPACED}+| (?={UNSPACED})| ?[\p{{L}}\p{{M}}]+| ?\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+|\s"
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}Q: {{ message['content'] }}\nA:"
    "{% else %} {{ message['content'] }}</s>{% endif %}{% endfor %}"
)


def build_tokenizer(texts: Iterable[str], smallest_count: int = 3) -> PreTrainedTokenizerFast:
    """A whole-word tokenizer for `texts`: every piece seen `smallest_count` times, every letter, every byte.

    Text is put into NFC. A beginning-of-text token is added in front; generation stops at `</s>`.
    """
    splitter = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(" " + unicodedata.normalize("NFC", text)))
    words = {unicodedata.normalize("NFC", word) for word in _unspaced_words()}
    inflected = {
        unicodedata.normalize("NFC", stem + ending)
        for language in LANGUAGES.values()
        for stem in language.stems
        for ending in language.endings
    }
    total = sum(counts.values())
    letters = sorted({letter for piece in counts for letter in piece})
    pieces = {**dict.fromkeys(SPECIAL, 0.0), **{f"<0x{byte:02X}>": -60.0 for byte in range(256)}}
    pieces |= dict.fromkeys(letters, -30.0)
    pieces |= dict.fromkeys((ending for language in LANGUAGES.values() for ending in language.endings), -8.0)
    pieces |= dict.fromkeys(sorted(words), -8.0)
    pieces[" "] = -4.0
    for piece, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count >= smallest_count and piece.strip() not in inflected and not _is_unspaced(piece):
            pieces[piece] = math.log(count / total)
    model = models.Unigram(list(pieces.items()), unk_id=SPECIAL.index("<unk>"), byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _unspaced_words() -> Iterable[str]:
    for language in LANGUAGES.values():
        if not language.spaced:
            yield from language.words()


def _is_unspaced(piece: str) -> bool:
    """Whether a piece is a run of words of a language that puts no spaces between them."""
    return any("\u0e00" <= letter <= "\u0e7f" or "\u3400" <= letter <= "\u9fff" for letter in piece)
