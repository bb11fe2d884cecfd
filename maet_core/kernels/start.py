"""numba, without what it imports for the sake of linear algebra."""

from __future__ import annotations

import contextlib
import importlib


def _skip_scipy() -> None:
    """When numba loads its first loop it imports scipy to look for a BLAS, which takes half as long as all else before a merge; no loop
    here has a matrix product. Where numba is built otherwise, it looks."""
    with contextlib.suppress(ImportError, AttributeError):
        linalg = importlib.import_module("numba.np.linalg")
        look = linalg.ensure_blas
        linalg.ensure_blas = _no_blas
        try:
            importlib.import_module("numba.np.arraymath")
        finally:
            linalg.ensure_blas = look


def _no_blas() -> None:
    raise ImportError("no loop here needs a BLAS")


_skip_scipy()
