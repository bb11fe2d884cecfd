"""What is asked: tasks by name, and the field layouts of the files they come in.

demo-math[:dev]          problems that come with the project; so every tasks/NAME.jsonl of the demo
mgsm[:FOLDER]            from the hub, or a folder of mgsm_LANG.tsv: no header, question and answer
msvamp[:FOLDER]          from the hub, or a folder of its test_LANGUAGE.json
gsm8k[:FILE]             from the hub, or its JSONL
FILE or FOLDER           JSONL, TSV, CSV or Parquet with columns for question and answer, or with choices
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from maet_core.errors import InputError
from maet_core.evaluation.choices import find_choices
from maet_core.evaluation.extraction import final_answer

DEMO_TASKS = Path(__file__).resolve().parents[2] / "assets" / "demo" / "tasks"
UNKNOWN_LANGUAGE = "und"  # ISO 639-2: undetermined
MGSM_LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
# MSVAMP's files are named by the English name of their language
MSVAMP_LANGUAGES = {
    "bn": "Bengali",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "ja": "Japanese",
    "ru": "Russian",
    "sw": "Swahili",
    "th": "Thai",
    "zh": "Chinese",
}
QUESTION = ("question", "m_query", "query", "problem", "input", "premise", "sentence")
ANSWER = ("answer_number", "answer", "response", "target", "label", "output")
_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".parquet")


@dataclass(frozen=True)
class Item:
    """One question. `answer` is the known one; `prompt` how the task itself puts it, `worked` an answer with its steps.

    With `choices`, `gold` is the index of the right one. The same question in several languages has the same `problem`.
    """

    id: str
    language: str
    question: str
    answer: str
    prompt: str = ""
    worked: str = ""
    gloss: str = ""
    split: str = ""
    choices: tuple[str, ...] = ()
    gold: int = -1

    @property
    def problem(self) -> str:
        return self.id.removesuffix(f"-{self.language}")

    @cached_property
    def number(self) -> Decimal | None:
        """The answer as a number; None where it is none. Known answers are written with thousands commas or plain."""
        return final_answer(self.answer)


@dataclass(frozen=True)
class Task:
    """Questions of one kind. `items` are asked; `pool` holds the ones of other splits, from which exemplars are taken."""

    name: str
    source: str
    items: tuple[Item, ...]
    pool: tuple[Item, ...] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.language for item in self.items))

    @property
    def has_choices(self) -> bool:
        return bool(self.items and self.items[0].choices)

    @property
    def has_prompts(self) -> bool:
        return all(item.prompt for item in self.items)

    def of(self, language: str) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.language == language)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any question, answer or choice."""
        return xxhash.xxh3_64_hexdigest(repr(self.items).encode())


def load_task(name: str, languages: Iterable[str] = (), split: str | None = None, limit: int | None = None) -> Task:
    """The task in these languages (all of them, if none is named), the first `limit` questions of each.

    `split`: the default is `test` where a file says which split its rows belong to. Raises InputError that names the task,
    the file and the line, and what to do.
    """
    languages = tuple(dict.fromkeys(languages))
    kind, _, place = name.partition(":")
    if kind.startswith("demo-"):
        label, rows = kind, _demo(kind)
        split = split or place or None
    elif kind == "mgsm":
        label, rows = "mgsm", _folder(place, "mgsm_*.tsv") if place else _mgsm_from_hub(languages)
    elif kind == "msvamp":
        label, rows = "msvamp", _folder(place, "test_*.json") if place else _msvamp_from_hub(languages)
    elif kind == "gsm8k":
        label, rows = (
            "gsm8k",
            read_items(Path(place), "en") if place else _hub_rows("openai/gsm8k", "main", split, "en"),
        )
    else:
        path = Path(name).expanduser()
        label = path.stem
        rows = _folder(name, "*") if path.is_dir() else read_items(path, languages[0] if len(languages) == 1 else "")
    return _choose(Task(label, name, tuple(rows)), languages, split, limit)


