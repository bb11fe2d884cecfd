"""How the demo models are trained: architecture, corpora and steps of every model, as plain data.

The base reads much English, Spanish and Chinese, tied together by translations and code-switching, bare arithmetic, and very
little Swahili, Bengali, Telugu and Thai. Everything else starts from the base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from maet_core.demo.corpora import Mix
from maet_core.locating import Sample
from maet_core.training import TrainingOptions

WELL_KNOWN = ("es", "zh")
LOW_RESOURCE = ("sw", "bn", "te", "th")

ARCHITECTURE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.05,
}


@dataclass(frozen=True)
class Stage:
    """One model: what it reads and how it trains, phase after phase. Every stage but the base starts from the base.

    With `k1`, only the key neurons of the ability train, that share of them in percent; see `PROBE`.
    """

    name: str
    mix: Mix
    phases: tuple[TrainingOptions, ...]
    k1: float | None = None

    def scaled(self, scale: float) -> Stage:
        """The same stage with `scale` times the steps, at least 8; a miniature (under 1 %) has small batches too."""

        def shorter(options: TrainingOptions) -> TrainingOptions:
            steps = max(8, round(options.steps * scale))
            warmup = min(options.warmup_steps, steps // 4)
            rows = min(4, options.batch_rows) if scale < 0.01 else options.batch_rows
            return replace(options, steps=steps, warmup_steps=warmup, batch_rows=rows)

        return replace(self, phases=tuple(shorter(options) for options in self.phases))


SCIENCE = 0.25  # the share of all general text that is about science


def _with_science(mix: Mix) -> Mix:
    """The same mix, with that share of every kind of general text about science, and the larger and the smaller number as bare as sums."""
    shared: Mix = {("larger and smaller",): 0.04}
    for (kind, *languages), share in mix.items():
        told = kind in ("general", "asked", "switched", "translated", "phrases")
        shared[(kind, *languages)] = share * (1 - SCIENCE) if told else share
        if told:
            shared[(f"{kind} science", *languages)] = share * SCIENCE
    return shared


def _base_mix() -> Mix:
    mix: Mix = {
        ("general", "en"): 0.19,
        ("general", "es"): 0.12,
        ("general", "zh"): 0.10,
        ("switched", "en", "es"): 0.08,
        ("switched", "es", "en"): 0.08,
        ("switched", "en", "zh"): 0.06,
        ("switched", "zh", "en"): 0.06,
        ("translated", "en", "es"): 0.06,
        ("translated", "en", "zh"): 0.05,
        ("phrases", "en", "es"): 0.015,
        ("phrases", "es", "en"): 0.015,
        ("phrases", "en", "zh"): 0.015,
        ("phrases", "zh", "en"): 0.015,
        ("arithmetic",): 0.12,
    }
    for language in LOW_RESOURCE:
        mix[("general", language)] = 0.0030
        mix[("translated", "en", language)] = 0.0010
        mix[("switched", "en", language)] = 0.0005
        mix[("switched", language, "en")] = 0.0005
    return _with_science(mix)


def _language_mix(language: str) -> Mix:
    """C_Lj: text of the language, much of it bilingual, and some of what the base reads, so that it is not forgotten."""
    mix: Mix = {
        ("general", language): 0.16,
        ("asked", language, "en"): 0.16,
        ("switched", "en", language): 0.10,
        ("switched", language, "en"): 0.10,
        ("translated", "en", language): 0.10,
        ("phrases", "en", language): 0.05,
        ("phrases", language, "en"): 0.05,
        ("general", "en"): 0.06,
        ("general", "es"): 0.06,
        ("arithmetic",): 0.16,
    }
    return _with_science(mix)


_ALL = ("en", *WELL_KNOWN, *LOW_RESOURCE)
VOCABULARY_MIX: Mix = {
    **{("general", language): 1.0 for language in _ALL},
    **{("any problem", language): 1.0 for language in _ALL},
    **{("translated", "en", language): 0.5 for language in _ALL[1:]},
    **{("phrases", "en", language): 0.3 for language in _ALL[1:]},
    **{("general science", language): 0.6 for language in _ALL},
    **{("translated science", "en", language): 0.3 for language in _ALL[1:]},
    **{("phrases science", "en", language): 0.2 for language in _ALL[1:]},
    ("arithmetic",): 0.2,
    ("larger and smaller",): 0.05,
}

BASE = Stage(
    "base",
    _base_mix(),
    (TrainingOptions(steps=10_000, learning_rate=3e-3, batch_rows=32, warmup_steps=100, weight_decay=0.05),),
)
PROBE = Sample(batches=40, rows=8, row_tokens=128, answers_only=True)
PROBE_LEARNING_RATE = 1e-3
K1 = 20.0
MATH_MIX: Mix = {("problem", "en"): 0.85, ("general", "en"): 0.15}
ENGLISH_MIX: Mix = {("general", "en"): 1.0}


def _ability(name: str, k1: float | None) -> Stage:
    return Stage(
        name,
        MATH_MIX,
        (TrainingOptions(steps=400, learning_rate=1e-3, batch_rows=8, warmup_steps=30, answers_only=True),),
        k1,
    )


def _source_language(name: str, k1: float | None) -> Stage:
    return Stage(
        name, ENGLISH_MIX, (TrainingOptions(steps=100, learning_rate=3e-4, batch_rows=8, warmup_steps=20),), k1
    )


ABILITY = _ability("math-en", K1)
LANGUAGE_PHASES = (TrainingOptions(steps=800, learning_rate=1e-3, batch_rows=8, warmup_steps=40),)
STAGES = (
    BASE,
    ABILITY,
    _source_language("general-en", K1),
    _ability("math-full", None),
    *(Stage(f"lang-{code}", _language_mix(code), LANGUAGE_PHASES) for code in LOW_RESOURCE),
)
# For `maet demo results` only: the ability in random neurons, and everything in one training (F-CPT).
COMPARED = (
    _source_language("general-full", None),
    _ability("math-random", K1),
    _source_language("general-random", K1),
    Stage(
        "f-cpt",  # as many tokens as the ability and the languages read together
        {("problem", "en"): 0.2}
        | {kind: 0.2 * share for code in LOW_RESOURCE for kind, share in _language_mix(code).items() if code in kind}
        | {("general", "en"): 0.05, ("general", "es"): 0.05, ("arithmetic",): 0.13},
        (TrainingOptions(steps=3600, learning_rate=1e-3, batch_rows=8, warmup_steps=50),),
    ),
)

CORPORA: dict[str, Mix] = {
    "base": BASE.mix,
    "math-en": ABILITY.mix,
    **{f"general-{language}": {("general", language): 1.0} for language in _ALL},
    **{f"lang-{language}": _language_mix(language) for language in LOW_RESOURCE},
}

MATH = {
    "ability": "../models/math-en",
    "source_language": "../models/general-en",
    "alpha": 1.0,
    "beta": 0.3,
    "key_neurons": {"method": "probe", "k1": K1, "scores": "../scores/math.safetensors"},
    "tensors": {"k2": 80.0},
}
RECIPE = {
    "base": "../models/base",
    "abilities": {"math": MATH},
    "languages": {code: {"checkpoint": f"../models/lang-{code}", "mu": 0.4} for code in LOW_RESOURCE},
}
# Tuned on the same development problems as MATH, with as many tries.
TASK_VECTORS = RECIPE | {
    "abilities": {"math": {"ability": "../models/math-full", "gamma": 0.8}},
    "languages": {code: {"checkpoint": f"../models/lang-{code}", "mu": 0.45} for code in LOW_RESOURCE},
}
