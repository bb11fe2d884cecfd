"""One safetensors file: its header checked, its tensors read range by range."""

from __future__ import annotations

import itertools
import json
import os
import threading
import weakref
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from maet_core import dtypes, identity
from maet_core.errors import CheckpointError
from maet_core.lazy import torch
from maet_core.progress import each
from maet_core.scratch import Memory, staggered


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint: where its bytes lie (`start` to `stop` in `file`) and what they mean. `code` is the dtype as
    safetensors calls it."""

    name: str
    shape: tuple[int, ...]
    code: str
    file: Path
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return dtypes.torch_dtype(self.code)

    @property
    def dtype_name(self) -> str:
        return dtypes.NAMES[self.code]

    @property
    def itemsize(self) -> int:
        return dtypes.HELD_AS[self.code].itemsize

    @property
    def nbytes(self) -> int:
        return self.stop - self.start

    @property
    def mergeable(self) -> bool:
        """Whether the method's arithmetic applies: floating point of 16 bits or more."""
        return self.code in dtypes.MERGEABLE


_held_before = itertools.count(1)


class SafetensorsFile:
    """Range reads from one safetensors file, safe to share between threads."""

    def __init__(self, path: Path):
        self.path = path
        self.tensors, self.metadata = read_header(path)
        self.bytes_read = 0
        self._lock = threading.Lock()
        self.digests: identity.BlockDigests | None = None
        self._descriptor: int | None = None
        self._held: dict[str, np.ndarray] = {}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Elements `start` to `stop` of a tensor, flat, in the stored dtype; the whole tensor in its shape if no range is given."""
        info = self.tensors[name]
        whole = stop is None and start == 0
        found = self.values(name, start, info.numel if stop is None else stop)
        values = dtypes.as_torch(found.copy() if self.in_memory else found, info.code)
        return values.reshape(info.shape) if whole else values

    def values(self, name: str, start: int, stop: int, memory: Memory | None = None) -> np.ndarray:
        """Elements `start` to `stop` of a tensor, flat, as numpy holds the dtype (bf16: its bits).

        The result lies in `memory`, which is asked for when there is something to read; without it in fresh memory. Of a file that is
        held it is the file's own, and not to be written to.
        """
        if name in self._held:
            return self._held[name][start:stop]
        info = self.tensors[name]
        size, offset = (stop - start) * info.itemsize, start * info.itemsize
        buffer = np.empty(size, np.uint8) if memory is None else memory(size)
        if size:
            self._fill(memoryview(buffer), info.start + offset)
        if size and self.digests is not None:
            self.digests.saw(name, info.nbytes, offset, memoryview(buffer))
        return buffer.view(dtypes.HELD_AS[info.code])

    def sample(self, name: str, run: int, every: int) -> np.ndarray | None:
        """`run` values at the beginning of each `every` of a tensor that is held, one after the other, copied; else None."""
        if name not in self._held:
            return None
        whole = self.tensors[name].numel // every * every
        return self._held[name][:whole].reshape(-1, every)[:, :run].reshape(-1)

    @property
    def in_memory(self) -> bool:
        """Whether reading costs no copy."""
        return bool(self._held)

    def hold(self) -> None:
        """Reads all tensors into memory, where they stay as long as this object does."""
        missing = [info for name, info in self.tensors.items() if name not in self._held]
        memory = staggered([info.nbytes for info in missing], next(_held_before))

        def whole(pair: tuple[TensorInfo, np.ndarray]) -> np.ndarray:
            info, there = pair
            return self.values(info.name, 0, info.numel, lambda size: there)

        read = each(list(zip(missing, memory, strict=True)), whole, "reading")
        self._held |= {info.name: values for info, values in zip(missing, read, strict=True)}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def hash_in_passing(self) -> None:
        """From now on what is read is hashed as well; without effect if the digests are known."""
        if self.digests is None and identity.lookup(self.path) is None:
            self.digests = identity.BlockDigests()

    def tensor_digests(self) -> dict[str, str]:
        """The digest of every tensor. What was not seen in passing is read now, by several threads."""
        known = identity.lookup(self.path)
        if known is None:
            self.digests = self.digests or identity.BlockDigests()
            known = dict(zip(self.tensors, each(list(self.tensors.values()), self._digest, "hashing"), strict=True))
            identity.store(self.path, known)
        self.digests = None
        return known

    def _digest(self, info: TensorInfo) -> str:
        seen = self.digests.digest(info.name, info.nbytes)
        step = identity.BLOCK_BYTES // info.itemsize
        for start in range(0, info.numel if seen is None else 0, step):
            self.values(info.name, start, min(start + step, info.numel))
        return seen or self.digests.digest(info.name, info.nbytes)

    def _fill(self, target: memoryview, offset: int) -> None:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY)
                weakref.finalize(self, os.close, self._descriptor)
            self.bytes_read += len(target)
        done = 0
        while done < len(target):
            count = os.preadv(self._descriptor, [target[done:]], offset + done)
            if count == 0:
                raise CheckpointError(
                    f"{self.path}: the file ended early while it was read; was it replaced? Start again"
                )
            done += count


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors and the metadata of one safetensors file; CheckpointError if the file is missing, cut short or something else."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 0 < length <= min(size, 100_000_000) else None
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing; download the model again") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        header = None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a safetensors file, or its header is damaged; download it again")
    metadata = header.pop("__metadata__", {})
    tensors, end = {}, 8 + length
    try:
        for name, entry in header.items():
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            dtypes.HELD_AS[entry["dtype"]]  # a KeyError for one that is unknown
            tensors[name] = TensorInfo(name, tuple(entry["shape"]), entry["dtype"], path, start, stop)
            end = max(end, stop)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: tensor {name} has a header entry that cannot be read ({error!r})") from error
    if end > size:
        raise CheckpointError(
            f"{path}: cut short: the header asks for {end:,} bytes, the file has {size:,}; download it again"
        )
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged safetensors file ({error}); download it again") from error
    return tensors, metadata
