"""MAET: find the neurons that carry an ability, extract it, and add it to a model that speaks another language."""

__version__ = "0.1.0"
