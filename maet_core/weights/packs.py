"""Ability packs and language packs: R(A) or R(L) as one safetensors file that says which base it is for.

Every tensor is stored in the smallest of four forms: all values (`dense`), whole rows or columns with their indices (`rows`,
`columns`), or single values with their flat indices (`scattered`). Tensors that are zero everywhere are left out.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

import maet_core
from maet_core.checkpoints import Checkpoint
from maet_core.differences import Difference, widened, widest
from maet_core.errors import CheckpointError, OutputError, PackError
from maet_core.lazy import torch
from maet_core.progress import Halted, Progress, tell
from maet_core.safetensors_file import SafetensorsFile
from maet_core.safetensors_writer import SafetensorsWriter
from maet_core.scratch import Memory
from maet_core.weights.ability import AbilityWeights

FORMAT = "maet-pack/1"
_SEPARATOR = "::"
_FORM_AXES = {"rows": 0, "columns": 1}


def write_pack(
    kind: Literal["ability", "language"],
    weights: AbilityWeights | Difference,
    base: Checkpoint,
    path: str | Path,
    made_from: dict[str, Any],
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> dict[str, Any]:
    """Writes R(A) or R(L), float32 (float64 where an input is), and returns what was written: tensors, values, bytes.

    `made_from` goes into the pack's metadata. Raises OutputError if the file exists or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path}: exists already; choose another name or remove it first")
    names = [name for name, info in base.tensors.items() if info.mergeable and weights.touches(name)]
    head = {
        "format": FORMAT,
        "kind": kind,
        "base": base.identity,
        "maet_version": maet_core.__version__,
        **made_from,
    }
    layout = {}
    for name in names:
        layout[name + _SEPARATOR + "columns.index"] = ("I64", (base.tensors[name].numel,))
        layout[name + _SEPARATOR + "columns.value"] = ("F64", base.tensors[name].shape)
    parts = weights.parts if isinstance(weights, AbilityWeights) else [weights]
    tensors = values = 0
    with SafetensorsWriter(path, layout, {"maet": json.dumps(head)}) as writer:
        for done, name in enumerate(names):
            tell(progress, halted, "packing", done, len(names))
            info = base.tensors[name]
            precision = widest(info.code, *(part.code(name) for part in parts if part.touches(name)))
            base_values = widened(base.values(name, 0, info.numel), base.source, name, 0, precision)
            tensor = torch.from_numpy(weights.values(name, 0, info.numel, base_values)).reshape(info.shape)
            stored = _smallest(tensor)
            for form, content in stored.items():
                writer.add(name + _SEPARATOR + form, content)
            tensors += bool(stored)
            values += int(tensor.count_nonzero())
    return {
        "output": str(path),
        "kind": kind,
        "tensors": tensors,
        "values": values,
        "bytes_written": path.stat().st_size,
        **made_from,
    }


