"""An evaluation: models × tasks × languages, each cell whole on disk before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maet_core.corpora import read_corpus
from maet_core.errors import InputError, OutputError
from maet_core.evaluation.asking import Ask, ask_items
from maet_core.evaluation.baselines import baseline_verdicts
from maet_core.evaluation.results import Cell, Evaluation, Journal, TextLoss, alone, cell_name, write_table
from maet_core.evaluation.subjects import Subject
from maet_core.evaluation.threads import fitting_threads
from maet_core.inspection.losses import answer_losses
from maet_core.progress import Halted, Progress, tell

MOST_TEXTS = 200  # of general text, a language


def evaluate(
    subjects: Sequence[Subject],
    asks: Sequence[Ask],
    folder: str | Path,
    general: Mapping[str, str] | None = None,
    batch_rows: int = 32,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> Evaluation:
    """Asks every subject everything and returns what is in `folder`: new, or an earlier evaluation that this one goes on with.

    What is there already with the same weights, questions and protocol is not asked again. `general`: texts by language (see
    `read_corpus`), whose loss says what else a model lost. Raises OutputError where the folder holds something else, or cells of
    the same name that were made differently.
    """
    folder = Path(folder)
    with alone(_checked(folder)):
        found = Evaluation.load(folder) if (folder / "evaluation.json").is_file() else Evaluation(folder)
        _announce(found, subjects, asks)
        work = _work(found, subjects, asks, general or {}, batch_rows)
        total = sum(len(cells) for _, cells in work)
        done = 0
        for subject, cells in work:
            if not cells:
                continue
            with subject.open() as (model, tokenizer), fitting_threads(model):
                for run in cells:
                    start = done

                    def shown(
                        phase: str, part: int, whole: int, start: int = start, label: str = subject.label
                    ) -> None:
                        # a thousand steps a cell, so that one bar covers cells of all kinds
                        tell(
                            progress,
                            halted,
                            f"{label}: {phase}",
                            1000 * start + 1000 * part // max(1, whole),
                            1000 * total,
                        )

                    run(model, tokenizer, shown)
                    done += 1
                    found.save()
        found.finished = True
        found.save()
        if progress:
            progress("evaluating", 1000 * total, 1000 * total)
    return found


def _checked(folder: Path) -> Path:
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / "evaluation.json").is_file())
    ):
        raise OutputError(f"{folder}: holds something that is no evaluation; choose another name")
    return folder


def _announce(found: Evaluation, subjects: Sequence[Subject], asks: Sequence[Ask]) -> None:
    """Writes down what will be asked, so that a page can show the empty cells."""
    known = {model["label"]: model for model in found.models}
    for subject in subjects:
        before = known.get(subject.label)
        if before and before["identity"] != subject.identity:
            raise OutputError(
                f"{found.folder}: has answers of another {subject.label} (its weights differ); choose another name for this evaluation"
            )
        if not before:
            found.models.append(subject.to_json())
    for ask in asks:
        entry = found.tasks.setdefault(
            ask.task.name,
            {
                "source": ask.task.source,
                "protocol": ask.protocol.to_json(),
                "choices": ask.task.has_choices,
                "languages": {},
            },
        )
        if entry["protocol"] != ask.protocol.to_json():
            raise OutputError(
                f"{found.folder}: {ask.task.name} was asked differently there ({entry['protocol']['text']}); choose another name"
            )
        for language in ask.task.languages:
            items = ask.task.of(language)
            baselines = {name: sum(verdicts) for name, verdicts in baseline_verdicts(items).items()}
            entry["languages"][language] = {"n": len(items), "baselines": baselines}
    found.finished = False
    found.save()


def _work(
    found: Evaluation, subjects: Sequence[Subject], asks: Sequence[Ask], general: Mapping[str, str], batch_rows: int
) -> list[tuple[Subject, list[Callable]]]:
    """What is still to be done, subject by subject, so that each model is opened once."""
    work = []
    for subject in subjects:
        cells: list[Callable] = []
        for ask in asks:
            for language in ask.task.languages:
                key = f"{subject.identity} {ask.key(language)}"
                before = found.cell(subject.label, ask.task.name, language)
                if before is None:
                    cells.append(_CellRun(found, subject, ask, language, key, batch_rows))
                elif before.key != key:
                    raise OutputError(
                        f"{found.folder}: {ask.task.name} in {language} has other questions there; choose another name"
                    )
        for language, source in general.items():
            key = f"{subject.identity} {source}"
            if not any(text.key == key for text in found.texts):
                cells.append(_TextRun(found, subject, language, source, key))
        work.append((subject, cells))
    return work


@dataclass
class _CellRun:
    found: Evaluation
    subject: Subject
    ask: Ask
    language: str
    key: str
    batch_rows: int

    def __call__(self, model: Any, tokenizer: Any, progress: Progress) -> None:
        ask, items = self.ask, self.ask.task.of(self.language)
        name = cell_name(self.subject.label, ask.task.name, self.language)
        journal = Journal(self.found.folder / "answers" / f"{name}.jsonl.part", self.key)
        answered = {row["id"] for row in journal.rows}
        left = [item for item in items if item.id not in answered]
        started = time.monotonic()
        if left:
            ask_items(model, tokenizer, ask, left, journal.add, self.batch_rows, progress)
        order = {item.id: i for i, item in enumerate(items)}
        rows = sorted(journal.rows, key=lambda row: order[row["id"]])
        cell = Cell(
            self.subject.label,
            ask.task.name,
            self.language,
            len(rows),
            sum(row["right"] for row in rows),
            sum(row["strict_right"] for row in rows),
            sum(row["finished"] == "length" for row in rows),
            sum(row["finished"] == "too long" for row in rows),
            sum(row["tokens"] for row in rows),
            round(time.monotonic() - started, 2),
            self.key,
        )
        write_table(self.found.folder / cell.file, rows)
        self.found.cells.append(cell)
        journal.remove()


@dataclass
class _TextRun:
    found: Evaluation
    subject: Subject
    language: str
    source: str
    key: str

    def __call__(self, model: Any, tokenizer: Any, progress: Progress) -> None:
        pairs = general_texts(self.source)
        losses = answer_losses(model, tokenizer, pairs, progress=progress)
        mean = losses.mean()
        loss = TextLoss(
            self.subject.label,
            self.language,
            self.source,
            mean.value,
            mean.interval,
            mean.texts,
            mean.tokens,
            self.key,
        )
        rows = [{"nats": float(nats), "tokens": int(n)} for nats, n in zip(losses.sums, losses.tokens, strict=True)]
        write_table(self.found.folder / loss.file, rows)
        self.found.texts.append(loss)


def general_texts(source: str) -> list[tuple[str, str]]:
    """The first `MOST_TEXTS` documents of a corpus."""
    from itertools import islice

    pairs = list(islice(read_corpus(source), MOST_TEXTS))
    if not pairs:
        raise InputError(f"{source}: holds no text")
    return pairs
