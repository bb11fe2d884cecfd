"""Evaluations as the page shows them: the heatmap's cells, the list of answers, pictures for papers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.evaluation import report
from maet_core.evaluation.results import Cell as Measured
from maet_core.evaluation.results import Evaluation
from maet_core.evaluation.statistics import Share
from maet_core.studio.drawing import INKS, Scale
from maet_core.studio.heatmap import Cell

if TYPE_CHECKING:
    import pandas as pd

SCALE = Scale("of the answers are right", 0.0, 100.0, unit="%")
READINGS = {"right": "flexible", "strict_right": "strict"}
_ENDS = {"length": "cut at the length limit", "too long": "the question does not fit the model"}


def rows_of(found: Evaluation, task: str) -> tuple[list[str], list[str]]:
    """(models, baselines) of a task."""
    models = [label for label in found.labels if any(cell.model == label and cell.task == task for cell in found.cells)]
    languages = found.tasks[task]["languages"].values()
    return models, list(dict.fromkeys(name for entry in languages for name in entry["baselines"]))


def heat(found: Evaluation, task: str, reading: str, names: dict[str, str]) -> dict[tuple[str, str], Cell]:
    """Cells by (model or baseline, language). `names`: what the languages are called."""
    cells = {}
    models, baselines = rows_of(found, task)
    for language in found.languages(task):
        entry = found.tasks[task]["languages"][language]
        for model in models:
            if cell := found.cell(model, task, language):
                cells[model, language] = _cell(
                    share_of(cell, reading), names.get(language, language), _remarks(found, cell)
                )
        for name in baselines:
            if name in entry["baselines"]:
                share = Share(entry["baselines"][name], entry["n"])
                cells[name, language] = _cell(share, names.get(language, language), ("needs no language",))
    return cells


def share_of(cell: Measured, reading: str) -> Share:
    return cell.share if reading == "right" else cell.strict_share


def _cell(share: Share, language: str, remarks: tuple[str, ...]) -> Cell:
    low, high = share.interval
    text = f"{100 * share.value:.0f} ({100 * low:.0f}–{100 * high:.0f})"
    return Cell(
        100 * share.value,
        (language, f"95 % interval {100 * low:.1f}–{100 * high:.1f}, n = {share.n}", *remarks),
        text=text,
    )


def _remarks(found: Evaluation, cell: Measured) -> tuple[str, ...]:
    lines = []
    best = report.baseline_share(found, cell.task, cell.language)
    if best and not report.counts_in(found, cell):
        lines.append(f"not above “{best[0]}” ({100 * best[1].value:.1f} %): the language does not count here")
    if cell.cut:
        lines.append(f"{cell.cut} answers were cut at the length limit")
    if cell.too_long:
        lines.append(f"{cell.too_long} questions did not fit the model")
    return tuple(lines)


def ordered_answers(found: Evaluation, cell: Measured, other: Measured | None, reading: str) -> pd.DataFrame:
    """Answers of one cell, wrong ones first, with the other model's beside them as columns that end in `_other`.

    Among the wrong ones those come first that the other has right: what was lost, question by question.
    """
    table = found.answers(cell)
    if other is not None:
        columns = ["id", "text", "strict", "flexible", "strict_right", "right", "finished"]
        table = table.merge(found.answers(other)[columns], on="id", how="left", suffixes=("", "_other"))
        order = [reading, f"{reading}_other"]
        return table.sort_values(order, ascending=[True, False], kind="stable", ignore_index=True)
    return table.sort_values(reading, kind="stable", ignore_index=True)


def draw_answers(table: pd.DataFrame, labels: Sequence[str], reading: str) -> None:
    """Cards: the question, what is right, and what each model said."""
    cards = []
    for row in table.to_dict("records"):
        sides = [_side(labels[0], row, "", reading)]
        if len(labels) > 1:
            sides.append(_side(labels[1], row, "_other", reading))
        gloss = f"<div class='maet-gloss'>{html.escape(row['gloss'])}</div>" if row.get("gloss") else ""
        cards.append(
            f"<div class='maet-judged'><div lang='{html.escape(row['language'], quote=True)}'>{html.escape(row['question'])}</div>{gloss}"
            f"<div class='expected'>right: <b>{html.escape(str(row['answer']))}</b></div><div class='sides'>{''.join(sides)}</div></div>"
        )
    st.html("".join(cards))


def _side(label: str, row: dict, end: str, reading: str) -> str:
    text = row.get(f"text{end}")
    if not isinstance(text, str):
        return f"<div><span class='who'>{html.escape(label)}</span>not asked</div>"
    right = bool(row[f"{reading}{end}"])
    read = row[f"{READINGS[reading]}{end}"]
    read = f"read as {html.escape(str(read))}" if read else "no answer found"
    ended = f" · {_ENDS[row[f'finished{end}']]}" if row[f"finished{end}"] in _ENDS else ""
    verdict = f"<span class='{'right' if right else 'wrong'}'>{'right' if right else 'wrong'}</span>"
    language = html.escape(row["language"], quote=True)
    return (
        f"<div><span class='who'>{html.escape(label)}</span><div class='said' lang='{language}'>{html.escape(text) or '<i>nothing</i>'}</div>"
        f"<div class='maet-foot'>{verdict}<span>{read}{ended}</span></div></div>"
    )


def losses_table(found: Evaluation, reference: str, names: dict[str, str]) -> list[dict[str, object]]:
    """Nats per token on general text, and the paired change from the reference's."""
    rows = []
    held = {(text.model, text.language): text for text in found.texts}
    for text in found.texts:
        row = {
            "model": text.model,
            "general text": names.get(text.language, text.language),
            "nats/token": f"{text.nats_per_token:.3f} ± {text.interval:.3f}",
            "perplexity": round(2.718281828459045**text.nats_per_token, 2),
            f"change from {reference}": "",
            "n": f"{text.texts} texts, {text.tokens:,} tokens",
        }
        other = held.get((reference, text.language))
        if other and text.model != reference:
            change = report.loss_change(found, text, other)
            inside = " (inside the interval)" if abs(change.value) <= change.interval else ""
            row[f"change from {reference}"] = f"{change.value:+.3f} ± {change.interval:.3f}{inside}".replace("-", "−")
        rows.append(row)
    return rows


