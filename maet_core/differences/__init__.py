"""What trained models add to the base: θ − θ_o."""

from maet_core.differences.difference import Difference, widened, widest
from maet_core.differences.models import AdapterDifference, CheckpointDifference, Models, locate_source

__all__ = [
    "AdapterDifference",
    "CheckpointDifference",
    "Difference",
    "Models",
    "locate_source",
    "widened",
    "widest",
]
