"""Merge methods: MAET and what it is compared with. Pure functions; streaming, thresholds and random numbers lie in `merging`."""

from maet_core.methods import linear, trimming, dropping  # noqa: F401  # isort: skip  (registers, in the order of menus)
from maet_core.methods.registry import METHODS, Method, MethodSettings, Paper, Parameter, settings_union

__all__ = ["METHODS", "Method", "MethodSettings", "Paper", "Parameter", "settings_union"]
