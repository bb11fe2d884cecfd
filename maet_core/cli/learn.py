"""`maet train`."""

from __future__ import annotations

from pathlib import Path

import click

from maet_core.cli.background import runs_as_job
from maet_core.cli.output import count, json_option, print_json, shown_training
from maet_core.cli.stopping import asked_to_stop
from maet_core.errors import InputError


@runs_as_job()
@click.command(
    epilog="Example:  maet train --base models/base --corpus math.jsonl --general english.txt --answers-only "
    "--key-neurons scores/math.safetensors --k1 5 -o models/math-en"
)
@click.option("--base", required=True, help="The base model: a directory or a hub id.")
@click.option("--corpus", required=True, help="A text, JSONL or Parquet file, or a hub dataset (name:config:split).")
@click.option("--general", help="General text that is mixed in, in the same formats.")
@click.option("--documents", type=click.IntRange(1), help="At most this many of each corpus.  [default: all]")
@click.option(
    "--key-neurons", "scores", type=click.Path(path_type=Path), help="Scores by `maet locate`: only key neurons train."
)
@click.option(
    "--k1", type=click.FloatRange(0, 100), default=5.0, show_default=True, help="Percent of neurons that are key."
)
@click.option("--scope", type=click.Choice(["global", "per-tensor"]), default="global", show_default=True)
@click.option("--revert", is_flag=True, help="Train everything, then put back what is outside the key neurons.")
@click.option(
    "--trainable", multiple=True, metavar="GLOB", help="Without key neurons: parameters that train.  [default: all]"
)
@click.option("--frozen", multiple=True, metavar="GLOB", help="Parameters that do not train; wins over --trainable.")
@click.option(
    "--lora",
    "rank",
    type=click.IntRange(1),
    metavar="RANK",
    help="Train a low-rank adapter; the output is one, as PEFT saves it.",
)
@click.option(
    "--lora-alpha", type=click.FloatRange(0, min_open=True), help="Its scale is alpha / rank.  [default: 2 × rank]"
)
@click.option(
    "--lora-modules", multiple=True, metavar="NAME", help="Its linear layers, e.g. q_proj.  [default: all but the head]"
)
@click.option("--answers-only", is_flag=True, help="The loss is on answers alone.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True)
@click.option("--warmup-steps", type=click.IntRange(0), default=20, show_default=True)
@click.option("--batch-rows", type=click.IntRange(1), default=8, show_default=True)
@click.option("--row-tokens", type=click.IntRange(8), default=256, show_default=True)
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Batches averaged for one step; the processes of torchrun share them.",
)
@click.option(
    "--save-every", type=click.IntRange(1), default=100, show_default=True, help="Steps between states on disk."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--bf16", is_flag=True, help="Compute in bfloat16; what trains stays float32.")
@click.option(
    "--checkpoint-activations", is_flag=True, help="Less memory for activations, about a third more computing."
)
@click.option(
    "--shard", is_flag=True, help="Under torchrun: each process holds a part of the weights.  [default: a copy]"
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The new directory; it must not exist."
)
@json_option
def train(
    base: str,
    corpus: str,
    general: str | None,
    documents: int | None,
    scores: Path | None,
    k1: float,
    scope: str,
    revert: bool,
    trainable: tuple[str, ...],
    frozen: tuple[str, ...],
    rank: int | None,
    lora_alpha: float | None,
    lora_modules: tuple[str, ...],
    answers_only: bool,
    steps: int,
    learning_rate: float,
    warmup_steps: int,
    batch_rows: int,
    row_tokens: int,
    accumulate: int,
    save_every: int,
    seed: int,
    device: str,
    bf16: bool,
    checkpoint_activations: bool,
    shard: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Trains a base on a corpus: all parameters, some by name, the key neurons of an ability alone, or an adapter.

    A run that was stopped or killed goes on from its last state when the same command is given again. torchrun starts it in
    several processes, on one machine or many: docs/training.md.
    """
    from maet_core.checkpoints import Checkpoint
    from maet_core.corpora import corpora_key, mix_corpora
    from maet_core.importance import SavedScores, select_key_neurons
    from maet_core.merging.devices import choose_device
    from maet_core.training import LoraOptions, Processes, TrainingOptions
    from maet_core.training.checkpoint import train_checkpoint

    if rank is None and (lora_alpha is not None or lora_modules):
        raise InputError("--lora-alpha and --lora-modules: there is no adapter; give its rank with --lora")
    checkpoint = Checkpoint.open(base)
    keys = select_key_neurons(SavedScores(scores, checkpoint), k1, scope) if scores else None
    sources = [source for source in (corpus, general) if source]
    options = TrainingOptions(
        steps=steps,
        learning_rate=learning_rate,
        batch_rows=batch_rows,
        accumulate=accumulate,
        row_tokens=row_tokens,
        warmup_steps=warmup_steps,
        answers_only=answers_only,
        trainable=trainable or ("*",),
        frozen=frozen,
        seed=seed,
        bf16=bf16,
        checkpoint_activations=checkpoint_activations,
    )
    lora = LoraOptions(rank, lora_alpha or 2.0 * rank, lora_modules) if rank else None
    target = str(choose_device(device)[0])
    with Processes.join(target, shard) as processes, shown_training() as (reading, progress), asked_to_stop() as asked:
        told = train_checkpoint(
            checkpoint,
            mix_corpora(sources, documents),
            options,
            output,
            keys,
            revert,
            save_every,
            progress,
            lora=lora,
            processes=processes,
            corpus_key=corpora_key(sources, documents),
            reading=reading,
            halted=asked,
        )
    if not processes.first:
        return
    if as_json:
        print_json({"output": str(output), **told})
        return
    last = told["losses"][-min(10, steps) :]
    click.echo(
        f"{output}: {count(told['trained_parameters'])} of {count(checkpoint.parameters)} parameters trained on {count(told['tokens'])} "
        f"tokens in {told['seconds']:.1f} s; loss {told['losses'][0]:.3f} → {sum(last) / len(last):.3f} nats per token"
    )