class PackDifference(Difference):
    """The content of a pack. Raises PackError if it is damaged, of the other kind, or made for another base."""

    def __init__(
        self,
        path: str | Path,
        base: Checkpoint,
        kind: Literal["ability", "language"],
        source: str | None = None,
    ):
        self.path, self.base, self.kind = Path(path), base, kind
        self.source = source or str(path)
        self._file, self.metadata = read_pack_header(self.path)
        if self.metadata["kind"] != kind:
            raise PackError(
                f"{self.source}: this is a pack of kind {self.metadata['kind']}; a pack of kind {kind} is needed here"
            )
        if self.metadata["base"] != base.identity:
            raise PackError(
                f"{self.source}: made for a base with identity {self.metadata['base']}, but {base.source} has {base.identity}; "
                "use that base, or make the pack again"
            )
        self._forms: dict[str, str] = {}
        for key in self._file.tensors:
            name, _, form = key.rpartition(_SEPARATOR)
            if (
                name not in base.tensors
                or self._forms.setdefault(name, form.partition(".")[0]) != form.partition(".")[0]
            ):
                raise self._damaged(name)
        for name, form in self._forms.items():
            self._check_shapes(name, form)
        self._tensor = lru_cache(maxsize=2)(self._expand)

    @property
    def identity(self) -> str:
        return pack_identity(self.path)

    @property
    def files(self) -> list[SafetensorsFile]:
        return [self._file]

    def touches(self, name: str) -> bool:
        return name in self._forms

    def code(self, name: str) -> str:
        form = self._forms[name]
        return self._file.tensors[name + _SEPARATOR + (form if form == "dense" else form + ".value")].code

    def holds_difference(self, name: str) -> bool:
        return True

    def stored(
        self, name: str, start: int, stop: int, precision: np.dtype, memory: Memory | None = None
    ) -> tuple[np.ndarray, bool]:
        if self._forms[name] == "dense":
            return self._file.values(name + _SEPARATOR + "dense", start, stop, memory), True
        return self._tensor(name)[start:stop], True

    def _expand(self, name: str) -> np.ndarray:
        form, shape = self._forms[name], self.base.tensors[name].shape
        index, values = (
            self._content(f"{name}{_SEPARATOR}{form}.index"),
            self._content(f"{name}{_SEPARATOR}{form}.value"),
        )
        limit = prod(shape) if form == "scattered" else shape[_FORM_AXES[form]]
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < limit:
            raise self._damaged(name)
        tensor = np.zeros(shape, values.dtype)
        if form == "scattered":
            tensor.reshape(-1)[index] = values
        elif form == "rows":
            tensor[index] = values
        else:
            tensor[:, index] = values
        return tensor.reshape(-1)

    def _content(self, key: str) -> np.ndarray:
        info = self._file.tensors[key]
        return self._file.values(key, 0, info.numel).reshape(info.shape)

    def _check_shapes(self, name: str, form: str) -> None:
        """Whether the parts of a tensor's form are there and fit each other and the base."""
        shape, stored = self.base.tensors[name].shape, self._file.tensors
        prefix = f"{name}{_SEPARATOR}{form}"
        if form == "dense":
            good = prefix in stored and stored[prefix].shape == shape
            values = stored.get(prefix)
        else:
            index, values = stored.get(f"{prefix}.index"), stored.get(f"{prefix}.value")
            good = index is not None and values is not None and index.code in ("I32", "I64") and len(index.shape) == 1
            if good and form == "scattered":
                good = values.shape == index.shape
            elif good:
                axis = _FORM_AXES.get(form)
                good = axis is not None and len(shape) == 2
                good = good and values.shape == tuple(
                    index.numel if i == axis else size for i, size in enumerate(shape)
                )
        if not good or values.code not in ("F32", "F64"):
            raise self._damaged(name)

    def _damaged(self, name: str) -> PackError:
        return PackError(
            f"{self.source}: what is stored for tensor {name} does not fit {self.base.source}; the pack is damaged, make it again"
        )


def read_pack_header(path: Path) -> tuple[SafetensorsFile, dict[str, Any]]:
    """The open file and its metadata (kind, base, made_from …); PackError if it is no pack."""
    try:
        file = SafetensorsFile(path)
    except CheckpointError as error:
        raise PackError(str(error)) from error
    try:
        metadata = json.loads(file.metadata["maet"])
        if metadata["format"] != FORMAT or metadata["kind"] not in ("ability", "language") or not metadata["base"]:
            raise KeyError("format")
    except (KeyError, TypeError, ValueError) as error:
        raise PackError(f"{path}: not an ability or language pack; make one with `maet pack`") from error
    return file, metadata


def pack_identity(path: Path) -> str:
    return Checkpoint.open(path).identity


def _smallest(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The form with the fewest bytes; nothing for a tensor of zeros."""
    width, nonzero = tensor.dtype.itemsize, tensor != 0
    count = int(nonzero.sum())
    if count == 0:
        return {}
    index_dtype = torch.int32 if tensor.numel() < 2**31 else torch.int64
    sizes = {"dense": tensor.numel() * width, "scattered": count * (width + index_dtype.itemsize)}
    if tensor.ndim == 2:
        rows, columns = nonzero.any(dim=1), nonzero.any(dim=0)
        sizes["rows"] = int(rows.sum()) * (tensor.shape[1] * width + index_dtype.itemsize)
        sizes["columns"] = int(columns.sum()) * (tensor.shape[0] * width + index_dtype.itemsize)
    form = min(sizes, key=lambda form: sizes[form])
    if form == "dense":
        return {"dense": tensor}
    if form == "scattered":
        index = nonzero.reshape(-1).nonzero().reshape(-1)
        return {"scattered.index": index.to(index_dtype), "scattered.value": tensor.reshape(-1)[index]}
    axis = 0 if form == "rows" else 1
    index = (rows if axis == 0 else columns).nonzero().reshape(-1)
    return {
        f"{form}.index": index.to(index_dtype),
        f"{form}.value": tensor.index_select(axis, index).contiguous(),
    }
