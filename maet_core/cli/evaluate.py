"""`maet evaluate`: models and recipes on tasks, with intervals, and one against the other on the same questions."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from maet_core.cli.background import runs_as_job
from maet_core.cli.evaluated import print_evaluation, to_json
from maet_core.cli.output import json_option, print_json, print_table, shown_progress
from maet_core.errors import InputError


def asking_options(command):
    """The options that say what is asked and how; shared with `maet sweep` and `maet tune`."""
    for option in reversed(
        (
            click.option(
                "--task",
                "tasks",
                multiple=True,
                help="demo-math[:dev], mgsm[:FOLDER], msvamp[:FOLDER], gsm8k[:FILE], or a file of questions; may be repeated.",
            ),
            click.option(
                "--languages", metavar="sw,te", default="", help="Languages to ask in.  [default: all of the task]"
            ),
            click.option("--split", help="Which of the file's splits to ask.  [default: test]"),
            click.option(
                "--limit", type=click.IntRange(1), help="At most this many questions a language.  [default: all]"
            ),
            click.option(
                "--prompt",
                "style",
                type=click.Choice(["own", "direct", "cot-en", "cot-native"]),
                help="The task's own prompt, the answer at once, or steps in English or in the language.  [default: own, else direct]",
            ),
            click.option(
                "--shots", type=click.IntRange(0), default=0, show_default=True, help="Exemplars before each question."
            ),
            click.option(
                "--exemplars",
                help="A file of exemplars, with a column `worked` for steps.  [default: the task's other splits]",
            ),
            click.option("--chat", is_flag=True, help="Wrap the prompt in the tokenizer's chat template."),
            click.option(
                "--max-new-tokens",
                type=click.IntRange(1, 4096),
                help="Longest answer.  [default: 64 own, 256 direct, 512 steps]",
            ),
            click.option(
                "--temperature", type=click.FloatRange(0, 5), default=0.0, show_default=True, help="0 is greedy."
            ),
            click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True),
            click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
            click.option("--batch-rows", type=click.IntRange(1), default=32, show_default=True),
            click.option(
                "--dtype",
                type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
                default="auto",
                show_default=True,
            ),
            click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, mps or auto."),
        )
    ):
        command = option(command)
    return command


general_option = click.option(
    "--general",
    multiple=True,
    metavar="LANG=CORPUS",
    help="General text whose loss shows what else was lost; may be repeated.",
)


@runs_as_job(grows=True)
@click.command(
    epilog="Example:  maet evaluate models/base recipes/demo.yaml --task demo-math --languages en,sw -o results/demo"
)
@click.argument("models", nargs=-1, required=True)
@asking_options
@general_option
@click.option(
    "--harness",
    metavar="TASKS",
    help="Tasks of the EleutherAI harness, such as mgsm_direct_sw,mgsm_direct_te, in place of --task.",
)
@click.option(
    "--harness-tasks",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder of the harness's YAML tasks of your own.",
)
@click.option("--reference", help="The model that the others are compared with.  [default: the first]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for every answer; the same command goes on with it."
)
@json_option
def evaluate(models, general, harness, harness_tasks, reference, output, as_json, **asked) -> None:
    """Asks MODELS (checkpoints, or recipes that are merged in memory) the questions of tasks.

    Every figure comes with n, its 95 % interval and the protocol; differences are paired on the same questions.
    """
    from maet_core.evaluation.run import evaluate as run
    from maet_core.evaluation.subjects import find_subjects

    if harness is not None:
        _harness(models, harness, harness_tasks, output, as_json, asked)
        return
    asks, device, dtype = find_asks(**asked)
    subjects = find_subjects(models, device, dtype)
    labels = {subject.source: subject.label for subject in subjects} | {s.label: s.label for s in subjects}
    if reference is not None and reference not in labels:
        raise InputError(
            f"--reference: {reference} is none of the models; there is {', '.join(s.label for s in subjects)}"
        )
    with _folder(output) as folder, shown_progress() as progress:
        found = run(subjects, asks, folder, read_general(general), asked["batch_rows"], progress)
        against = labels[reference] if reference else subjects[0].label
        if as_json:
            print_json(to_json(found, against, output))
        else:
            print_evaluation(found, against)


def find_asks(tasks, languages, split, limit, style, shots, exemplars, chat, max_new_tokens, dtype, device, **decoding):
    """(asks, device, dtype) of the options above."""
    from maet_core.evaluation.asking import Ask
    from maet_core.evaluation.prompts import ROOM, Protocol, default_style
    from maet_core.evaluation.questions import read_questions
    from maet_core.evaluation.subjects import choose_dtype
    from maet_core.evaluation.tasks import load_task
    from maet_core.merging.devices import choose_device

    if not tasks:
        raise InputError("--task: none; name one, such as demo-math or mgsm:FOLDER")
    device = str(choose_device(device)[0])
    dtype = choose_dtype(dtype, device)
    wanted = [language.strip() for language in languages.split(",") if language.strip()]
    shown = tuple(read_questions(Path(exemplars), wanted[0] if len(wanted) == 1 else "")) if exemplars else ()
    asks = []
    for name in tasks:
        task = load_task(name, wanted, split, limit)
        chosen = style or default_style(task)
        protocol = Protocol(
            chosen,
            shots,
            chat,
            max_new_tokens or ROOM[chosen],
            decoding["temperature"],
            decoding["top_p"],
            decoding["seed"],
            dtype,
        )
        asks.append(Ask(task, protocol, shown))
    names = [ask.task.name for ask in asks]
    if len(set(names)) < len(names):
        raise InputError(f"--task: {next(name for name in names if names.count(name) > 1)} is named twice")
    return asks, device, dtype


def _harness(models, harness: str, folder: Path | None, output: Path | None, as_json: bool, asked: dict) -> None:
    """Each model through the harness; every answer as the harness records it goes to `output`."""
    import json

    from maet_core.evaluation.harness import run_harness
    from maet_core.evaluation.results import alone, write_whole
    from maet_core.evaluation.subjects import choose_dtype, find_subjects
    from maet_core.merging.devices import choose_device

    if asked["tasks"]:
        raise InputError("--harness: it has tasks of its own; leave out --task")
    device = str(choose_device(asked["device"])[0])
    tasks = [task.strip() for task in harness.split(",") if task.strip()]
    told = []
    with alone(output) if output else nullcontext():
        for subject in find_subjects(models, device, choose_dtype(asked["dtype"], device)):
            with subject.open() as (model, tokenizer):
                figures, samples = run_harness(model, tokenizer, tasks, asked["batch_rows"], asked["limit"], folder)
            told += [{"model": subject.label, **vars(figure)} for figure in figures]
            if output is not None:
                content = {"model": subject.to_json(), "figures": [vars(f) for f in figures], "samples": samples}
                text = json.dumps(content, ensure_ascii=False, default=str, indent=1)
                write_whole(output / f"{subject.label}.harness.json", text.encode())
    if as_json:
        print_json({"harness": told})
        return
    rows = [
        [
            row["model"],
            row["task"],
            row["metric"],
            f"{row['value']:.4f}",
            f"{row['stderr']:.4f}" if row["stderr"] else "",
            row["n"],
        ]
        for row in told
    ]
    print_table(["model", "task", "metric", "value", "standard error", "n"], rows, right=(3, 4, 5))


@contextmanager
def _folder(output: Path | None):
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="maet-evaluate-") as folder:
        yield Path(folder)


def read_general(general: tuple[str, ...]) -> dict[str, str]:
    """Corpora by language."""
    found = {}
    for entry in general:
        language, equals, source = entry.partition("=")
        if not (language and equals and source):
            raise InputError(f"--general: found {entry!r}, expected LANG=CORPUS, such as sw=corpora/general-sw.txt")
        found[language] = source
    return found
