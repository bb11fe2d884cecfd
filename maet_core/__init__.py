"""MAET: find the neurons that carry an ability, extract it, and add it to a model that speaks another language."""

import os

__version__ = "0.1.0"

# torch's threads wait in a loop for each other, and where something else runs beside them, the one that is waited for may have to give
# its place to one that waits: a small model's first token then took 300 to 600 ms, and takes 10 to 30 when they wait asleep. It is read
# when torch is loaded, which happens after this.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
