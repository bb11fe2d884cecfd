"""Writes safetensors files chunk by chunk: nothing larger than a chunk is in memory.

`SafetensorsWriter` appends tensors whose sizes turn out on the way; the file appears under its name only when it is whole.
`PlacedSafetensors` knows every size beforehand, and takes ranges in any order and from many threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from maet_core.dtypes import HELD_AS, code_of
from maet_core.errors import OutputError
from maet_core.lazy import torch

_SYNC_FILE_RANGE_WRITE = 2

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name to dtype, by its code in safetensors (`BF16`), and shape."""


class SafetensorsWriter:
    """Use as a context manager: `begin` a tensor, `append` flat chunks until it is full, and so on; leaving it finishes the file.

    `layout` may hold more tensors than are written (a sparse file does not know its sizes beforehand): it only reserves room
    for the header. Raises OutputError when the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]):
        self.path = path
        self.bytes_written = 0
        self._part = path.with_name(f".{path.name}.part")
        self._metadata = dict(metadata)
        self._entries: dict[str, dict] = {}
        self._missing_bytes = 0
        # 24 digits cover any pair of offsets beyond what the layout's own sizes take
        self._header_bytes = -(-(len(_header(layout, self._metadata)) + 24 * len(layout)) // 8) * 8

    def __enter__(self) -> SafetensorsWriter:
        try:
            self._stream = self._part.open("wb")
            self._stream.seek(8 + self._header_bytes)
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def begin(self, name: str, code: str, shape: tuple[int, ...]) -> None:
        if self._missing_bytes:
            raise RuntimeError(f"{self.path}: the tensor before {name} lacks {self._missing_bytes} bytes")
        start = self.bytes_written
        self._missing_bytes = prod(shape) * HELD_AS[code].itemsize
        offsets = [start, start + self._missing_bytes]
        self._entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": offsets}

    def append(self, chunk: torch.Tensor) -> None:
        data = memoryview(chunk.contiguous().reshape(-1).view(torch.uint8).numpy())
        try:
            self._stream.write(data)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.bytes_written += len(data)
        self._missing_bytes -= len(data)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        self.begin(name, code_of(tensor.dtype), tuple(tensor.shape))
        if tensor.numel():
            self.append(tensor)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise output_error(self.path, failure) from failure
        finally:
            with contextlib.suppress(OSError):  # closing flushes once more, onto a disk that may be full
                self._stream.close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._missing_bytes:
            raise RuntimeError(f"{self.path}: the last tensor lacks {self._missing_bytes} bytes")
        header = json.dumps({"__metadata__": self._metadata, **self._entries}, separators=(",", ":")).encode()
        self._stream.seek(0)
        self._stream.write(self._header_bytes.to_bytes(8, "little") + header.ljust(self._header_bytes))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        os.replace(self._part, self.path)


class PlacedSafetensors:
    """A file with its header first and its room reserved, so that a full disk is noticed before the work. An existing file of the
    right size is taken up where it is, which is how a killed merge goes on. Raises OutputError."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]):
        self.path = path
        entries, offset = {}, 0
        for name in storage_order(layout):
            code, shape = layout[name]
            size = prod(shape) * HELD_AS[code].itemsize
            entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
            offset += size
        header = json.dumps({"__metadata__": dict(metadata), **entries}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        self._starts = {name: 8 + len(header) + entry["data_offsets"][0] for name, entry in entries.items()}
        self._codes = {name: code for name, (code, _) in layout.items()}
        self.nbytes = 8 + len(header) + offset
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if os.fstat(self._descriptor).st_size != self.nbytes:
                os.ftruncate(self._descriptor, 0)
                _reserve(self._descriptor, self.nbytes)
            os.pwrite(self._descriptor, len(header).to_bytes(8, "little") + header, 0)
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Puts flat `values` (bf16: as bits) at element `start` of a tensor."""
        data = memoryview(values.view(np.uint8))
        offset = self._starts[name] + start * values.itemsize
        try:
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise output_error(self.path, error) from error

    def flush(self, name: str, start: int, stop: int) -> None:
        """Lets the kernel begin to bring these elements to the disk, and does not wait for it."""
        width = HELD_AS[self._codes[name]].itemsize
        _start_writeback(self._descriptor, self._starts[name] + start * width, (stop - start) * width)

    def close(self) -> None:
        os.close(self._descriptor)


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, size)  # some file systems cannot reserve; the size alone must do


def _start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Linux alone has a call for it; elsewhere, and where it fails, the kernel begins when it likes."""
    if sys.platform == "linux":
        _libc().sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def storage_order(layout: Layout) -> list[str]:
    """Wide dtypes first, then by name: every tensor starts aligned to its own width, as the safetensors library keeps it."""
    return sorted(layout, key=lambda name: (-HELD_AS[layout[name][0]].itemsize, name))


def output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"{path}: no space left; free some, or choose another place. Nothing was kept")
    return OutputError(f"{path}: cannot be written ({error.strerror or error})")


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    entries = {
        name: {"dtype": code, "shape": list(shape), "data_offsets": [0, 0]} for name, (code, shape) in layout.items()
    }
    return json.dumps({"__metadata__": dict(metadata), **entries}, separators=(",", ":")).encode()
