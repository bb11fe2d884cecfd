"""The evaluation problems: the same stories and observations in every language, none of them from the training part."""

from __future__ import annotations

import random
from collections.abc import Callable

from maet_core.demo.document import as_prompt
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.science import Observation, draw_observation
from maet_core.demo.stories import Story, draw_problem
from maet_core.demo.voice import Voice

DRAWN: dict[str, Callable[[random.Random, str], Story | Observation]] = {
    "math": draw_problem,
    "science": draw_observation,
}
# Shown first in the app: chosen because the merged models of seed 0 solve it in every language and the ability alone in none of the four
# low-resource ones, so it says nothing about how often they do. From the development part, which leaves the test part unseen.
PINNED = {"math": "dev-057", "science": "dev-053"}
PROBLEMS = {"dev": 200, "test": 500}  # problems a part; each is told in every language


def task_rows(ability: str, seed: int, problems: dict[str, int] | None = None) -> list[dict[str, str | bool]]:
    """Rows of `tasks/<ability>.jsonl`, unique questions within a part, ordered by part, problem and language."""
    rows: list[dict[str, str | bool]] = []
    for part, count in (problems or PROBLEMS).items():
        rng = random.Random(f"{seed} tasks {part}" if ability == "math" else f"{seed} tasks {ability} {part}")
        seen: set[str] = set()
        while len(seen) < count:
            drawn = DRAWN[ability](rng, part)
            english = drawn.problem(Voice("en"))
            if english in seen:
                continue
            number = len(seen)
            seen.add(english)
            for language in LANGUAGES:
                question = drawn.problem(Voice(language))
                row = {
                    "id": f"{part}-{number:03d}-{language}",
                    "language": language,
                    "split": part,
                    "operation": drawn.operation,
                    "question": question,
                    "prompt": as_prompt(question),
                    "answer": str(drawn.answer),
                    "worked": drawn.worked,
                }
                if language != "en":
                    row["gloss"] = english
                rows.append(row | {"pinned": True} if row["id"] == f"{PINNED[ability]}-{language}" else row)
    return rows
