"""`docs/demo-results.md`: the tables of `maet_core.demo.results`, and nothing that a person wrote."""

from __future__ import annotations

from maet_core.demo import plan
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.measure import Score, wilson_interval

ALL = ("en", *plan.WELL_KNOWN, *plan.LOW_RESOURCE)
NAMES = {"math": "Mathematics", "science": "Elementary science"}


def report(found: dict[str, dict]) -> str:
    """Markdown for what was found, by ability: accuracy over all seeds, the operator beside it, each seed alone, and the coefficients."""
    parts = [
        "# What the demo's merge is worth",
        "",
        "Written by `maet demo results`; how the models and problems come about is in [demo.md](demo.md).",
    ]
    for ability, one in found.items():
        parts += ["", f"## {NAMES[ability]}", "", *_part(one)]
    return "\n".join(parts)


def _part(found: dict) -> list[str]:
    seeds: list[dict[str, dict[str, Score]]] = found["seeds"]
    names = list(seeds[0])
    n = seeds[0][names[0]]["en"].n
    together = {name: {code: [one[name][code] for one in seeds] for code in ALL} for name in names}
    parts = [
        f"Final answer exact, percent, with the 95 % interval (Wilson) of all problems of a cell: {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'} of everything that is merged × {n} test problems. The base is one, the shipped one. "
        "The interval says how well these models are known, not how much another base would differ.",
        "",
        *_table(names, lambda name, code: _accuracy(together[name][code])),
        "",
        "Mean of the four low-resource languages, percent (the same stories in each, so no interval; every seed in brackets):",
        "",
        "| model | mean |",
        "|---|---|",
        *(f"| {name} | {_means([one[name] for one in seeds])} |" for name in names),
        "",
        "Operator right, percent:",
        "",
        *_table(names, lambda name, code: _share(together[name][code], "operator")),
        "",
        "Both operands right, in order, percent:",
        "",
        *_table(names, lambda name, code: _share(together[name][code], "operands")),
    ]
    if len(seeds) > 1:
        parts += ["", "Each seed alone, percent:", ""]
        parts += _table(
            names, lambda name, code: " / ".join(f"{100 * s.correct / s.n:.0f}" for s in together[name][code])
        )
    parts += [
        "",
        "Coefficients, chosen on the development problems with the inputs of seed 0 from one grid for all rows:",
        "",
        "| row | γ | μ |",
        "|---|---|---|",
        *(f"| {name} | {point['gamma']:g} | {point['mu']:g} |" for name, point in found["tuned"].items()),
        "",
    ]
    return parts


def _means(seeds: list[dict[str, Score]]) -> str:
    each = [
        100 * sum(s[code].correct / s[code].n for code in plan.LOW_RESOURCE) / len(plan.LOW_RESOURCE) for s in seeds
    ]
    return f"{sum(each) / len(each):.1f} ({', '.join(f'{mean:.1f}' for mean in each)})"


def _table(names: list[str], cell) -> list[str]:
    heads = [LANGUAGES[code].name for code in ALL]
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(cell(name, code) for code in ALL)} |" for name in names]


def _accuracy(scores: list[Score]) -> str:
    correct, n = sum(score.correct for score in scores), sum(score.n for score in scores)
    low, high = wilson_interval(correct, n)
    return f"{100 * correct / n:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _share(scores: list[Score], field: str) -> str:
    return f"{100 * sum(getattr(score, field) for score in scores) / sum(score.n for score in scores):.0f}"
