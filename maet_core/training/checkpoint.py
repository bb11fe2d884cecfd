"""`maet train`: a base and a corpus in, a trained checkpoint out. Whole or not at all; a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash

import maet_core
from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError, OutputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.progress import Halted, Progress
from maet_core.resident import load_model, load_tokenizer
from maet_core.training.loop import train
from maet_core.training.options import LoraOptions, StepReport, TrainingOptions, TrainingReport
from maet_core.training.parameters import KeyNeuronParameters, parameters_by_name
from maet_core.training.placement import Stretch, stretches
from maet_core.training.processes import Processes
from maet_core.training.saving import save_like_base
from maet_core.training.sharding import load_sharded
from maet_core.training.state import TrainingState
from maet_core.training.tokens import TokenStore, store_tokens
from maet_core.unfinished import begun, beside

if TYPE_CHECKING:
    from maet_core.training.lora import Adapter

# Of a corpus that never ends no more is read than this many times what the training uses: enough for a good shuffle.
_CORPUS_SHARE = 4


@dataclass(frozen=True)
class What:
    """What trains: everything that the options name; or these key neurons alone; or all, and everything outside them is put
    back to the base's values at the end (`revert`); or an adapter."""

    keys: KeyNeurons | None = None
    revert: bool = False
    lora: LoraOptions | None = None

    @property
    def only_keys(self) -> KeyNeurons | None:
        return None if self.revert else self.keys

    def check(self) -> None:
        if self.revert and self.keys is None:
            raise InputError("--revert: puts back what is outside the key neurons, so --key-neurons is needed")
        if self.lora and self.keys is not None:
            raise InputError("--lora: trains an adapter, not key neurons; leave --lora or --key-neurons out")

    def told(self) -> dict[str, Any]:
        keys = self.keys
        return {
            "key_neurons": keys
            and {"k1": keys.k1, "scope": keys.scope, "count": keys.count, "of": keys.total, "revert": self.revert},
            "lora": self.lora and asdict(self.lora),
        }


def train_checkpoint(
    base: Checkpoint,
    documents: Iterable[tuple[str, str]],
    options: TrainingOptions,
    output: str | Path,
    keys: KeyNeurons | None = None,
    revert: bool = False,
    save_every_steps: int = 100,
    progress: Callable[[StepReport], None] | None = None,
    *,
    lora: LoraOptions | None = None,
    processes: Processes | None = None,
    corpus_key: str = "",
    reading: Progress | None = None,
    halted: Halted | None = None,
) -> dict[str, Any]:
    """Trains the base on (prompt, answer) documents and writes the new directory `output` in the base's names and dtypes, or, with
    `lora`, an adapter as PEFT saves it. What trains is float32 (float64 for a float64 base).

    `keys`: only these neurons train, and everything else keeps its bits; with `revert` everything trains, and what is outside them
    is put back at the end. The documents are read once, in a stream; with a `corpus_key` that says which they are, a run that goes
    on need not read them again. Returns what is also written as training.json: options, tokens, the loss of every step (nats per
    token). Raises OutputError if the output exists or is being trained, InputError for options that do not fit, Stopped when
    `halted`.
    """
    output, processes, what = Path(output), processes or Processes(), What(keys, revert, lora)
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another name or remove it first")
    what.check()
    processes.share(options.accumulate)
    output.parent.mkdir(parents=True, exist_ok=True)
    beginning = begun(output, "training", "training") if processes.first else nullcontext(beside(output, "training"))
    with beginning as folder:
        examples = _read(base, documents, options, folder / "corpus", processes, corpus_key, reading, halted)
        work = _work(base, examples.digest, options, what)
        adapter = _adapter(lora, base) if lora else None
        model, parts = _load(base, options, what, processes, adapter)
        trainable = None
        if adapter:
            adapter.start(options.seed)
            trainable = parameters_by_name(model, processes.sharded, adapter.NAMES)
        elif what.only_keys is not None:
            trainable = KeyNeuronParameters(model, base, what.only_keys, parts)
        state = TrainingState(folder, work, save_every_steps, processes)
        report = train(model, examples, options, progress, trainable, state, processes, halted)
        if revert:
            _put_back(base, parts, keys)
        text = json.dumps(_told(base, examples, options, what, processes, report), indent=1) + "\n"
        notes = {"training.json": text}
        if adapter:
            adapter.save(output, notes, writes=processes.first)
        else:
            save_like_base(base, parts, output, notes, writes=processes.first)
        processes.wait()
    return json.loads(text)


