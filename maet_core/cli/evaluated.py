"""An evaluation as the command line tells it: tables for people, one object for programs."""

from __future__ import annotations

from pathlib import Path

import click

from maet_core.cli.output import print_table


def to_json(found, reference: str, output: Path | None) -> dict:
    """Everything that the table says, for programs."""
    from maet_core.evaluation import report

    return {
        "output": str(output) if output else None,
        "tasks": found.tasks,
        "models": found.models,
        "cells": [
            {
                "model": cell.model,
                "task": cell.task,
                "language": cell.language,
                **cell.share.to_json(),
                "strict": cell.strict_share.to_json(),
                "cut": cell.cut,
                "too_long": cell.too_long,
                "beats_baselines": report.counts_in(found, cell),
            }
            for cell in found.cells
        ],
        "reference": reference,
        "comparisons": [
            {"model": pair.cell.model, "task": task, "language": pair.cell.language, **pair.paired.to_json()}
            for task in found.tasks
            for pair in report.comparisons(found, task, reference)
        ],
        "texts": [
            {
                "model": text.model,
                "language": text.language,
                "nats_per_token": text.nats_per_token,
                "interval_95": text.interval,
                "texts": text.texts,
                "tokens": text.tokens,
            }
            for text in found.texts
        ],
    }


def print_evaluation(found, reference: str) -> None:
    """Tables of every task, then every model against the reference."""
    from maet_core.evaluation import report
    from maet_core.evaluation.statistics import Share

    for task, entry in found.tasks.items():
        click.echo(f"{task}: {entry['protocol']['text']}")
        languages = found.languages(task)
        rows = []
        for model in found.labels:
            for label, read in ((model, "share"), ("  strict", "strict_share")):
                cells = [found.cell(model, task, language) for language in languages]
                rows.append([label, *(_percent(getattr(cell, read)) if cell else "" for cell in cells)])
        counts = [entry["languages"][language] for language in languages]
        for name in dict.fromkeys(name for count in counts for name in count["baselines"]):
            rows.append([name, *(_percent(Share(c["baselines"].get(name, 0), c["n"])) for c in counts)])
        rows.append(["n", *(str(count["n"]) for count in counts)])
        print_table(["right, % (95 %)", *languages], rows, right=range(1, len(languages) + 1))
        for model, missed in report.uncounted(found, task).items():
            click.echo(f"{model}: not above the best baseline in {', '.join(missed)}, which do not count")
        for pair in report.comparisons(found, task, reference):
            verdict = "  inside the interval: not a result" if pair.paired.is_luck else ""
            click.echo(f"{pair.cell.model} − {reference}, {pair.cell.language}: {pair.paired.text()}{verdict}")
    if found.texts:
        languages = list(dict.fromkeys(text.language for text in found.texts))
        held = {(text.model, text.language): text for text in found.texts}
        rows = [
            [
                model,
                *(
                    f"{t.nats_per_token:.3f} ± {t.interval:.3f}" if (t := held.get((model, lang))) else ""
                    for lang in languages
                ),
            ]
            for model in found.labels
        ]
        print_table(["general text, nats/token", *languages], rows, right=range(1, len(languages) + 1))


def _percent(share) -> str:
    low, high = share.interval
    return f"{100 * share.value:.1f} ({100 * low:.1f}–{100 * high:.1f})"
