"""What is asked: tasks by name.

demo-math[:dev]          problems that come with the project; so every tasks/NAME.jsonl of the demo
mgsm[:FOLDER]            from the hub, or a folder of mgsm_LANG.tsv: no header, question and answer
msvamp[:FOLDER]          from the hub, or a folder of its test_LANGUAGE.json
gsm8k[:FILE]             from the hub, or its JSONL
FILE or FOLDER           JSONL, TSV, CSV or Parquet with columns for question and answer, or with choices
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from maet_core.errors import InputError
from maet_core.evaluation.questions import MSVAMP_LANGUAGES, SUFFIXES, Question, question_of, read_questions

DEMO_TASKS = Path(__file__).resolve().parents[2] / "assets" / "demo" / "tasks"
MGSM_LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


@dataclass(frozen=True)
class Task:
    """Questions of one kind. `items` are asked; `pool` holds the ones of other splits, from which exemplars are taken."""

    name: str
    source: str
    items: tuple[Question, ...]
    pool: tuple[Question, ...] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.language for item in self.items))

    @property
    def has_choices(self) -> bool:
        return bool(self.items and self.items[0].choices)

    @property
    def has_prompts(self) -> bool:
        return all(item.prompt for item in self.items)

    def of(self, language: str) -> tuple[Question, ...]:
        return tuple(item for item in self.items if item.language == language)


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
            read_questions(Path(place), "en")
            if place
            else _hub_rows("openai/gsm8k", "main", split, "en", "gsm8k:FILE"),
        )
    else:
        path = Path(name).expanduser()
        label = path.stem
        rows = (
            _folder(name, "*") if path.is_dir() else read_questions(path, languages[0] if len(languages) == 1 else "")
        )
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
    asked: list[Question] = []
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


def _demo(name: str) -> list[Question]:
    path = DEMO_TASKS / f"{name.removeprefix('demo-')}.jsonl"
    if not path.is_file():
        there = ", ".join(f"demo-{file.stem}" for file in sorted(DEMO_TASKS.glob("*.jsonl")))
        raise InputError(f"{name}: the demo has no such task; there is {there or 'none'}")
    return read_questions(path)


def _folder(place: str, pattern: str) -> list[Question]:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise InputError(f"{place}: no such folder of questions")
    files = [file for file in sorted(folder.glob(pattern)) if file.suffix in SUFFIXES]
    if not files:
        raise InputError(f"{place}: holds no {pattern if pattern != '*' else 'file of ' + ', '.join(SUFFIXES)}")
    return [item for file in files for item in read_questions(file)]


def _mgsm_from_hub(languages: tuple[str, ...]) -> list[Question]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # our one line says what is wrong, not its five about trying again
    rows: list[Question] = []
    for language in languages or MGSM_LANGUAGES:
        if language not in MGSM_LANGUAGES:
            raise InputError(f"mgsm: has no language {language}; there is {', '.join(MGSM_LANGUAGES)}")
        try:
            path = hf_hub_download("juletxara/mgsm", f"mgsm_{language}.tsv", repo_type="dataset")
        except Exception as error:  # the hub's client raises kinds of its own
            raise InputError(
                f"mgsm: juletxara/mgsm cannot be had from the hub ({_one_line(error)}); once it is in the hub's cache no network is needed, or name "
                "a folder of its TSV files: mgsm:FOLDER"
            ) from error
        rows += read_questions(Path(path))
    return rows


def _msvamp_from_hub(languages: tuple[str, ...]) -> list[Question]:
    unknown = set(languages) - set(MSVAMP_LANGUAGES)
    if unknown:
        raise InputError(
            f"msvamp: has no language {', '.join(sorted(unknown))}; there is {', '.join(MSVAMP_LANGUAGES)}"
        )
    return [
        item
        for language in languages or MSVAMP_LANGUAGES
        for item in _hub_rows("Mathoctopus/MSVAMP", language, "test", language, "msvamp:FOLDER")
    ]


def _hub_rows(dataset: str, config: str, split: str | None, language: str, instead: str) -> list[Question]:
    from maet_core.corpora import load_rows

    try:
        rows = list(load_rows(dataset, config, split or "test"))
    except Exception as error:  # of many kinds
        raise InputError(
            f"{instead.partition(':')[0]}: {dataset} cannot be had from the hub ({_one_line(error)}); once it is in the hub's cache no network is "
            f"needed, or name your own: {instead}"
        ) from error
    return [
        question_of(row, number, language, f"{dataset} {config} row {number}") for number, row in enumerate(rows, 1)
    ]


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.partition(". ")[0][:160]
