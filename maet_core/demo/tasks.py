"""The evaluation problems: the same stories in every language, none of them from the training part."""

from __future__ import annotations

import random

from maet_core.demo.corpora import as_prompt
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.stories import draw_problem
from maet_core.demo.voice import Voice

# Shown first in the app: chosen because the merged models of seed 0 solve it in every language, so it says nothing
# about how often they do. From the development part, which leaves the test part unseen.
PINNED = "dev-007"
PROBLEMS = {"dev": 200, "test": 500}  # stories a part; each is told in every language


def math_rows(seed: int, problems: dict[str, int] | None = None) -> list[dict[str, str | bool]]:
    """Rows of `tasks/math.jsonl`, unique questions within a part, ordered by part, story and language."""
    rows: list[dict[str, str | bool]] = []
    for part, count in (problems or PROBLEMS).items():
        rng = random.Random(f"{seed} tasks {part}")
        seen: set[str] = set()
        while len(seen) < count:
            story = draw_problem(rng, part)
            english = story.problem(Voice("en"))
            if english in seen:
                continue
            number = len(seen)
            seen.add(english)
            for language in LANGUAGES:
                question = story.problem(Voice(language))
                row = {
                    "id": f"{part}-{number:03d}-{language}",
                    "language": language,
                    "split": part,
                    "operation": story.template.operation,
                    "question": question,
                    "prompt": as_prompt(question),
                    "answer": str(story.answer),
                    "worked": story.worked,
                }
                if language != "en":
                    row["gloss"] = english
                rows.append(row | {"pinned": True} if row["id"] == f"{PINNED}-{language}" else row)
    return rows
