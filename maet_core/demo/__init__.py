"""The demo world: corpora of a small world in several languages, and the models trained on them."""
