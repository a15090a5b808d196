"""Training: configuration, one step, optimiser, losses and the run folder."""
