"""`maet train`: a base and a corpus in, a trained checkpoint out. Whole or not at all; a killed run goes on where it was."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import xxhash

import maet_core
from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError, OutputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.resident import load_model, load_tokenizer, parameter_slots
from maet_core.training.loop import train
from maet_core.training.options import StepReport, TrainingOptions
from maet_core.training.packing import Example, tokenize
from maet_core.training.parameters import KeyNeuronParameters
from maet_core.training.saving import save_checkpoint
from maet_core.training.state import TrainingState


def train_checkpoint(
    base: Checkpoint,
    documents: Sequence[tuple[str, str]],
    options: TrainingOptions,
    output: str | Path,
    keys: KeyNeurons | None = None,
    revert: bool = False,
    save_every_steps: int = 100,
    device: str = "cpu",
    progress: Callable[[StepReport], None] | None = None,
) -> dict[str, Any]:
    """Trains the base on (prompt, answer) documents, in float32, and writes the new directory `output` in the base's dtype.

    `keys`: only these neurons train, and everything else keeps its bits; with `revert` everything trains, and what is outside them
    is put back to the base's values at the end. Returns what is also written as training.json: options, tokens, the loss of every
    step (nats per token). Raises OutputError if the output exists or is being trained, InputError for options that do not fit.
    """
    output = Path(output)
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another name or remove it first")
    if revert and keys is None:
        raise InputError("--revert: puts back what is outside the key neurons, so --key-neurons is needed")
    if not documents:
        raise InputError("the corpus is empty")
    output.parent.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        tokenizer, model = load_tokenizer(base), load_model(base, device)
        dtype = next(iter(model.parameters())).dtype
        model.float()
        examples = tokenize(tokenizer, documents)
        state = TrainingState(
            _beside(output, "safetensors"), _work(base, examples, options, keys, revert), save_every_steps
        )
        only_keys = KeyNeuronParameters(model, base, keys) if keys is not None and not revert else None
        report = train(model, examples, options, progress, only_keys, state)
        if revert:
            _put_back(model, base, keys)
        told = {
            "base": base.source,
            "base_identity": base.identity,
            "documents": len(documents),
            "options": asdict(options),
            "key_neurons": keys
            and {"k1": keys.k1, "scope": keys.scope, "count": keys.count, "of": keys.total, "revert": revert},
            "trained_parameters": report.trained_parameters,
            "tokens": report.tokens,
            "seconds": round(report.seconds, 1),
            "losses": [round(loss, 5) for loss in report.losses],
            "maet_version": maet_core.__version__,
        }
        text = json.dumps(told, indent=1) + "\n"
        save_checkpoint(model.cpu(), tokenizer, output, dtype, {"training.json": text})
        state.path.unlink(missing_ok=True)
    return json.loads(text)


@torch.no_grad()
def _put_back(model: torch.nn.Module, base: Checkpoint, keys: KeyNeurons) -> None:
    """Every value outside the key neurons as it is in the base (train-then-revert)."""
    for name, slot in parameter_slots(model, base, check=False).items():
        kept = base.read(name).to(slot.values)
        if keys.counts.get(name):
            mask = keys.mask(name).reshape(kept.shape).to(kept.device)
            kept = torch.where(mask, slot.values, kept)
        slot.values.copy_(kept)


def _work(
    base: Checkpoint, examples: Sequence[Example], options: TrainingOptions, keys: KeyNeurons | None, revert: bool
) -> str:
    """What is trained on what: a state on disk belongs to exactly this."""
    state = xxhash.xxh3_128(base.identity.encode())
    for example in examples:
        state.update(repr(example).encode())
    state.update(repr((options, revert, keys and (keys.k1, keys.scope, sorted(keys.counts.items())))).encode())
    return state.hexdigest()


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """One training a directory; the kernel's lock ends with the process, however that ends."""
    path = _beside(output, "lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{output}: another process is training it now; wait for it, or choose another name"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _beside(output: Path, suffix: str) -> Path:
    return output.parent / f".{output.name}.training.{suffix}"
