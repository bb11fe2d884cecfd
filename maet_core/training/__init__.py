"""Training a causal language model on packed text: all parameters, some by name, an adapter, or key neurons alone."""

from maet_core.training.loop import train
from maet_core.training.options import LoraOptions, StepReport, TrainingOptions, TrainingReport, learning_rate_at
from maet_core.training.packing import IGNORED, Example, pack, tokenize
from maet_core.training.parameters import KeyNeuronParameters, NamedParameters
from maet_core.training.processes import Processes
from maet_core.training.saving import save_checkpoint
from maet_core.training.state import TrainingState

__all__ = [
    "IGNORED",
    "Example",
    "KeyNeuronParameters",
    "LoraOptions",
    "NamedParameters",
    "Processes",
    "StepReport",
    "TrainingOptions",
    "TrainingReport",
    "TrainingState",
    "learning_rate_at",
    "pack",
    "save_checkpoint",
    "tokenize",
    "train",
]
