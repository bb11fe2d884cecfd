"""The model card of a merged checkpoint: the recipe, the identity of every input, and how to do it again."""

from __future__ import annotations

import maet_core
from maet_core.merging.plan import MergePlan


def model_card(plan: MergePlan, name: str) -> str:
    """Markdown with the hub's metadata block in front."""
    recipe, method = plan.sources.recipe, plan.method
    is_maet = method.name == "maet"
    added = "ability weights R(A) and language weights R(L)" if is_maet else "task vectors of abilities and languages"
    identities = plan.sources.identities()
    languages = [key for key in recipe.languages if 2 <= len(key) <= 3 and key.isalpha()]
    lines = ["---", f"base_model: {recipe.base}", "base_model_relation: merge", "library_name: transformers"]
    if languages:
        lines += ["language:", *(f"- {key}" for key in languages)]
    lines += ["tags:", "- merge", "- maet", *([] if is_maet else [f"- {method.name}"]), "---", "", f"# {name}", ""]
    lines += [
        f"Made by adding {added} to a base model, without training ([{method.name}, {method.paper}]({method.paper.url})). "
        f"{method.summary}",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.to_yaml().rstrip(),
        "```",
        "",
        "Paths are relative to the folder that the recipe lay in. `maet merge recipe.yaml -o DIR` makes this model again.",
        "",
        "## Inputs",
        "",
        "| source | identity |",
        "|---|---|",
        *(f"| `{source}` | `{identity}` |" for source, identity in identities.items()),
        "",
    ]
    if plan.selections is not None:
        lines += [
            "## Tensors that take the ability",
            "",
            "| ability | selected | candidates | by hand |",
            "|---|---|---|---|",
        ]
        for ability, selection in plan.selections.items():
            hand = sum(row.by == "hand" for row in selection.rows)
            lines.append(f"| {ability} | {len(selection.tensors)} | {len(selection.rows)} | {hand} |")
        lines.append("")
    lines += [f"Made with MAET Studio {maet_core.__version__}.", ""]
    return "\n".join(lines)
