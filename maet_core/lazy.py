"""torch, imported when something of it is first used: the merge on the CPU runs without, and the import takes longer than many a merge."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


torch = _LazyModule("torch")
