"""`maet sweep` and `maet tune`: what coefficients do, on the live model; no checkpoint is written."""

from __future__ import annotations

from pathlib import Path

import click

from maet_core.cli.background import runs_as_job
from maet_core.cli.evaluate import asking_options, find_asks, general_option, read_general
from maet_core.cli.output import json_option, print_json, print_table, shown_progress
from maet_core.errors import InputError

_COEFFICIENTS = {
    "gamma": "γ of Eq. 4, of every ability.",
    "eta": "η of Eq. 4.",
    "mu": "μ of Eq. 3, of every language.",
    "alpha": "α of Eq. 2.",
    "beta": "β of Eq. 2.",
    "k1": "Percent of neurons that are key.",
    "k2": "Percent of tensors that take the ability.",
    "method": "Merge methods, separated by commas.",
}


def _coefficient_options(form: str):
    def add(command):
        command = click.option(
            "--set",
            "chosen",
            multiple=True,
            metavar=f"NAME={form}",
            help="One ability or language alone, such as gamma.math or mu.sw; may be repeated.",
        )(command)
        for name, text in reversed(_COEFFICIENTS.items()):
            command = click.option(f"--{name}", metavar="NAMES" if name == "method" else form, help=text)(command)
        return command

    return add


def _axes(coefficients: dict, chosen: tuple[str, ...], parse) -> dict:
    axes = {name: parse(name, text) for name, text in coefficients.items() if text is not None}
    for entry in chosen:
        name, equals, text = entry.partition("=")
        if not (equals and "." in name):
            raise InputError(f"--set: found {entry!r}, expected one of the recipe's, such as mu.sw=0:1")
        axes[name] = parse(name, text)
    return axes


@runs_as_job(grows=True)
@click.command(
    epilog="Example:  maet sweep recipes/demo.yaml --task demo-math:dev --languages sw,bn --gamma 0:2:0.25 --k2 50,75,100 -o results/gamma"
)
@click.argument("recipe", type=click.Path(path_type=Path))
@asking_options
@_coefficient_options("FIRST:LAST:STEP")
@general_option
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder; the same command goes on with it."
)
@json_option
def sweep(recipe, gamma, eta, mu, alpha, beta, k1, k2, method, chosen, general, output, as_json, **asked) -> None:
    """Every combination of some values of RECIPE's coefficients: what each gains, and what it forgets.

    Values are FIRST:LAST:STEP or separated by commas.
    """
    from maet_core.recipe import Recipe
    from maet_core.search.axes import parse_values
    from maet_core.search.sweep import sweep as run

    loaded = Recipe.load(recipe)
    coefficients = dict(gamma=gamma, eta=eta, mu=mu, alpha=alpha, beta=beta, k1=k1, k2=k2, method=method)
    axes = _axes(coefficients, chosen, parse_values)
    asks, device, _ = find_asks(**asked)
    with shown_progress() as progress:
        found = run(
            loaded, recipe.parent, axes, asks, output, read_general(general), device, asked["batch_rows"], progress
        )
    if as_json:
        print_json(
            {
                "output": str(output),
                "points": [_point(point) for point in found.points],
                "front": [_point(p) for p in found.front],
            }
        )
        return
    own = found.role("recipe")
    for task, entry in found.head["tasks"].items():
        click.echo(f"{task}: {entry['protocol']['text']}; right: the mean over {', '.join(entry['languages'])}")
    rows = [_row(point, own) for point in found.points]
    print_table(["", "right, %", "forgotten, nats/token", "against the recipe"], rows, right=(1, 2))
    if found.front:
        click.echo(
            f"no other beats in both: {'; '.join(point.label or 'the recipe as it stands' for point in found.front)}"
        )


