"""The one rounding of a merge, from the precision of its sums to the dtype that is written."""

from __future__ import annotations

import numpy as np

from maet_core import dtypes, kernels


def rounded(values: np.ndarray, base: np.ndarray, code: str) -> tuple[np.ndarray, int, bool]:
    """(float32 or float64 values in the dtype `code`, how many differ from the base in that dtype, whether all fit)."""
    if code == "BF16":
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            values, base = values.astype(np.float32, copy=False), base.astype(np.float32, copy=False)
        out, unchanged = np.empty(values.size, np.uint16), np.empty(values.size, np.uint16)
        kernels.narrow_bf16(base, unchanged)
        kernels.narrow_bf16(values, out)
        changed, largest = kernels.compare_bf16(out, unchanged)
        return out, int(changed), bool(largest < 0x7F80)
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused
        out = values.astype(dtypes.HELD_AS[code], copy=False)
        changed = np.count_nonzero(out != base.astype(out.dtype, copy=False))
    return out, int(changed), bool(np.isfinite(out).all())
