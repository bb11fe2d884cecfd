"""The plan behind `maet reproduce`: every model and recipe of the table as a list of commands, in order, and what they cost.

Each step is a command that anybody could type, makes one output, and is left out when that output is there.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.evaluation.prompts import ROOM, default_style
from maet_core.evaluation.tasks import load_task

TRAINING_BYTES = 12  # a parameter: the state on disk holds float32 weights and both moments of Adam
START_SECONDS = 6.0  # of every step's own process, most of it the imports of torch and transformers
PROBE_BATCHES = 32  # at most, of the sample on which key neurons are located
ROWS = {
    "base": "base",
    "f-cpt": "full continual training on ability and general text",
    "lora": "the same with LoRA",
    "domain": "languages first, then the ability",
    "task-vectors": "plain task vectors",
    "ties": "TIES",
    "layer-swap": "layer swapping",
    "maet": "MAET",
    "maet-all-neurons": "MAET without key neurons",
    "maet-all-tensors": "MAET without tensor selection",
    "maet-random-neurons": "MAET on random neurons of the same size",
    "maet-random-tensors": "MAET on random tensors of the same count",
}


@dataclass(frozen=True)
class Order:
    """What to reproduce. `ability`, `general` and `languages` are corpora (see `read_corpus`); paths are absolute or hub names."""

    base: str
    ability: str
    general: str
    languages: Mapping[str, str]
    tasks: Sequence[str]
    folder: Path
    steps: int = 200
    batch_rows: int = 8
    row_tokens: int = 256
    learning_rate: float = 1e-4
    documents: int | None = None
    k1: float = 5.0
    k2: float = 80.0
    alpha: float = 1.0
    beta: float = 0.5
    gamma: float = 1.0
    eta: float = 1.0
    mu: float | None = None
    lora_rank: int = 16
    limit: int | None = None
    max_new_tokens: int | None = None
    seed: int = 0
    device: str = "cpu"
    training_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.languages:
            raise InputError("--languages: none; name them with their corpora, such as sw=corpora/sw.txt")
        if "en" in self.languages:
            raise InputError("--languages: en is the source language; name target languages")


@dataclass(frozen=True)
class Step:
    """One command and what it makes. `tokens` are read in training, or written in answers; `nbytes` stay on disk."""

    name: str
    command: tuple[str, ...]
    output: Path
    kind: str  # "train" | "locate" | "evaluate"
    tokens: int
    nbytes: int = 0

    @property
    def typed(self) -> str:
        return shlex.join(["maet", *self.command])


@dataclass(frozen=True)
class Plan:
    order: Order
    parameters: int
    steps: tuple[Step, ...]
    recipes: Mapping[str, dict] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What stays on disk, and the largest state of a training on top."""
        return sum(step.nbytes for step in self.steps) + TRAINING_BYTES * self.parameters

    @property
    def training_tokens(self) -> int:
        return sum(step.tokens for step in self.steps if step.kind != "evaluate")

    @property
    def answer_tokens(self) -> int:
        return sum(step.tokens for step in self.steps if step.kind == "evaluate")

    def seconds(self, step: Step, flops_per_second: float, bytes_per_second: float, batch_rows: int = 32) -> float:
        """Training: six operations a parameter and token (Kaplan et al. 2020). Answers: every token of a batch reads all weights once.

        Besides, the start of a process: for a small model that is most of it.
        """
        if step.kind == "evaluate":
            return START_SECONDS + step.tokens / batch_rows * 4 * self.parameters / bytes_per_second
        return START_SECONDS + 6 * self.parameters * step.tokens / flops_per_second


