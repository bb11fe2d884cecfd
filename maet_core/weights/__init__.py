"""R(A), R(L) and R_Lang: what a checkpoint, an adapter or a pack adds to the base."""
