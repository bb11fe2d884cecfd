"""What the manifest of a demo build says: how each model was trained, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from maet_core.demo.plan import Stage
from maet_core.training import TrainingReport

WORK = ".work"  # what a build needs to go on, and nothing of what it makes


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file under `folder` but the manifest and `WORK`, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    files = [path for path in files if path.relative_to(folder).parts[0] != WORK]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def describe(stage: Stage, reports: list[TrainingReport]) -> dict:
    """What the manifest says about one model; losses are means of twenty stretches a phase, in nats per token."""
    phases = []
    for options, report in zip(stage.phases, reports, strict=True):
        stretch = max(1, len(report.losses) // 20)
        parts = [report.losses[start : start + stretch] for start in range(0, len(report.losses), stretch)]
        phases.append(
            {
                "steps": report.steps,
                "tokens": report.tokens,
                "trained_parameters": report.trained_parameters,
                "learning_rate": options.learning_rate,
                "answers_only": options.answers_only,
                "trainable": list(options.trainable),
                "losses": [round(sum(part) / len(part), 4) for part in parts],
            }
        )
    mix = {" ".join(kind): share for kind, share in stage.mix.items()}
    return {"mix": mix, "key_neurons_percent": stage.k1, "phases": phases}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
