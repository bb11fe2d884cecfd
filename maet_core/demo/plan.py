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

    With `k1`, only the key neurons of an ability train, that share of all in percent; see `PROBE`.
    """

    name: str
    mix: Mix
    phases: tuple[TrainingOptions, ...]
    k1: float | None = None
    ability: str = ""  # whose key neurons

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
        ("general", "es"): 0.10,
        ("general", "zh"): 0.05,
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
    (TrainingOptions(steps=10000, learning_rate=3e-3, batch_rows=32, warmup_steps=100, weight_decay=0.05),),
)
PROBE = Sample(batches=40, rows=8, row_tokens=128, answers_only=True)
PROBE_LEARNING_RATE = 1e-3
K1 = 20.0
ENGLISH_MIX: Mix = {("general", "en"): 1 - SCIENCE, ("general science", "en"): SCIENCE}
# What an ability is taught with: problems in English, and some general text about the same things.
ABILITIES: dict[str, Mix] = {
    "math": {("problem", "en"): 0.85, ("general", "en"): 0.15},
    "science": {("science problem", "en"): 0.85, ("general science", "en"): 0.15},
}


# So few that the ability stays language-agnostic: from there on English gains little, and the other languages lose.
ABILITY_STEPS = 100
SOURCE_LANGUAGE_STEPS = 100


def _ability(ability: str, name: str, k1: float | None) -> Stage:
    return Stage(
        f"{ability}-{name}",
        ABILITIES[ability],
        (TrainingOptions(steps=ABILITY_STEPS, learning_rate=1e-3, batch_rows=8, warmup_steps=25, answers_only=True),),
        k1,
        ability,
    )


def _source_language(name: str, ability: str = "", k1: float | None = None) -> Stage:
    phase = TrainingOptions(steps=SOURCE_LANGUAGE_STEPS, learning_rate=3e-4, batch_rows=8, warmup_steps=20)
    return Stage(f"general-{name}", ENGLISH_MIX, (phase,), k1, ability)


LANGUAGE_PHASES = (TrainingOptions(steps=1600, learning_rate=1e-3, batch_rows=8, warmup_steps=40),)
STAGES = (
    BASE,
    *(_ability(ability, "en", K1) for ability in ABILITIES),
    _source_language("en"),
    *(_ability(ability, "full", None) for ability in ABILITIES),
    *(Stage(f"lang-{code}", _language_mix(code), LANGUAGE_PHASES) for code in LOW_RESOURCE),
)


def in_random_neurons(ability: str) -> list[Stage]:
    """For `maet demo results` only: the ability in neurons that chance has chosen."""
    return [_ability(ability, "random", K1), _source_language(f"{ability}-random", ability, K1)]


def f_cpt(ability: str) -> Stage:
    """For `maet demo results` only: the ability and all languages in one training, of as many tokens as what is merged has read."""
    problems = next(iter(ABILITIES[ability]))
    languages = [_language_mix(code) for code in LOW_RESOURCE]
    known = {("general", "en"): 0.05, ("general", "es"): 0.05, ("arithmetic",): 0.13, ("larger and smaller",): 0.04}
    everything = {problems: 0.2} | known
    for code, mix in zip(LOW_RESOURCE, languages, strict=True):
        everything |= {kind: 0.2 * share for kind, share in mix.items() if code in kind}
    steps = ABILITY_STEPS + SOURCE_LANGUAGE_STEPS + len(LOW_RESOURCE) * LANGUAGE_PHASES[0].steps
    phase = TrainingOptions(steps=steps, learning_rate=1e-3, batch_rows=8, warmup_steps=50)
    return Stage(f"{ability}-f-cpt", everything, (phase,))


CORPORA: dict[str, Mix] = {
    "base": BASE.mix,
    **{f"{ability}-en": mix for ability, mix in ABILITIES.items()},
    **{f"general-{code}": {("general", code): 1 - SCIENCE, ("general science", code): SCIENCE} for code in _ALL},
    **{f"lang-{code}": _language_mix(code) for code in LOW_RESOURCE},
}


def _languages(mu: float) -> dict[str, dict]:
    return {code: {"checkpoint": f"../models/lang-{code}", "mu": mu} for code in LOW_RESOURCE}


def _maet(ability: str, gamma: float) -> dict:
    return {
        "ability": f"../models/{ability}-en",
        "source_language": "../models/general-en",
        "alpha": 1.0,
        "beta": 0.3,
        "key_neurons": {"method": "probe", "k1": K1, "scores": f"../scores/{ability}.safetensors"},
        "gamma": gamma,
        "tensors": {"k2": 80.0},
    }


# γ and μ of each, chosen on the first 100 development problems: `merge` is MAET, `task vectors` plain.
TUNED = {
    "math": {"merge": (1.4, 0.3), "task vectors": (1.0, 0.3)},
    "science": {"merge": (1.4, 0.4), "task vectors": (1.0, 0.4)},
}


def maet(ability: str) -> dict:
    """The recipe that is shipped for an ability."""
    gamma, mu = TUNED[ability]["merge"]
    return {"base": "../models/base", "abilities": {ability: _maet(ability, gamma)}, "languages": _languages(mu)}


def task_vectors(ability: str) -> dict:
    """Plain task vectors, tuned on the same development problems, with as many tries."""
    gamma, mu = TUNED[ability]["task vectors"]
    full = {"ability": f"../models/{ability}-full", "gamma": gamma}
    return {"base": "../models/base", "abilities": {ability: full}, "languages": _languages(mu)}


RECIPES = {"demo": maet("math"), "science": maet("science")}