def gain_table(
    found: Evaluation, task: str, reference: str, reading: str, names: dict[str, str]
) -> list[dict[str, object]]:
    """Every other model against the reference on the same questions."""
    rows = []
    for cell in found.cells:
        other = found.cell(reference, task, cell.language)
        if cell.task != task or cell.model == reference or other is None:
            continue
        paired = report.compare(found, cell, other, reading).paired
        low, high = paired.interval
        rows.append(
            {
                "model": cell.model,
                "language": names.get(cell.language, cell.language),
                "difference, points": round(100 * paired.difference, 1),
                "95 % interval": f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−"),
                "p (McNemar)": f"{paired.p_value:.3f}" if paired.p_value >= 0.001 else "< 0.001",
                "gained": paired.gained,
                "lost": paired.lost,
                "n": paired.n,
                "": "inside the interval: not a result" if paired.is_luck else "",
            }
        )
    return rows


def picture(found: Evaluation, task: str, reading: str, scale: int = 2) -> bytes:
    """The heatmap as PNG, on white, with its protocol: models down, languages across, percent and interval in each cell."""
    import io

    from PIL import Image, ImageDraw, ImageFont

    cells = heat(found, task, reading, {})
    models, baselines = rows_of(found, task)
    rows, languages = models + baselines, found.languages(task)
    font, small = ImageFont.load_default(13 * scale), ImageFont.load_default(11 * scale)
    left = int(max(font.getlength(row) for row in rows)) + 16 * scale
    width, height, top = 96 * scale, 30 * scale, 28 * scale
    caption = f"{task}: {found.tasks[task]['protocol']['text']}; right answers in percent (95 % Wilson interval), {READINGS[reading]} reading"
    full = max(left + len(languages) * width + 8 * scale, int(small.getlength(caption)) + 16 * scale)
    image = Image.new("RGB", (full, top + len(rows) * height + 34 * scale), "white")
    draw = ImageDraw.Draw(image)
    for j, language in enumerate(languages):
        draw.text((left + j * width + width / 2, top / 2), language, "black", font, "mm")
    for i, row in enumerate(rows):
        y = top + i * height
        draw.text((left - 8 * scale, y + height / 2), row, "black" if row in models else "#666", font, "rm")
        for j, language in enumerate(languages):
            if cell := cells.get((row, language)):
                colour = _mixed(cell.value / 100)
                box = (left + j * width, y, left + (j + 1) * width - 2 * scale, y + height - 2 * scale)
                draw.rectangle(box, colour)
                draw.text(
                    ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                    cell.text.replace("–", "-"),
                    INKS["light"],
                    small,
                    "mm",
                )
    draw.text((8 * scale, image.height - 18 * scale), caption.replace("–", "-"), "#444", small, "lm")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _mixed(share: float) -> tuple[int, int, int]:
    """The heatmap's light palette at 0..1."""
    stops = [tuple(int(stop[i : i + 2], 16) for i in (1, 3, 5)) for stop in SCALE.palette["light"]]
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    return tuple(round(a + (b - a) * (place - i)) for a, b in zip(stops[i], stops[i + 1], strict=True))