def _read(
    base: Checkpoint,
    documents: Iterable[tuple[str, str]],
    options: TrainingOptions,
    folder: Path,
    processes: Processes,
    key: str,
    reading: Progress | None,
    halted: Halted | None,
) -> TokenStore:
    """The corpus as token ids beside the output; the first process makes it."""
    most = _CORPUS_SHARE * options.steps * options.accumulate * options.batch_rows * options.row_tokens
    if processes.first:
        tokenizer = load_tokenizer(base)
        key = key and json.dumps([base.identity, key, most])
        store_tokens(folder, tokenizer, documents, most, key, reading, halted)
    processes.wait()
    return TokenStore(folder)


def _load(
    base: Checkpoint, options: TrainingOptions, what: What, processes: Processes, adapter: Adapter | None
) -> tuple[torch.nn.Module, dict[str, Stretch]]:
    """The model in the dtype that it trains in, and where the checkpoint's tensors lie in it.

    In bf16, weights that do not train need not be wider than they are: key neurons and adapters have float32 of their own.
    """
    stored = {info.dtype for info in base.tensors.values() if info.mergeable}
    dtype = torch.promote_types(max(stored, key=lambda dtype: dtype.itemsize), torch.float32)
    if options.bf16 and stored == {torch.bfloat16} and (what.lora or what.only_keys is not None):
        dtype = torch.bfloat16
    if processes.sharded:
        return load_sharded(base, dtype, processes, options.bf16, adapter and adapter.put_into)
    model = load_model(base)
    parts = stretches(model, base)  # while the values are those of the file, which a guess is held against
    model.to(device=processes.device, dtype=dtype)
    if adapter:
        adapter.put_into(model)
    return model, parts


def _adapter(options: LoraOptions, base: Checkpoint) -> Adapter:
    from maet_core.training.lora import Adapter  # PEFT's import takes longer than a short training

    return Adapter(options, base.source)


def _told(
    base: Checkpoint,
    examples: TokenStore,
    options: TrainingOptions,
    what: What,
    processes: Processes,
    report: TrainingReport,
) -> dict[str, Any]:
    trained = report.trained_parameters
    return {
        "base": base.source,
        "base_identity": base.identity,
        "documents": len(examples),
        "corpus_tokens": examples.tokens,
        "options": asdict(options),
        **what.told(),
        "processes": processes.count,
        "sharded": processes.sharded,
        "trained_parameters": int(processes.sum([trained])[0]) if processes.sharded else trained,
        "tokens": report.tokens,
        "seconds": round(report.seconds, 1),
        "losses": [round(loss, 5) for loss in report.losses],
        "maet_version": maet_core.__version__,
    }


@torch.no_grad()
def _put_back(base: Checkpoint, parts: dict[str, Stretch], keys: KeyNeurons) -> None:
    """Every value outside the key neurons as it is in the base (train-then-revert)."""
    for name, part in parts.items():
        values = part.values
        kept = base.read(name, part.start, part.stop).to(values)
        if keys.counts.get(name):
            kept = torch.where(keys.mask(name, part.start, part.stop).to(kept.device), values, kept)
        values.copy_(kept)


def _work(base: Checkpoint, corpus: str, options: TrainingOptions, what: What) -> str:
    """What is trained on what: a state on disk belongs to exactly this."""
    keys = what.keys and (what.keys.k1, what.keys.scope, sorted(what.keys.counts.items()))
    text = repr((base.identity, corpus, options, keys, what.revert, what.lora))
    return xxhash.xxh3_128_hexdigest(text.encode())