def _choose(task: Task, languages: tuple[str, ...], split: str | None, limit: int | None) -> Task:
    if not task.items:
        raise InputError(f"{task.source}: holds no question")
    splits = {item.split for item in task.items} - {""}
    if split and splits and split not in splits:
        raise InputError(f"{task.source}: has no split {split!r}; there is {', '.join(sorted(splits))}")
    wanted = split or ("test" if "test" in splits else None)
    chosen = [item for item in task.items if not (wanted and splits) or item.split == wanted]
    known = dict.fromkeys(item.language for item in chosen)
    missing = [language for language in languages if language not in known]
    if missing:
        raise InputError(f"{task.source}: has no language {', '.join(missing)}; there is {', '.join(known)}")
    asked: list[Item] = []
    for language in languages or known:
        asked += [item for item in chosen if item.language == language][:limit]
    ids = [(item.language, item.id) for item in asked]
    if len(set(ids)) < len(ids):
        twice = next(key for key in ids if ids.count(key) > 1)
        raise InputError(f"{task.source}: the id {twice[1]} is there twice in {twice[0]}; ids must differ")
    kept = set(ids)
    pool = tuple(item for item in task.items if item.split != wanted and (item.language, item.id) not in kept)
    name = f"{task.name}:{wanted}" if wanted and wanted != "test" and splits else task.name
    return replace(task, name=name, items=tuple(asked), pool=pool if splits else ())


def _demo(name: str) -> list[Item]:
    path = DEMO_TASKS / f"{name.removeprefix('demo-')}.jsonl"
    if not path.is_file():
        there = ", ".join(f"demo-{file.stem}" for file in sorted(DEMO_TASKS.glob("*.jsonl")))
        raise InputError(f"{name}: the demo has no such task; there is {there or 'none'}")
    return read_items(path)


def _folder(place: str, pattern: str) -> list[Item]:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise InputError(f"{place}: no such folder of questions")
    files = [file for file in sorted(folder.glob(pattern)) if file.suffix in _SUFFIXES]
    if not files:
        raise InputError(f"{place}: holds no {pattern if pattern != '*' else 'file of ' + ', '.join(_SUFFIXES)}")
    return [item for file in files for item in read_items(file)]


def _mgsm_from_hub(languages: tuple[str, ...]) -> list[Item]:
    from huggingface_hub import hf_hub_download

    rows: list[Item] = []
    for language in languages or MGSM_LANGUAGES:
        if language not in MGSM_LANGUAGES:
            raise InputError(f"mgsm: has no language {language}; there is {', '.join(MGSM_LANGUAGES)}")
        try:
            path = hf_hub_download("juletxara/mgsm", f"mgsm_{language}.tsv", repo_type="dataset")
        except Exception as error:  # the hub's client raises kinds of its own
            raise InputError(
                f"mgsm: cannot be had from the hub ({_one_line(error)}); name a folder of its TSV files: mgsm:FOLDER"
            ) from error
        rows += read_items(Path(path))
    return rows


def _msvamp_from_hub(languages: tuple[str, ...]) -> list[Item]:
    unknown = set(languages) - set(MSVAMP_LANGUAGES)
    if unknown:
        raise InputError(
            f"msvamp: has no language {', '.join(sorted(unknown))}; there is {', '.join(MSVAMP_LANGUAGES)}"
        )
    return [
        item
        for language in languages or MSVAMP_LANGUAGES
        for item in _hub_rows("Mathoctopus/MSVAMP", language, "test", language)
    ]


def _hub_rows(dataset: str, config: str, split: str | None, language: str) -> list[Item]:
    from datasets import load_dataset

    try:
        rows = load_dataset(dataset, config, split=split or "test")
    except Exception as error:  # of many kinds
        raise InputError(
            f"{dataset}: cannot be had from the hub ({_one_line(error)}); name a file or folder that holds it instead"
        ) from error
    return [_item(row, number, language, f"{dataset} {config}") for number, row in enumerate(rows, 1)]


