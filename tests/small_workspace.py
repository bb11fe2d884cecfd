"""A workspace of tiny random models with a tokenizer, a recipe and questions: enough for every page of the app, made in a second.

The numbers mean nothing; what the models say is noise. Tests about what the demo models can do use assets/demo.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

LAYERS = 3
RECIPE = """\
base: ../models/base
abilities:
  math:
    ability: ../models/math-en
    source_language: ../models/general-en
    alpha: 1.0
    beta: 0.5
    key_neurons: {method: value-change, k1: 5.0, granularity: parameter, scope: global}
    gamma: 1.0
    tensors: {k2: 80.0}
languages:
  sw: {checkpoint: ../models/lang-sw, mu: 0.5}
  bn: {checkpoint: ../models/lang-bn, mu: 0.5}
eta: 1.0
"""
QUESTIONS = {
    "en": "Asha has {} mangoes and buys 4 more. How many has she?",
    "sw": "Asha ana maembe {} na ananunua 4 zaidi. Ana mangapi?",
    "bn": "আশার {}টি আম আছে, সে আরও 4টি কেনে। তার কয়টি আছে?",
}


def build_workspace(folder: Path, scale: int = 1) -> Path:
    """`scale` makes the models wider."""
    for name in ("models", "packs", "scores", "recipes", "tasks", "runs"):
        (folder / name).mkdir(parents=True)
    (folder / "recipes" / "demo.yaml").write_text(RECIPE)
    rows = [row(number, language) for number in range(3) for language in QUESTIONS]
    (folder / "tasks" / "math.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    tokenizer = byte_tokenizer()
    base = transformers.LlamaForCausalLM(config(len(tokenizer), hidden_size=32 * scale, intermediate_size=48 * scale))
    generator = torch.Generator().manual_seed(0)
    for name, scale in {"base": 0.0, "math-en": 0.02, "general-en": 0.01, "lang-sw": 0.02, "lang-bn": 0.02}.items():
        save(base, generator, scale, folder / "models" / name, tokenizer)
    return folder


def config(vocabulary: int, **changes) -> transformers.LlamaConfig:
    torch.manual_seed(0)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return transformers.LlamaConfig(**settings | changes)


def save(base, generator: torch.Generator, scale: float, folder: Path, tokenizer) -> None:
    """The base with normal noise of size `scale` on every weight, in bfloat16."""
    state = {
        name: (value + scale * torch.randn(value.shape, generator=generator)).to(torch.bfloat16)
        for name, value in base.state_dict().items()
    }
    model = transformers.LlamaForCausalLM(base.config).to(torch.bfloat16)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a byte: every Bengali letter takes three."""
    letters = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def row(number: int, language: str) -> dict:
    question = QUESTIONS[language].format(number + 3)
    content = {
        "id": f"test-{number:03d}-{language}",
        "language": language,
        "split": "test",
        "question": question,
        "prompt": f"Q: {question}\nA:",
        "answer": str(number + 7),
        "worked": f"{number + 3} + 4 = {number + 7} #### {number + 7}",
    }
    return content if language == "en" else content | {"gloss": QUESTIONS["en"].format(number + 3)}
