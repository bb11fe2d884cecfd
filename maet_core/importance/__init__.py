"""Step 1 of the method: how important every neuron is for an ability, and which ones are key."""

from maet_core.importance.key_neurons import KeyNeurons, select_for_each, select_key_neurons
from maet_core.importance.locators import LOCATORS, Locator, locate
from maet_core.importance.scores import SavedScores, Scores, save_scores
from maet_core.importance.tables import cell_table, importance_sums, unit_table

__all__ = [
    "LOCATORS",
    "KeyNeurons",
    "Locator",
    "SavedScores",
    "Scores",
    "cell_table",
    "importance_sums",
    "locate",
    "save_scores",
    "select_for_each",
    "select_key_neurons",
    "unit_table",
]
