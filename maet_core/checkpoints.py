"""A model's weights on disk: names, shapes, dtypes and slices, without building the model.

Only safetensors are read. A directory may hold one file or shards with an index; a hub id is found through the hub's own
cache. Pickled weights are refused: opening one can run code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from maet_core.anatomy import Anatomy, read_anatomy
from maet_core.errors import CheckpointError
from maet_core.remembered import stamps
from maet_core.safetensors_file import SafetensorsFile, TensorInfo, read_header
from maet_core.scratch import Memory

INDEX_FILE = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Everything beside the weights that transformers needs to open the directory; never weights, never code.
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.*",
    "preprocessor_config.json",
    "processor_config.json",
)
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")
# Constants that older software stored beside the weights; a sibling that lacks them still fits.
_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias)$")
_PREFIXES = ("transformer.", "model.", "gpt_neox.")
_CHUNK = 1 << 20  # elements that are compared at once

if TYPE_CHECKING:
    import numpy as np
    import torch


class Checkpoint:
    """A model on disk. `tensors` maps names to `TensorInfo`, sorted by name; nothing is read until asked for."""

    def __init__(self, source: str, path: Path, config: dict, files: list[SafetensorsFile], names: Mapping[str, Path]):
        self.source = source
        self.path = path
        self.config = config
        self._files = {file.path: file for file in files}
        self.tensors = {name: self._files[names[name]].tensors[name] for name in sorted(names)}

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Opens a directory, a single `.safetensors` file or a hub id (`org/name[@revision]`).

        Raises CheckpointError when a shard is missing or cut short, a tensor of the index is in no shard, the weights are
        pickled or quantized, or nothing is there.
        """
        path = locate_model(source)
        if path.is_file():
            if path.suffix != ".safetensors":
                raise _pickle_error(path)
            file = SafetensorsFile(path)
            return cls(str(source), path, {}, [file], dict.fromkeys(file.tensors, path))
        if is_adapter(path):
            raise CheckpointError(
                f"{path}: this is an adapter, not a whole model; name it as an ability or a language, with its base as `base`"
            )
        config = _read_json(path / "config.json") if (path / "config.json").exists() else {}
        if "quantization_config" in config:
            raise CheckpointError(
                f"{path}: config.json has a quantization_config; merging needs the weights in 16 bits or more: use the unquantized model"
            )
        names = _weight_map(path)
        files = {file: SafetensorsFile(file) for file in sorted(set(names.values()))}
        for name, file in names.items():
            if name not in files[file].tensors:
                raise CheckpointError(
                    f"{file}: tensor {name} is in {INDEX_FILE} but not in this file; download the model again"
                )
        return cls(str(source), path, config, list(files.values()), names)

    @property
    def architecture(self) -> str:
        return (self.config.get("architectures") or [self.config.get("model_type", "unknown")])[0]

    @property
    def parameters(self) -> int:
        return sum(info.numel for info in self.tensors.values())

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors.values())

    @property
    def files(self) -> list[SafetensorsFile]:
        return list(self._files.values())

    @property
    def stamp(self) -> Any | None:
        """What tells, for JSON, that this is the same model as another time, without reading it; None if that cannot be told yet."""
        found = stamps(file.path for file in self.files)
        return None if found is None else [self.config, found]

    @cached_property
    def anatomy(self) -> Anatomy:
        return read_anatomy(self.config, {name: info.shape for name, info in self.tensors.items()})

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """As `SafetensorsFile.read`."""
        return self._files[self.tensors[name].file].read(name, start, stop)

    def values(self, name: str, start: int, stop: int, memory: Memory | None = None) -> np.ndarray:
        """As `SafetensorsFile.values`."""
        return self._files[self.tensors[name].file].values(name, start, stop, memory)

    def sample(self, name: str, run: int, every: int) -> np.ndarray | None:
        """As `SafetensorsFile.sample`."""
        return self._files[self.tensors[name].file].sample(name, run, every)

    @cached_property
    def identity(self) -> str:
        """`xxh3-` and 32 hex digits over the names, dtypes, shapes and bytes of all tensors.

        Copies share it however they are sharded; one changed bit makes another. It tells models apart, it is no signature.
        """
        digests: dict[str, str] = {}
        for file in self._files.values():
            digests |= file.tensor_digests()
        lines = "".join(
            f"{name}\t{info.code}\t{list(info.shape)}\t{digests[name]}\n" for name, info in self.tensors.items()
        )
        return "xxh3-" + xxhash.xxh3_128_hexdigest(lines.encode())

    def companions(self) -> list[Path]:
        """Config, tokenizer and generation settings: the files that make the weights a model."""
        if self.path.is_file():
            return []
        found = {file for pattern in COMPANIONS for file in self.path.glob(pattern) if file.is_file()}
        return sorted(found)

    @cached_property
    def tied_head(self) -> tuple[str, str] | None:
        """(head, embedding) when the config ties them and the embedding is stored; either may be the only one on disk."""
        text = self.config.get("text_config", {})
        if not self.config.get("tie_word_embeddings", text.get("tie_word_embeddings", True)):
            return None
        embeddings = [name for name, place in self.anatomy.places.items() if place.module == "embed_tokens"]
        if len(embeddings) != 1:
            return None
        heads = [
            name for name, place in self.anatomy.places.items() if place.kind == "head" and name.endswith("weight")
        ]
        return (heads[0] if heads else "lm_head.weight", embeddings[0])

    @cached_property
    def tied_copies(self) -> dict[str, str]:
        """{head: embedding} where the file stores a tied head once more: the copy follows the embedding in everything."""
        if self.tied_head is None or self.tied_head[0] not in self.tensors:
            return {}
        head, embedding = self.tied_head
        same_form = self.tensors[head].shape == self.tensors[embedding].shape
        # a config may say tied by default where the model is not: only equal values are a copy
        return {head: embedding} if same_form and _same_values(self, head, embedding) else {}


