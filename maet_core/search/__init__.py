"""Finding coefficients: sweeps over ranges and optimisation, on the live model; no checkpoint is written."""
