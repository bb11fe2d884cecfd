"""Live weights on an accelerator: the inputs stay on the card, and a change of a coefficient is computed there."""

from maet_core.live_on_card.weights import CardWeights

__all__ = ["CardWeights"]
