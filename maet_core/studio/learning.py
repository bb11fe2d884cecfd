"""What the pages Neurons and Models start: locating neurons and training models. Each is a job and a command to copy."""

from __future__ import annotations

import shlex
from itertools import count
from pathlib import Path
from typing import Any

import streamlit as st

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import config
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import entries, following, resources, shell
from maet_core.workspace import short_name

_JOB = "_my_{}"
_CORPORA = (".txt", ".jsonl", ".json", ".parquet")
# how `maet locate` ranks neurons, and what it goes by: examples, or a model that somebody has trained
METHODS = {
    "taylor": "|gradient · weight| on examples",
    "gradient": "|gradient| on examples",
    "probe": "a short training on examples",
    "value-change": "what a training moved",
}
_NONE = ""
_HEARD = {"on_change": entries.acted}  # every entry: see `entries.acted`


def locate_form(recipe: Recipe, rule: KeyNeuronRule) -> None:
    """Scores for the recipe's base, into scores/."""
    with st.expander("Locate neurons", icon=":material/troubleshoot:"):
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        method = left.selectbox("Ranked by", METHODS, format_func=METHODS.get, key="locate-method", **_HEARD)
        command = ["maet", "locate", "--base", recipe.base, "--method", method, "--granularity", rule.granularity]
        if method == "value-change":
            source = middle.selectbox(
                "Trained model", _trained(recipe), format_func=short_name, key="locate-trained", **_HEARD
            )
            command += ["--trained", source or ""]
        else:
            source = _corpus(middle, "Examples", "locate-corpus", about=tuple(recipe.abilities))
            batches = right.number_input(
                "Batches of examples",
                1,
                100_000,
                32,
                8,
                help="8 rows of 256 tokens each",
                key="locate-batches",
                **_HEARD,
            )
            command += ["--corpus", source or "", "--batches", str(batches)]
            with st.container(horizontal=True):
                command += _answers_only(source, "locate")
                halves = st.toggle(
                    "Also say how stable the ranking is",
                    help="Two halves of the sample are ranked on their own; more memory, the same time.",
                    key="locate-halves",
                    **_HEARD,
                )
            command += ["--split-half"] if halves else []
        _start(command, "locate", "Locate", "scores", f"{_stem(source)}-{method}", bool(source))


def train_form(recipe: Recipe | None) -> None:
    """A model from a base and a corpus, into models/."""
    bases = [entry.path for entry in resources.models() if entry.kind == "checkpoint" and not entry.problem]
    if not bases:
        return
    with st.expander("Train a model", icon=":material/model_training:"):
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        first = bases.index(recipe.base) if recipe and recipe.base in bases else 0
        base = left.selectbox("From", bases, first, format_func=short_name, key="train-base", **_HEARD)
        corpus = _corpus(middle, "Corpus", "train-corpus")
        general = _corpus(right, "General text beside it", "train-general", optional=True)
        # a row of its own: on a phone they stand in this order
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        scores = [
            f"scores/{path.name}" for path in sorted((resources.workspace().path / "scores").glob("*.safetensors"))
        ]
        kept = left.selectbox(
            "What trains",
            [_NONE, *scores],
            format_func=lambda path: f"key neurons of {short_name(path)}" if path else "every parameter",
            key="train-scores",
            **_HEARD,
        )
        k1 = middle.number_input(
            "k1, % of neurons that are key", 0.01, 100.0, 5.0, 1.0, disabled=not kept, key="train-k1", **_HEARD
        )
        rank = right.number_input(
            "Adapter rank (0: no adapter)",
            0,
            1024,
            0,
            8,
            help="LoRA: small matrices train, and only they are saved",
            disabled=bool(kept),
            key="train-rank",
            **_HEARD,
        )
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        steps = left.number_input("Steps", 1, 10_000_000, 200, 100, key="train-steps", **_HEARD)
        rate = middle.number_input("Learning rate", 1e-7, 1.0, 1e-4, format="%.1e", key="train-rate", **_HEARD)
        rows = right.number_input("Rows of 256 tokens a step", 1, 4096, 8, key="train-rows", **_HEARD)
        command = ["maet", "train", "--base", base, "--corpus", corpus or ""]
        command += ["--general", general] if general else []
        command += ["--key-neurons", kept, "--k1", f"{k1:g}"] if kept else ["--lora", str(rank)] if rank else []
        command += _answers_only(corpus, "train")
        command += ["--steps", str(steps), "--learning-rate", f"{rate:g}", "--batch-rows", str(rows)]
        _start(command, "train", "Train", "models", f"{_stem(corpus)}-trained", bool(corpus))


