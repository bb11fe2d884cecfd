"""Texts that a model is trained or judged on, read one by one from files of any size."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from maet_core.errors import InputError

# the columns that make a document, in the order in which they are looked for: (prompt, answer), or (text,)
COLUMNS = (
    ("prompt", "answer"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("instruction", "response"),
    ("text",),
)
_FORMATS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def read_corpus(source: str | Path, columns: tuple[str, ...] | None = None) -> Iterator[tuple[str, str]]:
    """(prompt, answer) of every document; the prompt is empty for plain text.

    `source`: a text file (documents separated by empty lines), JSONL or Parquet, or a hub dataset `org/name[:config[:split]]`
    (split `train` if none is given), streamed. `columns` names one column of text, or a prompt's and an answer's; by default the
    first pair of `COLUMNS` that is there. Raises InputError naming file and row for what cannot be read.
    """
    for number, row in enumerate(_rows(str(source)), start=1):
        found = columns or next((names for names in COLUMNS if all(name in row for name in names)), None)
        if found is None or any(name not in row for name in found):
            wanted = " and ".join(columns) if columns else ", or ".join(" and ".join(names) for names in COLUMNS)
            raise InputError(f"{source}: row {number} has the columns {', '.join(row)}; expected {wanted}")
        texts = [row[name] for name in found]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"{source}: row {number}: {' and '.join(found)} must be text, found {type(texts[0]).__name__}"
            )
        if "".join(texts).strip():
            yield (texts[0], texts[1]) if len(texts) == 2 else ("", texts[0].strip("\n"))


def mix_corpora(sources: Sequence[str], documents: int | None = None) -> Iterator[tuple[str, str]]:
    """The documents of all sources in turn, one of each, until every one has ended or given `documents`."""
    streams = [islice(read_corpus(source), documents) for source in sources]
    while streams:
        for stream in list(streams):
            document = next(stream, None)
            if document is None:
                streams.remove(stream)
            else:
                yield document


def corpora_key(sources: Sequence[str], documents: int | None = None) -> str:
    """Says which documents these are, without reading them: names, sizes and times of the files."""
    parts: list = [documents]
    for source in sources:
        path = Path(source).expanduser()
        status = path.stat() if path.is_file() else None
        parts.append([str(path.resolve()), status.st_size, status.st_mtime_ns] if status else source)
    return json.dumps(parts)


def load_rows(name: str, config: str | None, split: str, **options: Any) -> Iterable[Mapping[str, Any]]:
    """One split of a hub dataset (from its cache, where it is there), or of files of the format `name`. Raises what the library raises."""
    import datasets

    # its bars and warnings would mix with ours; what goes wrong is raised, and told in one line
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return datasets.load_dataset(name, config, split=split, **options)


def _rows(source: str) -> Iterator[Mapping[str, Any]]:
    path = Path(source).expanduser()
    kind = _FORMATS.get(path.suffix.lower())
    try:
        if kind is not None:
            if not path.is_file():
                raise InputError(f"{source}: no such file")
            options = {"sample_by": "paragraph"} if kind == "text" else {}
            yield from load_rows(kind, None, "train", data_files=str(path), streaming=True, **options)
            return
        if path.exists():
            raise InputError(f"{source}: a corpus is a file of {', '.join(_FORMATS)}, or a hub dataset")
        name, _, rest = source.partition(":")
        config, _, split = rest.partition(":")
        yield from load_rows(name, config or None, split or "train", streaming=True)
    except InputError:
        raise
    except Exception as error:  # readers of every format raise kinds of their own
        raise InputError(
            f"{source}: cannot be read as a corpus ({str(error).strip().splitlines()[0][:200]})"
        ) from error
