"""The demo tokenizer: a token is a word, a digit or a mark; what it has never seen it spells in letters or bytes.

Bengali vowel signs stay with their letters, and case endings on names and things are tokens of their own, so that a
name is one token in every case.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from maet_core.demo.lexicon import CONTAINERS, PEOPLE, RECIPIENTS, THINGS

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PIECES = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s"
BENGALI_ENDINGS = ("ের", "র", "কে", "গুলো")
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
    stems = {unicodedata.normalize("NFC", stem) for stem in _bengali_stems()}
    total = sum(counts.values())
    letters = sorted({letter for piece in counts for letter in piece})
    pieces = {**dict.fromkeys(SPECIAL, 0.0), **{f"<0x{byte:02X}>": -60.0 for byte in range(256)}}
    pieces |= dict.fromkeys(letters, -30.0)
    pieces |= dict.fromkeys(BENGALI_ENDINGS, -8.0)
    for piece, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count >= smallest_count and not _is_inflected(piece, stems):
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


def _bengali_stems() -> Iterable[str]:
    yield from (person.bengali for person in PEOPLE)
    yield from (thing.bn for thing in THINGS)
    yield from (group.bn for group in CONTAINERS + RECIPIENTS)


def _is_inflected(piece: str, stems: set[str]) -> bool:
    return any(piece.endswith(end) and piece.removesuffix(end).strip() in stems for end in BENGALI_ENDINGS)
