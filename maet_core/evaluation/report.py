"""Tables of an evaluation: figures with their intervals, differences on the same questions, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from maet_core.evaluation.results import Cell, Evaluation, TextLoss
from maet_core.evaluation.statistics import Paired, Share
from maet_core.inspection.losses import Losses, Mean


@dataclass(frozen=True)
class Compared:
    """A model's cell against another's, on the questions that both were asked."""

    cell: Cell
    reference: Cell
    paired: Paired


def compare(found: Evaluation, cell: Cell, reference: Cell, column: str = "right") -> Compared:
    """Paired by question; `column` is `right` or `strict_right`."""
    both = found.answers(cell)[["id", column]].merge(
        found.answers(reference)[["id", column]], on="id", suffixes=("", "_other")
    )
    return Compared(cell, reference, Paired.of(both[column].tolist(), both[f"{column}_other"].tolist()))


def comparisons(found: Evaluation, task: str, reference: str) -> list[Compared]:
    """Every other model against `reference`, in every language that both have."""
    pairs = []
    for cell in found.cells:
        other = found.cell(reference, task, cell.language)
        if cell.task == task and cell.model != reference and other is not None:
            pairs.append(compare(found, cell, other))
    return pairs


def baseline_share(found: Evaluation, task: str, language: str) -> tuple[str, Share] | None:
    """The best of the baselines that need no language."""
    entry = found.tasks[task]["languages"].get(language, {})
    if not entry.get("baselines"):
        return None
    name, right = max(entry["baselines"].items(), key=lambda pair: pair[1])
    return name, Share(right, entry["n"])


def counts_in(found: Evaluation, cell: Cell) -> bool | None:
    """Whether the language counts for the model: its interval lies above the best baseline's share. None without baselines."""
    best = baseline_share(found, cell.task, cell.language)
    return None if best is None else cell.share.interval[0] > best[1].value


def uncounted(found: Evaluation, task: str) -> dict[str, list[str]]:
    """By model, the languages that do not count for it: where a baseline that knows no language is not beaten beyond the interval."""
    languages: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.task == task and counts_in(found, cell) is False:
            languages.setdefault(cell.model, []).append(cell.language)
    return languages


def loss_change(found: Evaluation, text: TextLoss, reference: TextLoss) -> Mean:
    """How many nats per token a model lost on the same texts, paired."""
    return _losses(found, text).change_from(_losses(found, reference))


def _losses(found: Evaluation, text: TextLoss) -> Losses:
    import pandas as pd

    table = pd.read_parquet(found.folder / text.file)
    return Losses(table["nats"].to_numpy(np.float64), table["tokens"].to_numpy(np.int64))


def rows(found: Evaluation) -> list[dict[str, Any]]:
    """One row a cell, for CSV: figures in 0..1, intervals, and the protocol."""
    table = []
    for cell in found.cells:
        share, strict = cell.share, cell.strict_share
        best = baseline_share(found, cell.task, cell.language)
        table.append(
            {
                "model": cell.model,
                "task": cell.task,
                "language": cell.language,
                "n": cell.n,
                "right": cell.right,
                "accuracy": share.value,
                "low": share.interval[0],
                "high": share.interval[1],
                "strict_accuracy": strict.value,
                "strict_low": strict.interval[0],
                "strict_high": strict.interval[1],
                "best_baseline": best[1].value if best else None,
                "cut": cell.cut,
                "too_long": cell.too_long,
                "protocol": found.tasks[cell.task]["protocol"]["text"],
            }
        )
    return table


def to_csv(found: Evaluation) -> str:
    stream = io.StringIO()
    table = rows(found)
    if table:
        writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return stream.getvalue()


def to_latex(found: Evaluation, task: str) -> str:
    """A booktabs table of models by languages: percent with the 95 % interval; the protocol and n are in the caption."""
    languages = found.languages(task)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \begin{{tabular}}{{l{'r' * len(languages)}}}",
        r"    \toprule",
        "    Model & " + " & ".join(_escape(language) for language in languages) + r" \\",
        r"    \midrule",
    ]
    counts = set()
    for model in found.labels:
        cells = [found.cell(model, task, language) for language in languages]
        if not any(cells):
            continue
        counts |= {cell.n for cell in cells if cell}
        lines.append(
            "    " + " & ".join([_escape(model), *(_latex(cell.share) if cell else "--" for cell in cells)]) + r" \\"
        )
    entry = found.tasks[task]["languages"]
    for name in dict.fromkeys(name for language in languages for name in entry[language]["baselines"]):
        shares = [Share(entry[language]["baselines"].get(name, 0), entry[language]["n"]) for language in languages]
        lines.append("    " + " & ".join([rf"\emph{{{_escape(name)}}}", *map(_latex, shares)]) + r" \\")
    n = " / ".join(str(count) for count in sorted(counts))
    protocol = _escape(found.tasks[task]["protocol"]["text"])
    lines += [
        r"    \bottomrule",
        r"  \end{tabular}",
        rf"  \caption{{{_escape(task)}: right answers in percent, 95\,\% Wilson intervals, $n = {n}$ a cell. {protocol}.}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex(share: Share) -> str:
    low, high = share.interval
    return rf"{100 * share.value:.1f} {{\footnotesize ({100 * low:.1f}--{100 * high:.1f})}}"


def _escape(text: str) -> str:
    return "".join("\\" + letter if letter in "&%$#_{}" else letter for letter in text)
