"""A corpus as token ids on disk: written in one stream, read by position, so that memory does not grow with the corpus.

With positions a pass can be shuffled whole, and a run that was killed finds its place again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from transformers import PreTrainedTokenizerBase

from maet_core.errors import InputError
from maet_core.progress import Halted, Progress, tell
from maet_core.training.packing import Example, tokenize
from maet_core.unfinished import replace

_BLOCK_DOCUMENTS = 256
_TOKENS, _EXAMPLES, _ABOUT = "tokens.u32", "examples.i64", "corpus.json"


class TokenStore(Sequence[Example]):
    """The examples of a corpus in `folder`: 4 bytes a token and 16 an example, and a note of what they are, which comes last.

    `digest` tells corpora apart by content; `tokens` is how many there are.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        about = json.loads((folder / _ABOUT).read_text("utf-8"))
        self.tokens, self.digest = about["tokens"], about["digest"]
        self._ids = np.memmap(folder / _TOKENS, np.uint32, "r")
        self._ends = np.memmap(folder / _EXAMPLES, np.int64, "r").reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> Example:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = int(self._ends[number - 1, 0]) if number else 0
        end, answer_start = self._ends[number].tolist()
        return Example(tuple(self._ids[start:end].tolist()), answer_start)


def store_tokens(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[tuple[str, str]],
    most_tokens: int,
    key: str = "",
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> TokenStore:
    """Tokenizes (prompt, answer) documents into `folder` until there are none left, or `most_tokens` are there.

    A store of the same `key` that is there already is taken as it is; without a key, or where it is not whole, it is made
    again. Raises InputError for a corpus without documents.
    """
    try:
        if key and json.loads((folder / _ABOUT).read_text("utf-8"))["key"] == key:
            return TokenStore(folder)
    except (OSError, ValueError, KeyError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    held, digest, stream = 0, xxhash.xxh3_128(), iter(documents)
    with (folder / _TOKENS).open("wb") as ids, (folder / _EXAMPLES).open("wb") as ends:
        while held < most_tokens and (block := list(islice(stream, _BLOCK_DOCUMENTS))):
            for example in tokenize(tokenizer, block):
                held += len(example.tokens)
                for file, numbers, kind in (
                    (ids, example.tokens, np.uint32),
                    (ends, (held, example.answer_start), np.int64),
                ):
                    data = np.array(numbers, kind).tobytes()
                    file.write(data)
                    digest.update(data)
            tell(progress, halted, "reading the corpus", min(held, most_tokens), most_tokens)
    if not held:
        raise InputError("the corpus is empty")
    about = {"key": key, "tokens": held, "digest": digest.hexdigest()}
    replace(folder / _ABOUT, lambda part: part.write_text(json.dumps(about), "utf-8"))
    return TokenStore(folder)