def match_tensors(base: Checkpoint, other: Checkpoint) -> dict[str, str]:
    """Maps every tensor of the base to its name in `other`.

    Names may differ by the prefix that transformers adds (`transformer.h.0…` and `h.0…`); tied heads may be stored or not;
    constant buffers may be absent. Anything else that differs raises CheckpointError and names tensor and shapes.
    """
    names = {name: found for name in base.tensors if (found := _counterpart(name, other)) is not None}
    for name, info in base.tensors.items():
        if name not in names:
            if _BUFFERS.search(name) or not info.mergeable:
                continue
            raise CheckpointError(
                f"{other.source}: tensor {name} of the base is missing; is it trained from {base.source}? "
                f"Found architecture {other.architecture}, the base is {base.architecture}"
            )
        found = other.tensors[names[name]]
        if found.shape != info.shape:
            raise CheckpointError(_shape_message(base, other, info, found))
        if info.mergeable and not found.mergeable:
            raise CheckpointError(
                f"{other.source}: tensor {name} is torch.{found.dtype_name}; only floating point of 16 bits or more can be merged"
            )
    for name in set(other.tensors) - set(names.values()):
        if _BUFFERS.search(name) or not other.tensors[name].mergeable:
            continue
        if other.tied_head and name == other.tied_head[0] and _same_values(other, name, other.tied_head[1]):
            continue
        raise CheckpointError(
            f"{other.source}: tensor {name} has no counterpart in the base {base.source}, so what was learned there would be lost"
        )
    return names


def is_adapter(path: Path) -> bool:
    return (path / "adapter_config.json").is_file()


def locate_model(source: str | Path) -> Path:
    """The local path of a directory, file or hub id; a hub id is downloaded into the hub's cache if it is not there yet."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    text = str(source)
    if not _HUB_ID.match(text) or text.startswith("."):
        raise CheckpointError(f"{text}: no such folder or file, and not a hub id (org/name)")
    from huggingface_hub import snapshot_download

    repository, _, revision = text.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=["*.safetensors", INDEX_FILE, "adapter_config.json", *COMPANIONS],
            )
        )
    except Exception as error:  # the hub client raises many kinds, and all mean the same to the user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{text}: no such folder here, and as a hub id it could not be had ({reason[:160]}); check the path, or download the model first"
        ) from error


def _weight_map(path: Path) -> dict[str, Path]:
    index = path / INDEX_FILE
    if index.exists():
        mapping = _read_json(index).get("weight_map")
        if not isinstance(mapping, dict) or not mapping:
            raise CheckpointError(f"{index}: no weight_map; download the model again")
        for name, file in mapping.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise CheckpointError(f"{index}: tensor {name} points outside the model's folder ({file!r})")
        missing = sorted({file for file in mapping.values() if not (path / file).exists()})
        if missing:
            raise CheckpointError(f"{path}: shard {missing[0]} is missing (named in {INDEX_FILE}); download it again")
        return {name: path / file for name, file in mapping.items()}
    single = path / "model.safetensors"
    candidates = [single] if single.exists() else sorted(path.glob("*.safetensors"))
    if len(candidates) == 1:
        return dict.fromkeys(read_header(candidates[0])[0], candidates[0])
    if candidates:
        raise CheckpointError(
            f"{path}: several safetensors files and no {INDEX_FILE}; it is needed to know which tensor is where"
        )
    pickles = [file for file in sorted(path.iterdir()) if file.suffix in PICKLES]
    if pickles:
        raise _pickle_error(pickles[0])
    raise CheckpointError(f"{path}: no safetensors file here; is this a model's folder?")


def _pickle_error(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: not safetensors; pickled weights are never opened, because that can run code: save the model with save_pretrained first"
    )


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _same_values(checkpoint: Checkpoint, first: str, second: str) -> bool:
    """Whether two tensors hold the same numbers, in one shape and one dtype."""
    one, two = checkpoint.tensors[first], checkpoint.tensors[second]
    if (one.shape, one.code) != (two.shape, two.code):
        return False
    for start in range(0, one.numel, _CHUNK):
        stop = min(start + _CHUNK, one.numel)
        ours, theirs = checkpoint.values(first, start, stop), checkpoint.values(second, start, stop)
        same = ours == theirs
        if one.code == "BF16":  # as bits, where +0 and −0 are the same number
            same |= ((ours | theirs) & 0x7FFF) == 0
        if not same.all():
            return False
    return True


def _counterpart(name: str, other: Checkpoint) -> str | None:
    if name in other.tensors:
        return name
    for prefix in _PREFIXES:
        for candidate in (prefix + name, name.removeprefix(prefix)):
            if candidate in other.tensors:
                return candidate
    if other.tied_head and name == other.tied_head[0]:
        return other.tied_head[1]
    return None


def _shape_message(base: Checkpoint, other: Checkpoint, expected: TensorInfo, found: TensorInfo) -> str:
    place = base.anatomy.place(expected.name)
    what = f"{other.source}: tensor {expected.name} has shape {list(found.shape)}, the base's is {list(expected.shape)}"
    if place.kind in ("embedding", "head") and found.shape[1:] == expected.shape[1:]:
        return f"{what}: another vocabulary ({found.shape[0]:,} and {expected.shape[0]:,} tokens); both models need the same tokenizer"
    return f"{what}; both must come from the same base"