def read_items(path: Path, language: str = "") -> list[Item]:
    """The questions of a file, in the language that a row names, that its name ends in, or `language`."""
    language = language or _language_of(path)
    return [_item(row, number, language, str(path)) for number, row in _rows(path)]


def _rows(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Numbered rows. Raises InputError naming file and line."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of questions")
    if path.suffix == ".parquet":
        import pandas as pd

        yield from enumerate(pd.read_parquet(path).to_dict("records"), 1)
        return
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path}: questions come as {', '.join(_SUFFIXES)}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error})") from error
    yield from (_json_rows(path, text) if path.suffix in (".json", ".jsonl") else _table_rows(path, text))


def _json_rows(path: Path, text: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    if text.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error})") from error
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append((number, json.loads(line)))
                except ValueError as error:
                    raise InputError(f"{path} line {number}: not valid JSON ({error})") from error
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: expected an object with question and answer")
        yield number, row


def _table_rows(path: Path, text: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """TSV without quoting (as MGSM is), CSV with. Two columns without a header are question and answer."""
    if path.suffix == ".tsv":
        lines = [line.rstrip("\r").split("\t") for line in text.split("\n")]
    else:
        lines = list(csv.reader(text.splitlines(keepends=True)))
    header = [name.strip().lower() for name in lines[0]] if lines else []
    if set(header) & set(QUESTION) and len(set(header)) == len(header):
        names, start = header, 2
        lines = lines[1:]
    else:
        names, start = ["question", "answer"], 1
    for number, cells in enumerate(lines, start):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InputError(f"{path} line {number}: {len(cells)} columns, expected {len(names)} ({', '.join(names)})")
        yield number, dict(zip(names, cells, strict=True))


def _item(row: Mapping[str, Any], number: int, language: str, origin: str) -> Item:
    fields = {str(key).lower(): value for key, value in row.items()}
    question = next((name for name in QUESTION if _text(fields.get(name))), None)
    if question is None:
        raise InputError(
            f"{origin} line {number}: no question; expected a column {', '.join(QUESTION[:4])}, found {', '.join(fields)}"
        )
    language = _text(fields.get("language")) or _text(fields.get("lang")) or language or UNKNOWN_LANGUAGE
    text = {name: _text(fields.get(name)) for name in ("prompt", "worked", "gloss", "split")}
    shared = {"id": _text(fields.get("id")) or f"{number:04d}", "language": language, **text}
    if (found := find_choices(fields, f"{origin} line {number}")) is not None:
        choices, gold = found
        asked = "\n".join(filter(None, (_text(fields.get("flores_passage")), _text(fields[question]))))
        return Item(**shared, question=asked, answer=choices[gold], choices=choices, gold=gold)
    answer = next((name for name in ANSWER if _text(fields.get(name))), None)
    if answer is None:
        raise InputError(
            f"{origin} line {number}: no answer; expected a column {', '.join(ANSWER[:4])}, found {', '.join(fields)}"
        )
    known = _text(fields[answer])
    if "####" in known:  # GSM8K: the steps, then the answer
        shared["worked"] = shared["worked"] or known
        known = known.rpartition("####")[2].strip()
    elif answer == "answer_number":
        shared["worked"] = shared["worked"] or _text(fields.get("answer"))
    return Item(**shared, question=_text(fields[question]), answer=known)


def _text(value: Any) -> str:
    if value is None or value != value:  # a missing number of a table is NaN
        return ""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value).strip()


def _language_of(path: Path) -> str:
    """`sw` for mgsm_sw.tsv, and for test_Swahili.json; empty where the name does not say it."""
    end = re.split(r"[_.-]", path.stem)[-1]
    by_name = {name.lower(): code for code, name in MSVAMP_LANGUAGES.items()}
    if end.lower() in by_name:
        return by_name[end.lower()]
    return end.lower() if re.fullmatch(r"[a-z]{2}", end.lower()) and end != path.stem else ""


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