@runs_as_job(grows=True)
@click.command(
    epilog="Example:  maet tune recipes/demo.yaml --task demo-math --languages sw,bn --trials 100 -o results/tuned"
)
@click.argument("recipe", type=click.Path(path_type=Path))
@asking_options
@_coefficient_options("LOW:HIGH")
@general_option
@click.option(
    "--development", default="dev", show_default=True, help="The split that is tuned on; half of a task that has none."
)
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True, help="Settings that are tried.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="No new trial after this time.")
@click.option("--two-goals", is_flag=True, help="Gain and forgetting on general text (NSGA-II); else gain alone (TPE).")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder; the same command goes on with it."
)
@json_option
def tune(
    recipe,
    gamma,
    eta,
    mu,
    alpha,
    beta,
    k1,
    k2,
    method,
    chosen,
    general,
    development,
    trials,
    minutes,
    two_goals,
    output,
    as_json,
    **asked,
) -> None:
    """Finds coefficients of RECIPE on development questions, then asks the test questions once.

    Ranges are LOW:HIGH; without any, γ, β, k2 and every μ are tuned.
    """
    from maet_core.evaluation.report import comparisons
    from maet_core.recipe import Recipe
    from maet_core.search.axes import parse_span
    from maet_core.search.trials import Budget
    from maet_core.search.tune import default_space, describe
    from maet_core.search.tune import tune as run

    loaded = Recipe.load(recipe)
    coefficients = dict(gamma=gamma, eta=eta, mu=mu, alpha=alpha, beta=beta, k1=k1, k2=k2, method=method)
    space = _axes(coefficients, chosen, parse_span) or default_space(loaded)
    learned, tested, device = _development_and_test(development, asked)
    with shown_progress() as progress:
        search, found = run(
            loaded,
            recipe.parent,
            space,
            learned,
            tested,
            output,
            Budget(trials, minutes and 60 * minutes),
            read_general(general),
            two_goals,
            seed=asked["seed"],
            device=device,
            batch_rows=asked["batch_rows"],
            progress=progress,
        )
    told = describe(search, found)
    if as_json:
        print_json(told)
        return
    settings = ", ".join(f"{name} {value}" for name, value in told["settings"].items()) or "the recipe as it stands"
    click.echo(f"{output}/recipe.yaml: {settings}; {told['trials']} trials, {told['pruned']} of them given up early")
    for task, entry in found.tasks.items():
        click.echo(f"{task}, questions that no trial saw: {entry['protocol']['text']}")
        languages = found.languages(task)
        rows = [[model, *(found.cell(model, task, lang).share.text() for lang in languages)] for model in found.labels]
        print_table(["right (95 %)", *languages], rows, right=range(1, len(languages) + 1))
        for pair in comparisons(found, task, "recipe"):
            if pair.cell.model == "tuned":
                verdict = "  inside the interval: not a result" if pair.paired.is_luck else ""
                click.echo(f"tuned − recipe, {pair.cell.language}: {pair.paired.text()}{verdict}")


def _development_and_test(development: str, asked: dict):
    """Two lists of questions that share none."""
    from dataclasses import replace

    from maet_core.search.tune import halves

    limit = asked.pop("limit")
    test, device, _ = find_asks(**asked, limit=limit)
    if all(ask.task.pool for ask in test):
        learned, _, _ = find_asks(**{**asked, "split": development}, limit=limit)
        return learned, test, device
    parts = [(ask, *halves(ask.task)) for ask in test]
    return (
        [replace(ask, task=first) for ask, first, _ in parts],
        [replace(ask, task=second) for ask, _, second in parts],
        device,
    )


def _row(point, own) -> list[str]:
    name = {"base": "base", "recipe": "the recipe as it stands"}.get(point.role, point.label)
    forgotten = "" if point.forgetting is None else f"{point.forgetting:+.3f}"
    return [name, f"{100 * point.gain:.1f}", forgotten, point.beside(own)]


def _point(point) -> dict:
    return {
        "settings": point.settings,
        "role": point.role,
        "gain": point.gain,
        "forgetting": point.forgetting,
        "languages": {key: point.share(key).to_json() for key in point.right},
    }
