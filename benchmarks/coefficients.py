"""What evaluation, tuning and the paper's table come to on the demo models; writes docs/evaluation-figures.md and its .json.

    python benchmarks/coefficients.py                # both parts: about twenty minutes on a calm machine
    python benchmarks/coefficients.py --only tune    # a hundred trials on the demo models, by the clock and in processor time
    python benchmarks/coefficients.py --only table   # `maet reproduce` as it is, in its real processes; goes on where it was stopped

Each part is measured by the commands that people type. A part that is not measured again keeps its figures and their circumstances.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from run import machine

from maet_core.checkpoints import Checkpoint
from maet_core.evaluation import report
from maet_core.evaluation.results import Evaluation
from maet_core.evaluation.statistics import Share
from maet_core.reproduction.plan import ROWS

PROJECT = Path(__file__).resolve().parents[1]
DEMO = PROJECT / "assets" / "demo"
TUNE = "tune recipes/demo.yaml --task demo-math --languages sw,bn --trials 100 --seed 0 --json"
TABLE = (
    "reproduce --base models/base --ability corpora/math-en.txt --general corpora/general-en.txt --language sw=corpora/lang-sw.txt "
    "--language bn=corpora/lang-bn.txt --task demo-math --json"
)


def run(command: str, output: Path) -> tuple[dict[str, Any], float, float]:
    """(its JSON, seconds by the clock, seconds of all cores together)"""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    words = [sys.executable, "-m", "maet_core", *shlex.split(command), "-o", str(output)]
    said = subprocess.run(words, cwd=DEMO, stdout=subprocess.PIPE, text=True)
    if said.returncode:
        sys.exit(f"maet {command}: ended with status {said.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return json.loads(said.stdout), time.monotonic() - started, used


def circumstances() -> dict[str, str]:
    return {
        "when": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine(),
        "base": Checkpoint.open(DEMO / "models" / "base").identity,
    }


def tuned() -> dict[str, Any]:
    here = circumstances()
    with tempfile.TemporaryDirectory() as folder:
        told, seconds, used = run(TUNE, Path(folder) / "tuned")
        found = Evaluation.load(Path(folder) / "tuned" / "test")
        pairs = [
            {
                "model": pair.cell.model,
                "language": pair.cell.language,
                "text": pair.paired.text(),
                "luck": pair.paired.is_luck,
            }
            for task in found.tasks
            for pair in report.comparisons(found, task, "recipe")
        ]
        asked = json.loads((Path(folder) / "tuned" / "search.json").read_text("utf-8"))["tasks"]
        questions = sum(entry["n"] for task in asked.values() for entry in task["languages"].values())
        shares = [[cell.model, cell.language, cell.share.text()] for cell in found.cells]
    return here | {
        "seconds": seconds,
        "processor_seconds": used,
        "trials": told["trials"],
        "pruned": told["pruned"],
        "settings": told["settings"],
        "questions": questions,
        "test": shares,
        "pairs": pairs,
    }


def table(folder: Path) -> dict[str, Any]:
    """The folder holds what is done already; a table of other models is begun anew."""
    here = circumstances()
    folder /= here["base"].split(":")[-1][:12]
    told, _, _ = run(TABLE, folder)
    found = Evaluation.load(folder / "evaluation")
    (task,) = found.tasks
    rows = {}
    for model in found.labels:
        loss = [round(text.nats_per_token, 3) for text in found.texts if text.model == model]
        cells = [found.cell(model, task, language) for language in found.languages(task)]
        rows[model] = {"right": [cell.share.text() for cell in cells], "nats": loss}
    return here | {
        "said_seconds": 3600 * told["cost"]["hours"],
        "bytes": told["cost"]["bytes"],
        "made_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "took": told["took"],
        "protocol": found.tasks[task]["protocol"]["text"],
        "languages": found.languages(task),
        "texts": [text.language for text in found.texts if text.model == "base"],
        "rows": rows,
        "baselines": baselines(found, task),
    }


def baselines(found: Evaluation, task: str) -> dict[str, list[str]]:
    """What needs no language, by its name: a share a language."""
    counts = [found.tasks[task]["languages"][language] for language in found.languages(task)]
    return {
        name: [Share(count["baselines"][name], count["n"]).text() for count in counts]
        for name in counts[0]["baselines"]
    }


def page(figures: dict[str, Any]) -> str:
    lines = [
        "# Figures of evaluation on the demo models",
        "",
        "Written by `python benchmarks/coefficients.py`. How to read them: [measuring](evaluation.md).",
    ]
    if told := figures.get("tune"):
        lines += ["", "## Find my coefficients", "", _about(told, f"maet {TUNE}"), "", *_tuned_lines(told)]
    if told := figures.get("table"):
        lines += ["", "## The paper's table", "", _about(told, f"maet {TABLE}"), "", *_table_lines(told)]
    return "\n".join(lines) + "\n"


def _about(told: dict[str, Any], command: str) -> str:
    return f"    {command}\n\n{told['when']}, {told['machine']}. Base: `{told['base']}`."


def _tuned_lines(told: dict[str, Any]) -> list[str]:
    settings = ", ".join(f"{name} {value:g}" for name, value in told["settings"].items()) or "the recipe as it stands"
    shares: dict[str, dict[str, str]] = {}
    for model, language, text in told["test"]:
        shares.setdefault(model, {})[language] = text
    languages = list(dict.fromkeys(language for _, language, _ in told["test"]))
    verdicts = [
        f"{pair['model']} − recipe, {pair['language']}: {pair['text']}{'; inside the interval: not a result' if pair['luck'] else ''}."
        for pair in told["pairs"]
        if pair["model"] == "tuned"
    ]
    return [
        f"{told['trials']} trials on {told['questions']} development questions each, {told['pruned']} of them given up early, and one run on the test "
        f"questions for base, recipe and tuned recipe: {told['seconds']:.0f} s by the clock, {told['processor_seconds']:.0f} s of processor time, all "
        f"cores together. Found: {settings}.",
        "",
        *_markdown(
            ["right on the test questions", *languages], [[m, *(c[x] for x in languages)] for m, c in shares.items()]
        ),
        "",
        *verdicts,
    ]


def _table_lines(told: dict[str, Any]) -> list[str]:
    took = told["took"]
    seconds = sum(row["seconds"] for row in took.values())
    used = sum(row["processor_seconds"] for row in took.values())
    rows = [
        [ROWS.get(name, name), *row["right"], *(f"{nats:.3f}" for nats in row["nats"])]
        for name, row in told["rows"].items()
    ]
    rows += [[f"*{name}*", *shares, *("" for _ in told["texts"])] for name, shares in told["baselines"].items()]
    heads = [*told["languages"], *(f"loss, {language}" for language in told["texts"])]
    return [
        f"Every step in a process of its own. Beforehand it said {told['said_seconds'] / 60:.1f} minutes and at most "
        f"{told['bytes'] / 1e6:.0f} MB; it took {seconds / 60:.1f} minutes by the clock, {used / 60:.1f} of processor time, and left "
        f"{told['made_bytes'] / 1e6:.0f} MB. Questions: {told['protocol']}. The corpora are samples of 60 kB, seen "
        "many times over: enough to learn some of the English problems, too little for much to cross into another language: compare with "
        "*always add*. [What the demo's own models show](demo-results.md). Loss: nats per token on general text.",
        "",
        *_markdown(["right (95 %)", *heads], rows),
        "",
        *_markdown(
            ["step", "seconds", "of processor time"],
            [[name, f"{row['seconds']:.0f}", f"{row['processor_seconds']:.0f}"] for name, row in took.items()],
        ),
    ]


def _markdown(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("tune", "table"))
    parser.add_argument(
        "--folder", type=Path, default=PROJECT / "build" / "table", help="where the table's models are kept"
    )
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "evaluation-figures.md")
    told = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PROJECT)
    kept = told.output.with_suffix(".json")
    for part, measure in (("tune", tuned), ("table", lambda: table(told.folder))):
        if part == (told.only or part):
            measured = measure()
            figures = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}  # another part may be there since
            figures[part] = measured
            kept.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", "utf-8")
            told.output.write_text(page(figures), "utf-8")


if __name__ == "__main__":
    main()
