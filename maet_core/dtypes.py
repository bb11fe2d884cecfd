"""The dtypes of safetensors files, by their codes there (`BF16`), and what they are in numpy and in torch.

numpy knows no bf16, so its values travel as uint16 bits; no other mergeable dtype is stored as whole numbers.
"""

from __future__ import annotations

import numpy as np

from maet_core.lazy import torch

# code → (its name in torch, how numpy holds it)
_TABLE: dict[str, tuple[str, type]] = {
    "F64": ("float64", np.float64),
    "F32": ("float32", np.float32),
    "F16": ("float16", np.float16),
    "BF16": ("bfloat16", np.uint16),
    "F8_E4M3": ("float8_e4m3fn", np.uint8),
    "F8_E5M2": ("float8_e5m2", np.uint8),
    "I64": ("int64", np.int64),
    "I32": ("int32", np.int32),
    "I16": ("int16", np.int16),
    "I8": ("int8", np.int8),
    "U64": ("uint64", np.uint64),
    "U32": ("uint32", np.uint32),
    "U16": ("uint16", np.uint16),
    "U8": ("uint8", np.uint8),
    "BOOL": ("bool", np.bool_),
}
NAMES = {code: name for code, (name, _) in _TABLE.items()}
CODES = {name: code for code, name in NAMES.items()}
HELD_AS = {code: np.dtype(held) for code, (_, held) in _TABLE.items()}
MERGEABLE = ("F64", "F32", "F16", "BF16")
LARGEST = {"F64": 1.7976931348623157e308, "F32": 3.4028234663852886e38, "F16": 65504.0, "BF16": 3.3895313892515355e38}


def torch_dtype(code: str) -> torch.dtype:
    return getattr(torch, NAMES[code])


def code_of(dtype: torch.dtype) -> str:
    return CODES[str(dtype).removeprefix("torch.")]


def as_torch(values: np.ndarray, code: str) -> torch.Tensor:
    """The same memory as a tensor."""
    return torch.from_numpy(values).view(torch_dtype(code))


def as_numpy(values: torch.Tensor) -> np.ndarray:
    """The same memory as an array, bf16 as its bits; the tensor is on the CPU and contiguous."""
    return values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy()
