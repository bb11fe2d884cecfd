"""`docs/demo-results.md`: the tables of `maet_core.demo.results`, and nothing that a person wrote."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from maet_core.demo import plan
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.measure import Score, wilson_interval
from maet_core.demo.results import Found, Graded
from maet_core.evaluation.statistics import Z95

ALL = ("en", *plan.WELL_KNOWN, *plan.LOW_RESOURCE)
NAMES = {"math": "Mathematics", "science": "Elementary science"}
OWN = "MAET"


def report(found: dict[str, Found]) -> str:
    """Markdown for what was found, by ability: accuracy over all seeds, how far MAET is ahead, what went wrong, each seed, and the
    coefficients."""
    parts = [
        "# What the demo's merge is worth",
        "",
        "Written by `maet demo results`; how the models and problems come about is in [demo.md](demo.md). The base is one, the shipped one: "
        "intervals say how well these models are known, not how much another base would differ.",
    ]
    for ability, one in found.items():
        parts += ["", f"## {NAMES[ability]}", "", *_part(one)]
    return "\n".join(parts)


def _part(found: Found) -> list[str]:
    names, seeds = list(found.seeds[0]), len(found.seeds)
    n = found.seeds[0][names[0]]["en"].score.n
    once = [name for name in names if seeds > 1 and not all(name in seed for seed in found.seeds)]

    def rows(name: str, code: str) -> list[Graded]:
        return [seed[name][code] for seed in found.seeds if name in seed]

    parts = [
        f"Final answer exact, percent, with the 95 % interval (Wilson) of all problems of a cell: {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'} of everything that is merged × {n} test problems"
        + (f" ({', '.join(once)}: one seed)." if once else "."),
        "",
        *_table(names, ALL, lambda name, code: _accuracy([row.score for row in rows(name, code)])),
        "",
        "Mean of the four low-resource languages, percent (every seed in brackets), and by how many points MAET is ahead of a row on the same "
        "problems, with the 95 % interval (paired; a problem's seeds together count once). A zero outside of the interval is in bold.",
        "",
        "| model | mean | MAET is ahead by | " + " | ".join(LANGUAGES[code].name for code in plan.LOW_RESOURCE) + " |",
        "|---" * (3 + len(plan.LOW_RESOURCE)) + "|",
        *(f"| {name} | {_means(found, name)} | {' | '.join(_ahead_of(found, name))} |" for name in names),
        "",
        "Operator right, percent:",
        "",
        *_table(names, ALL, lambda name, code: _share([row.score for row in rows(name, code)], "operator")),
        "",
        "Both operands right, in order, percent:",
        "",
        *_table(names, ALL, lambda name, code: _share([row.score for row in rows(name, code)], "operands")),
    ]
    if seeds > 1:
        parts += ["", "Each seed alone, percent:", ""]
        parts += _table(
            names, ALL, lambda name, code: " / ".join(f"{100 * _value(row.score):.0f}" for row in rows(name, code))
        )
    parts += [
        "",
        "Coefficients, chosen on the development problems with the inputs of seed 0 from one grid for all rows:",
        "",
        "| row | γ | μ |",
        "|---|---|---|",
        *(f"| {name} | {point['gamma']:g} | {point['mu']:g} |" for name, point in found.tuned.items()),
        "",
    ]
    return parts


def _means(found: Found, name: str) -> str:
    each = [
        100 * statistics.mean(_value(seed[name][code].score) for code in plan.LOW_RESOURCE)
        for seed in found.seeds
        if name in seed
    ]
    return f"{statistics.mean(each):.1f} ({', '.join(f'{mean:.1f}' for mean in each)})"


def _ahead_of(found: Found, name: str) -> list[str]:
    """In the mean of the low-resource languages, and in each of them."""
    if name == OWN:
        return ["–"] * (1 + len(plan.LOW_RESOURCE))
    return [_ahead(found, name, codes) for codes in (plan.LOW_RESOURCE, *((code,) for code in plan.LOW_RESOURCE))]


def _ahead(found: Found, name: str, codes: Sequence[str]) -> str:
    pairs = [(seed[OWN][code].right, seed[name][code].right) for seed in found.seeds if name in seed for code in codes]
    problems = range(len(pairs[0][0]))
    differences = [100 * statistics.mean(int(own[i]) - int(other[i]) for own, other in pairs) for i in problems]
    mean = statistics.mean(differences)
    half = Z95 * statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 100.0
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"**{text}**" if abs(mean) > half else text


def _table(names: list[str], codes: Sequence[str], cell) -> list[str]:
    heads = [LANGUAGES[code].name for code in codes]
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(cell(name, code) for code in codes)} |" for name in names]


def _accuracy(scores: list[Score]) -> str:
    correct, n = sum(score.correct for score in scores), sum(score.n for score in scores)
    low, high = wilson_interval(correct, n)
    return f"{100 * correct / n:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _share(scores: list[Score], field: str) -> str:
    return f"{100 * sum(getattr(score, field) for score in scores) / sum(score.n for score in scores):.0f}"


def _value(score: Score) -> float:
    return score.correct / score.n
