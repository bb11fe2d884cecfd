"""LoRA adapters as PEFT saves them, read without PEFT and folded into weight differences."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property, lru_cache
from pathlib import Path

import xxhash

from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.lazy import torch
from maet_core.safetensors_file import SafetensorsFile

_WRAPPER = "base_model.model."
_PARTS = re.compile(r"^(?P<module>.+)\.(?:lora_(?P<matrix>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))$")


class Adapter:
    """ΔW = scaling · B · A for every adapted tensor of the base (Hu et al. 2021, arXiv 2106.09685); rank-stabilized scaling,
    rank and alpha patterns, embeddings, transposed (Conv1D) layers, trained biases and fully saved modules included.

    Raises CheckpointError for other kinds of adapter, for tensors that do not fit the base, and for non-finite values.
    """

    def __init__(self, path: Path, source: str, base: Checkpoint, config: dict):
        self.path, self.source, self.base, self.config = path, source, base, config
        self.file = SafetensorsFile(path / "adapter_model.safetensors")
        self._pairs: dict[str, dict[str, str]] = {}
        self._replacements: dict[str, str] = {}
        for key in self.file.tensors:
            self._register(key)
        for name, pair in self._pairs.items():
            self._check_update(name, pair)
        for name, key in self._replacements.items():
            self._check_shape(name, list(self.file.tensors[key].shape))
        self.update = lru_cache(maxsize=2)(self._update)

    @classmethod
    def open(cls, path: Path, base: Checkpoint, source: str | None = None) -> Adapter:
        source = source or str(path)
        config = _read_config(path / "adapter_config.json")
        if config.get("peft_type") != "LORA" or config.get("use_dora"):
            kind = "DoRA" if config.get("use_dora") else config.get("peft_type")
            raise CheckpointError(
                f"{source}: a {kind} adapter; only LoRA can be folded here: merge it with PEFT and give the whole model"
            )
        if not (path / "adapter_model.safetensors").exists():
            raise CheckpointError(
                f"{source}: adapter_model.safetensors is missing; pickled adapters are never opened: save it again with PEFT"
            )
        return cls(path, source, base, config)

    @cached_property
    def identity(self) -> str:
        """`xxh3-` and a digest of the adapter's two files."""
        state = xxhash.xxh3_128()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            with (self.path / file).open("rb") as stream:
                while block := stream.read(1 << 22):
                    state.update(block)
        return "xxh3-" + state.hexdigest()

    @property
    def names(self) -> list[str]:
        """Tensors of the base that the adapter changes."""
        return sorted({*self._pairs, *self._replacements})

    def touches(self, name: str) -> bool:
        return name in self._pairs or name in self._replacements

    def code(self, name: str) -> str:
        key = self._replacements.get(name) or self._pairs[name]["B"]
        return self.file.tensors[key].code

    def replaces(self, name: str) -> bool:
        """Whether the adapter holds the tensor's new values, and no low-rank update."""
        return name in self._replacements

    def replacement(self, name: str) -> torch.Tensor | None:
        """The values of a fully saved module or bias; None where the tensor has a low-rank update instead."""
        return self._read(self._replacements[name]) if self.replaces(name) else None

    def scaling(self, name: str) -> float:
        """alpha / r, or alpha / √r when the adapter is rank-stabilized; patterns name single modules."""
        module = name.removesuffix(".weight")
        rank = _pattern_value(self.config.get("rank_pattern"), module, self.config["r"])
        alpha = _pattern_value(self.config.get("alpha_pattern"), module, self.config["lora_alpha"])
        return alpha / rank**0.5 if self.config.get("use_rslora") else alpha / rank

    def _update(self, name: str, precision: str) -> torch.Tensor:
        pair, dtype = self._pairs[name], getattr(torch, precision)
        first, second = self._read(pair["A"]).to(dtype), self._read(pair["B"]).to(dtype)
        product = second @ first
        if "embedding" in pair or self.config.get("fan_in_fan_out"):
            product = product.T
        return (product * self.scaling(name)).contiguous()

    def _register(self, key: str) -> None:
        plain = key.removeprefix(_WRAPPER)
        match = _PARTS.match(plain)
        if match:
            name = self._base_name(match["module"] + ".weight", key)
            pair = self._pairs.setdefault(name, {})
            pair[match["matrix"] or match["embedding"]] = key
            if match["embedding"]:
                pair["embedding"] = key
            return
        if "lora_" in plain:
            raise CheckpointError(
                f"{self.source}: tensor {key} is of a kind that cannot be folded; merge it with PEFT and give the whole model"
            )
        self._replacements[self._base_name(plain.replace(".base_layer.", "."), key)] = key

    def _base_name(self, name: str, key: str) -> str:
        for candidate in (name, name.removeprefix("transformer."), name.removeprefix("model.")):
            if candidate in self.base.tensors:
                return candidate
        if self.base.tied_head and name == self.base.tied_head[0]:
            raise CheckpointError(
                f"{self.source}: {key} trains the output head alone, but in {self.base.source} it is tied to the embedding; "
                "merge the adapter with PEFT and give the whole model, with an untied base"
            )
        raise CheckpointError(
            f"{self.source}: {key} adapts {name}, which {self.base.source} does not have; is it for another base?"
        )

    def _check_update(self, name: str, pair: dict[str, str]) -> None:
        if {"A", "B"} - pair.keys():
            raise CheckpointError(f"{self.source}: the A or the B matrix for {name} is missing; save the adapter again")
        rows, columns = self.file.tensors[pair["B"]].shape[0], self.file.tensors[pair["A"]].shape[1]
        transposed = "embedding" in pair or self.config.get("fan_in_fan_out")
        self._check_shape(name, [columns, rows] if transposed else [rows, columns])

    def _check_shape(self, name: str, found: list[int]) -> None:
        if found != list(self.base.tensors[name].shape):
            raise CheckpointError(
                f"{self.source}: what it says of {name} has shape {found}, the base's tensor has {list(self.base.tensors[name].shape)}; "
                "is it for another base?"
            )

    def _read(self, key: str) -> torch.Tensor:
        values = self.file.read(key)
        if not bool(torch.isfinite(values).all()):
            raise CheckpointError(f"{self.source}: {key} holds a NaN or an infinity; the adapter is damaged")
        return values


