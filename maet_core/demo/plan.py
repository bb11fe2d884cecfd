"""How the demo models are trained: architecture, corpora and steps of every model, as plain data.

The base reads much English and Spanish, tied together by translations and code-switching, bare arithmetic, and very
little Swahili and Bengali. Everything else starts from the base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from maet_core.demo.corpora import Mix
from maet_core.training import TrainingOptions

LOW_RESOURCE = ("sw", "bn")

ARCHITECTURE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
}


@dataclass(frozen=True)
class Stage:
    """One model: what it reads and how it trains. Every stage but the base starts from the base."""

    name: str
    mix: Mix
    options: TrainingOptions

    def scaled(self, scale: float) -> Stage:
        """The same stage with `scale` times the steps, at least 8; a miniature (under 1 %) has small batches too."""
        steps = max(8, round(self.options.steps * scale))
        warmup = min(self.options.warmup_steps, steps // 4)
        rows = min(4, self.options.batch_rows) if scale < 0.01 else self.options.batch_rows
        return replace(self, options=replace(self.options, steps=steps, warmup_steps=warmup, batch_rows=rows))


def _base_mix() -> Mix:
    mix: Mix = {
        ("general", "en"): 0.26,
        ("general", "es"): 0.18,
        ("switched", "en", "es"): 0.10,
        ("switched", "es", "en"): 0.10,
        ("translated", "en", "es"): 0.10,
        ("arithmetic",): 0.14,
    }
    for language in LOW_RESOURCE:
        mix[("general", language)] = 0.0040
        mix[("translated", "en", language)] = 0.0010
        mix[("switched", "en", language)] = 0.0005
        mix[("switched", language, "en")] = 0.0005
    return mix


def _language_mix(language: str) -> Mix:
    """C_Lj: text of the language, a part of it bilingual, and bare arithmetic so that the base's is not forgotten."""
    return {
        ("general", language): 0.32,
        ("switched", "en", language): 0.16,
        ("switched", language, "en"): 0.16,
        ("translated", "en", language): 0.12,
        ("general", "en"): 0.04,
        ("arithmetic",): 0.20,
    }


VOCABULARY_MIX: Mix = {
    **{("general", language): 1.0 for language in ("en", "es", *LOW_RESOURCE)},
    **{("any problem", language): 1.0 for language in ("en", "es", *LOW_RESOURCE)},
    **{("translated", "en", language): 0.5 for language in ("es", *LOW_RESOURCE)},
    ("arithmetic",): 0.2,
}

BASE = Stage(
    "base",
    _base_mix(),
    TrainingOptions(steps=4000, learning_rate=3e-3, warmup_steps=100, weight_decay=0.05),
)
# Only MLP weights: where the ability is trained decides whether it reaches other languages.
ABILITY = Stage(
    "math-en",
    {("problem", "en"): 0.85, ("general", "en"): 0.15},
    TrainingOptions(
        steps=400, learning_rate=1e-3, batch_rows=8, warmup_steps=30, answers_only=True, trainable=("*.mlp.*",)
    ),
)
SOURCE_LANGUAGE = Stage(
    "general-en",
    {("general", "en"): 1.0},
    TrainingOptions(steps=100, learning_rate=3e-4, batch_rows=8, warmup_steps=20),
)
STAGES = (
    BASE,
    ABILITY,
    SOURCE_LANGUAGE,
    *(
        Stage(
            f"lang-{language}",
            _language_mix(language),
            TrainingOptions(steps=600, learning_rate=6e-4, batch_rows=8, warmup_steps=30),
        )
        for language in LOW_RESOURCE
    ),
)

CORPORA: dict[str, Mix] = {
    "base": BASE.mix,
    "math-en": ABILITY.mix,
    **{f"general-{language}": {("general", language): 1.0} for language in ("en", "es", *LOW_RESOURCE)},
    **{f"lang-{language}": _language_mix(language) for language in LOW_RESOURCE},
}

MATH = {
    "ability": "../models/math-en",
    "source_language": "../models/general-en",
    "alpha": 1.0,
    "beta": 0.3,
    "key_neurons": {"method": "value-change", "k1": 50.0},
    "tensors": {"k2": 100.0},
}
RECIPE = {
    "base": "../models/base",
    "abilities": {"math": MATH},
    "languages": {language: {"checkpoint": f"../models/lang-{language}", "mu": 0.35} for language in LOW_RESOURCE},
}
TASK_VECTORS = RECIPE | {"abilities": {"math": {"ability": "../models/math-en"}}}