def _start(command: list[str], form: str, label: str, folder: str, proposed: str, ready: bool) -> None:
    """Where it runs, the name of what it makes, the button, the command, and how far the last one is."""
    suffix = ".safetensors" if folder == "scores" else ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            f"Name in {folder}/", _free(folder, proposed, suffix), max_chars=80, key=f"{form}-name-{proposed}", **_HEARD
        ).strip()
        words, told = _place(form)
        output = f"{folder}/{name}{suffix}"
        command = [*command, *words, "-o", output]

        def begin() -> None:
            workspace = resources.workspace()
            workspace.new(folder, name, suffix)  # refuses names that are none or taken, and a demonstration
            started = jobs.submit(workspace.path, [*command, "--json"], output=output, **told)
            st.session_state[_JOB.format(form)] = started.job.id

        st.button(label, type="primary", key=f"{form}-start", disabled=not ready, on_click=shell.guarded(begin))
    if ready:
        st.code(shlex.join(command), language="bash", wrap_lines=True)
    else:
        st.caption("Put a text, JSONL or Parquet file into corpora/ of the workspace, then reload the page.")
    if job := st.session_state.get(_JOB.format(form)):
        following.follow(job, f"{form}-stop")


def _place(form: str) -> tuple[list[str], dict[str, Any]]:
    """The command's words, and what `submit` is told, about where it runs; a choice where there is one."""
    try:
        places = _places()
    except JobError as error:  # the person's jobs.yaml; nothing else on the page depends on it
        st.caption(str(error))
        return [], {}
    chosen = next(iter(places))
    if len(places) > 1:
        chosen = st.selectbox("Runs on", places, key=f"{form}-place", **_HEARD)
    return places[chosen]


def _places() -> dict[str, tuple[list[str], dict[str, Any]]]:
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}
    if config.local_limits().gpus:
        found["one GPU of this machine"] = ["--device", "cuda"], {"gpus": 1}
    found["this machine's processor"] = [], {}
    for engine in config.engines_here()[1:]:
        found[engine] = ["--device", "auto"], {"engine": engine}
    return found


def _corpus(place, label: str, key: str, optional: bool = False, about: tuple[str, ...] = ()) -> str | None:
    """One of corpora/; at first one that has a word of `about` in its name."""
    folder = resources.workspace().path / "corpora"
    found = [f"corpora/{path.name}" for path in sorted(folder.glob("*")) if path.suffix.lower() in _CORPORA]
    options = [_NONE, *found] if optional else found
    first = next((i for i, path in enumerate(options) if any(word in path for word in about)), 0)
    return place.selectbox(
        label, options, first, lambda path: path.removeprefix("corpora/") or "none", key=key, **_HEARD
    )


def _answers_only(corpus: str | None, form: str) -> list[str]:
    """The switch for corpora whose documents can have a prompt and an answer."""
    if not corpus or corpus.endswith(".txt"):
        return []
    on = st.toggle("Only the answers count", key=f"{form}-answers", **_HEARD)
    return ["--answers-only"] if on else []


def _trained(recipe: Recipe) -> list[str]:
    """Models that came from the recipe's base; those that the recipe names first."""
    base = resources.model_entry(recipe.base)
    named = [ability.ability for ability in recipe.abilities.values()]
    fitting = [
        entry.path
        for entry in resources.models()
        if entry.kind in ("checkpoint", "adapter")
        and entry.path != recipe.base
        and not (base and resources.misfit(base, entry))
    ]
    return sorted(fitting, key=lambda path: path not in named)


def _stem(source: str | None) -> str:
    return Path(source).stem if source else "new"


def _free(folder: str, name: str, suffix: str) -> str:
    taken = {path.name for path in (resources.workspace().path / folder).iterdir()}
    numbered = (name if i == 1 else f"{name}-{i}" for i in count(1))
    return next(tried for tried in numbered if f"{tried}{suffix}" not in taken)
