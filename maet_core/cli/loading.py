"""How a short command loads what it needs without much ado."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def quickly() -> Iterator[None]:
    """For imports of what multiplies no large matrices with numpy, in a process that has not loaded it yet.

    numpy gets a BLAS of one thread: others would wait for work in a loop as soon as it is loaded, which takes as much processor time
    as loading it. And garbage is not looked for among what is loaded, neither now nor later.
    """
    if "numpy" in sys.modules:
        yield
        return
    alone = _BLAS_THREADS not in os.environ
    if alone:
        os.environ[_BLAS_THREADS] = "1"
    gc.disable()
    try:
        importlib.import_module("numpy")
        yield
    finally:
        gc.freeze()
        gc.enable()
        if alone:
            del os.environ[_BLAS_THREADS]  # what is loaded or started later decides for itself