def make_plan(order: Order) -> Plan:
    """Reads the headers of the base and the tasks, nothing else. Raises InputError for what cannot be read."""
    base = Checkpoint.open(order.base)
    folder = order.folder
    models, scores = folder / "models", folder / "scores" / "ability.safetensors"
    size = base.nbytes
    tokens = order.steps * order.batch_rows * order.row_tokens
    common = ["--steps", str(order.steps), "--batch-rows", str(order.batch_rows), "--row-tokens", str(order.row_tokens)]
    common += ["--learning-rate", f"{order.learning_rate:g}", "--seed", str(order.seed), "--device", order.device]
    common += ["--documents", str(order.documents)] if order.documents else []
    common += ["--warmup-steps", str(min(20, order.steps // 4)), *order.training_options]
    keys = ["--key-neurons", str(scores), "--k1", f"{order.k1:g}"]
    steps: list[Step] = []

    def train(name: str, corpus: str, *more: str, start: str | None = None, nbytes: int = size) -> None:
        command = ("train", "--base", start or order.base, "--corpus", corpus, *more, *common, "-o", str(models / name))
        steps.append(Step(name, command, models / name, "train", tokens, nbytes))

    locate = ("locate", "--base", order.base, "--corpus", order.ability, "--method", "probe", "--seed", str(order.seed))
    batches = min(PROBE_BATCHES, order.steps)
    locate += ("--batches", str(batches), "--batch-rows", str(order.batch_rows), "--row-tokens", str(order.row_tokens))
    locate += ("--device", order.device, "-o", str(scores))
    probed = batches * order.batch_rows * order.row_tokens
    steps.append(Step("key neurons", locate, scores, "locate", probed, 4 * base.parameters))
    train("ability", order.ability, "--general", order.general, *keys)
    train("source", order.general, *keys)
    train("ability-full", order.ability, "--general", order.general)
    train("source-full", order.general)
    for language, corpus in order.languages.items():
        train(f"lang-{language}", corpus)
    mixed, spoken = str(folder / "corpora" / "everything.jsonl"), str(folder / "corpora" / "languages.jsonl")
    train("f-cpt", mixed)
    train("lora", mixed, "--lora", str(order.lora_rank), nbytes=size // 20)
    train("languages", spoken)
    train("domain", order.ability, start=str(models / "languages"))
    recipes = _recipes(order, models, base.anatomy.layers)
    steps.append(_evaluation(order, recipes, models))
    return Plan(order, base.parameters, tuple(steps), recipes)


def _recipes(order: Order, models: Path, layers: int) -> dict[str, dict]:
    """The merged rows of the table. The random tensors are drawn when the models are there."""
    mu = order.mu if order.mu is not None else 1.0 / len(order.languages)
    trained = {
        "ability": str(models / "ability"),
        "source_language": str(models / "source"),
        "alpha": order.alpha,
        "beta": order.beta,
    }
    full = trained | {"ability": str(models / "ability-full"), "source_language": str(models / "source-full")}
    plain = {"ability": str(models / "ability-full")}
    languages = {language: {"checkpoint": str(models / f"lang-{language}"), "mu": mu} for language in order.languages}

    def recipe(ability: dict, **more) -> dict:
        return {
            "base": order.base,
            "abilities": {"ability": ability | {"gamma": order.gamma}},
            "languages": languages,
            "eta": order.eta,
        } | more

    chosen = {"tensors": {"k2": order.k2}}
    return {
        "lora": {"base": order.base, "abilities": {"ability": {"ability": str(models / "lora")}}},
        "task-vectors": recipe(plain, method="task-arithmetic"),
        "ties": recipe(plain, method="ties"),
        "layer-swap": recipe(
            plain, method={"name": "layer-swap"} | ({} if layers > 4 else {"bottom": 1, "top": 1, "transition": 0})
        ),
        "maet": recipe(trained | chosen),
        "maet-all-neurons": recipe(full | chosen),
        "maet-all-tensors": recipe(trained),
        "maet-random-neurons": recipe(
            full | chosen | {"key_neurons": {"method": "random", "k1": order.k1, "seed": order.seed}}
        ),
        "maet-random-tensors": recipe(trained),
    }


def _evaluation(order: Order, recipes: Mapping[str, dict], models: Path) -> Step:
    folder = order.folder / "evaluation"
    named = [
        order.base,
        *(str(models / f"lang-{language}") for language in order.languages),
        str(models / "f-cpt"),
        str(models / "domain"),
    ]
    named += [str(order.folder / "recipes" / f"{name}.yaml") for name in recipes]
    wanted = ["en", *order.languages]
    command = ["evaluate", *named]
    tokens = 0
    for name in order.tasks:
        task = load_task(name, wanted, limit=order.limit)
        tokens += len(task.items) * len(named) * (order.max_new_tokens or ROOM[default_style(task)])
        command += ["--task", name]
    command += ["--languages", ",".join(wanted), "--device", order.device, "--seed", str(order.seed)]
    command += ["--limit", str(order.limit)] if order.limit else []
    command += ["--max-new-tokens", str(order.max_new_tokens)] if order.max_new_tokens else []
    for language, corpus in {"en": order.general, **order.languages}.items():
        command += ["--general", f"{language}={corpus}"]
    return Step("evaluation", (*command, "-o", str(folder)), folder, "evaluate", tokens, 2000 * tokens // 64)
