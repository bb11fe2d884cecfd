"""Looking into key neurons: what a hidden unit reads and writes, what excites it, what two sets share, what a loss says."""