def _read_config(path: Path) -> dict:
    """The settings that the folding needs, checked."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path}: expected a JSON object, found {type(config).__name__}; save the adapter again with PEFT"
        )
    if config.get("peft_type") != "LORA":
        return config
    patterns = {field: config.get(field) or {} for field in ("rank_pattern", "alpha_pattern")}
    if not all(isinstance(pattern, dict) for pattern in patterns.values()):
        raise CheckpointError(f"{path}: rank_pattern and alpha_pattern must map modules to numbers")
    checks = [("r", config.get("r"), True), ("lora_alpha", config.get("lora_alpha"), False)]
    checks += [(f"rank_pattern {module}", value, True) for module, value in patterns["rank_pattern"].items()]
    checks += [(f"alpha_pattern {module}", value, False) for module, value in patterns["alpha_pattern"].items()]
    for field, value, is_rank in checks:
        good = isinstance(value, int if is_rank else (int, float)) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or (is_rank and value < 1):
            expected = "a whole number of at least 1" if is_rank else "a number"
            raise CheckpointError(
                f"{path}: {field}: found {value!r}, expected {expected}; save the adapter again with PEFT"
            )
    for module in (*patterns["rank_pattern"], *patterns["alpha_pattern"]):
        try:
            re.compile(module)
        except re.error as error:
            raise CheckpointError(f"{path}: pattern {module!r} is no regular expression ({error})") from error
    return config


def _pattern_value(patterns: dict | None, module: str, default: float) -> float:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
