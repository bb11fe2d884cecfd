"""`maet reproduce`: the paper's table, from one command."""

from __future__ import annotations

from pathlib import Path

import click

from maet_core.cli.background import runs_as_job
from maet_core.cli.output import count, json_option, print_json, print_table, shown_progress
from maet_core.errors import InputError


@runs_as_job(grows=True)
@click.command(
    epilog="Example:  maet reproduce --base models/base --ability corpora/math-en.txt --general corpora/general-en.txt "
    "--language sw=corpora/lang-sw.txt --language bn=corpora/lang-bn.txt --task demo-math -o results/table"
)
@click.option("--base", required=True, help="The base model.")
@click.option("--ability", required=True, help="Corpus of the ability in the source language, English.")
@click.option("--general", required=True, help="General text in English.")
@click.option(
    "--language",
    "languages",
    multiple=True,
    required=True,
    metavar="LANG=CORPUS",
    help="General text of a target language; may be repeated.",
)
@click.option("--task", "tasks", multiple=True, required=True, help="As for `maet evaluate`; may be repeated.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would do and cost, and stop.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Of each training.")
@click.option("--batch-rows", type=click.IntRange(1), default=8, show_default=True)
@click.option("--row-tokens", type=click.IntRange(8), default=256, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True)
@click.option("--documents", type=click.IntRange(1), help="At most this many of each corpus.  [default: all]")
@click.option("--k1", type=click.FloatRange(0, 100), default=5.0, show_default=True)
@click.option("--k2", type=click.FloatRange(0, 100), default=80.0, show_default=True)
@click.option("--alpha", type=float, default=1.0, show_default=True)
@click.option("--beta", type=float, default=0.5, show_default=True)
@click.option("--gamma", type=float, default=1.0, show_default=True)
@click.option("--eta", type=float, default=1.0, show_default=True)
@click.option("--mu", type=float, help="Of every language.  [default: 1 / languages]")
@click.option("--lora-rank", type=click.IntRange(1), default=16, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="At most this many questions a language.")
@click.option("--max-new-tokens", type=click.IntRange(1, 4096), help="Longest answer.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, mps or auto.")
@click.option(
    "--train-option",
    "training_options",
    multiple=True,
    metavar="WORD",
    help="A word handed on to every `maet train`; may be repeated.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder; the same command goes on with it."
)
@json_option
def reproduce(languages, output, only_plan, as_json, **told) -> None:
    """Base, full training, LoRA, domain adaptation, task vectors, TIES, layer swapping, MAET and its ablations, in one table.

    Says first what it will cost. Each step is a command that can be read in OUTPUT/plan.json.
    """
    from maet_core.cli.evaluate import read_general
    from maet_core.cli.evaluated import print_evaluation, to_json
    from maet_core.merging.devices import choose_device
    from maet_core.reproduction.plan import Order, make_plan
    from maet_core.reproduction.run import costs, is_done, measure_speed
    from maet_core.reproduction.run import reproduce as run

    corpora = {language: _absolute(source) for language, source in read_general(languages).items()}
    for name in ("base", "ability", "general"):
        told[name] = _absolute(told[name])
    plan = make_plan(Order(languages=corpora, folder=output.resolve(), **told))
    flops, speed = measure_speed(choose_device(told["device"])[0])
    hours = {step.name: plan.seconds(step, flops, speed) / 3600 for step in plan.steps}
    left = [step for step in plan.steps if not is_done(step)]
    cost = {
        "training_tokens": plan.training_tokens,
        "answer_tokens": plan.answer_tokens,
        "hours": sum(hours.values()),
        "hours_left": sum(hours[step.name] for step in left),
        "bytes": plan.nbytes,
    }
    if only_plan and as_json:
        steps = [
            {"name": s.name, "command": s.typed, "tokens": s.tokens, "hours": hours[s.name], "bytes": s.nbytes}
            for s in plan.steps
        ]
        print_json({"cost": cost, "steps": steps, "recipes": plan.recipes})
        return
    if not as_json:
        rows = [
            [
                s.name,
                s.kind,
                count(s.tokens),
                _time(hours[s.name]),
                f"{s.nbytes / 1e9:.2f} GB",
                "" if s in left else "done",
            ]
            for s in plan.steps
        ]
        print_table(["step", "", "tokens", "about", "disk", ""], rows, right=(2, 3, 4))
        click.echo(
            f"in all {count(cost['training_tokens'])} tokens of training, at most {count(cost['answer_tokens'])} of answers, about "
            f"{_time(cost['hours'])} ({_time(cost['hours_left'])} left), {cost['bytes'] / 1e9:.1f} GB of disk at most"
        )
    if only_plan:
        return
    with shown_progress() as progress:
        found = run(plan, progress)
    took = costs(output)
    if as_json:
        print_json({"cost": cost, "took": took, **to_json(found, found.labels[0], output)})
        return
    print_evaluation(found, found.labels[0])
    rows = [
        [name, _time(hours[name]), _time(row["seconds"] / 3600), _time(row["processor_seconds"] / 3600)]
        for name, row in took.items()
    ]
    print_table(["step", "said", "took", "of all cores"], rows, right=(1, 2, 3))


def _absolute(source: str) -> str:
    """Steps run anywhere, so paths must not depend on where; hub names stay."""
    path = Path(source).expanduser()
    if path.exists():
        return str(path.resolve())
    if path.suffix in (".txt", ".jsonl", ".json", ".parquet"):
        raise InputError(f"{source}: no such file")
    return source


def _time(hours: float) -> str:
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:.1f} h"
